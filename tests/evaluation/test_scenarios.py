"""Cold and warm items: counted in training, exact in number, never both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation.protocol import draw_protocol
from allmrec.evaluation.scenarios import cold_and_warm_items, scenario_masks

from .conftest import world


def test_a_world_counted_by_hand() -> None:
    # Training parts: a a a b / a b / a b c; counts a 5, b 3, c 1, d to f 0. One half of six items is three.
    sequences = {"u": "aaabde", "v": "abfd", "w": "abcfe"}
    dataset = InteractionDataset.from_sequences({u: list(s) for u, s in sequences.items()})
    cold, warm = cold_and_warm_items(leave_one_out(dataset), 0.5)
    assert dataset.items.ids == tuple("abcdef")
    assert [dataset.items.id(int(i)) for i in np.flatnonzero(cold)] == ["d", "e", "f"]
    assert [dataset.items.id(int(i)) for i in np.flatnonzero(warm)] == ["a", "b", "c"]


@given(seed=st.integers(0, 100), share=st.floats(0.01, 0.5))
def test_exactly_the_share_never_both_never_padding(seed: int, share: float) -> None:
    split = world(seed=seed)
    cold, warm = cold_and_warm_items(split, share)
    assert cold.sum() == warm.sum() == int(share * 40)
    assert not (cold & warm).any()
    assert not cold[0]
    assert not warm[0]
    counts = split.train_counts()
    if cold.any():
        assert counts[cold].max() <= counts[1:][~cold[1:]].min()
        assert counts[warm].min() >= counts[1:][~warm[1:]].max()


def test_masks_follow_the_targets() -> None:
    split = world()
    protocol = draw_protocol(split)
    masks = scenario_masks(protocol, split)
    cold, warm = cold_and_warm_items(split)
    assert list(masks) == ["cold items", "warm items"]
    assert masks["cold items"].tolist() == [bool(cold[t]) for t in protocol.targets]
    assert masks["warm items"].tolist() == [bool(warm[t]) for t in protocol.targets]
    assert len(protocol.select(masks["cold items"])) == masks["cold items"].sum()
    with pytest.raises(ArtifactError, match="belongs to the data set"):
        scenario_masks(protocol, world(seed=1))


@pytest.mark.parametrize("share", [0.0, 0.51])
def test_a_share_that_would_overlap_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="at most"):
        cold_and_warm_items(world(), share)
