"""ItemKNN: a plain loop over pairs, a world that collaboration explains, save and load."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tests.baselines.conftest import ranks

from allmrec.baselines import item_knn
from allmrec.baselines.item_knn import ItemKNN, ItemKNNConfig, training_matrix
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError
from allmrec.data import InteractionDataset, Split, leave_one_out
from allmrec.ranking import Query, Ranker
from allmrec.testing.worlds import taste_world

ITEMS = list("abcdef")
sequences = st.lists(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=7), min_size=1, max_size=6)


def split_of(rows: list[list[str]]) -> Split:
    return leave_one_out(InteractionDataset.from_sequences({f"u{n}": row for n, row in enumerate(rows)}, items=ITEMS))


def plain(split: Split, config: ItemKNNConfig, history: list[int]) -> list[float]:
    """Scores of all items by a loop over pairs of sets."""
    users = [
        {u for u in range(split.dataset.n_users) if item in split.train(u)} for item in range(split.dataset.n_items + 1)
    ]
    found = []
    for item in range(1, len(users)):
        alike = {
            other: len(users[item] & users[other])
            / (math.sqrt(len(users[item]) * len(users[other])) + config.shrinkage)
            for other in range(1, len(users))
            if other != item and users[item] & users[other]
        }
        # float32, as the fast way compares them: rounding may decide a tie.
        nearest = sorted(alike, key=lambda other: (-np.float32(alike[other]), other))[: config.neighbours]
        kept = set(history if config.max_history is None else history[-config.max_history :])
        found.append(sum(alike[other] for other in nearest if other in kept))
    return found


@given(sequences, st.lists(st.integers(1, 6), max_size=4), st.integers(1, 6), st.sampled_from([0.0, 2.0]))
def test_equals_a_plain_loop(rows: list[list[str]], history: list[int], neighbours: int, shrinkage: float) -> None:
    split = split_of(rows)
    config = ItemKNNConfig(neighbours=neighbours, shrinkage=shrinkage, max_history=3)
    (ranking,) = ItemKNN.of(split, config).rank([Query(np.array(history, dtype=np.int64))], [np.arange(1, 7)])
    expected = plain(split, config, history)
    assert ranking.scores.tolist() == pytest.approx([expected[item - 1] for item in ranking.items], rel=1e-5, abs=1e-6)


# It hands itself a matrix of the kind that it warns of.
@pytest.mark.filterwarnings("ignore:Method expects CSR input")
def test_against_implicit() -> None:
    """Without shrinkage it is the cosine of the package `implicit`, which has none and keeps an item beside itself."""
    nearest = pytest.importorskip(
        "implicit.nearest_neighbours", reason="implicit is not installed: pip install implicit==0.7.3"
    )
    split = leave_one_out(taste_world(users=60, tastes=3))
    taken, n = training_matrix(split).tocsr(), split.dataset.n_items + 1
    # Its sparse types are the older ones.
    theirs = nearest.CosineRecommender(K=n, num_threads=1)
    theirs.fit(sparse.csr_matrix(taken), show_progress=False)
    expected = theirs.similarity.toarray()
    np.fill_diagonal(expected, 0)
    kept = ItemKNN.of(split, ItemKNNConfig(neighbours=n, shrinkage=0)).tensors()
    ours = sparse.csr_array((kept["data"].numpy(), kept["indices"].numpy(), kept["indptr"].numpy()), shape=(n, n))
    assert ours.nnz > 200
    np.testing.assert_allclose(ours.toarray(), expected, atol=1e-6)


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    split = leave_one_out(taste_world(users=40))
    whole = ItemKNN.of(split, ItemKNNConfig(neighbours=5)).tensors()
    monkeypatch.setattr(item_knn, "_ROWS", 7)
    sliced = ItemKNN.of(split, ItemKNNConfig(neighbours=5)).tensors()
    assert all(np.array_equal(whole[name], sliced[name]) for name in whole)


def test_tastes_are_found_and_a_file_gives_the_same_ranking(tmp_path: Path) -> None:
    split = leave_one_out(taste_world())
    made = ItemKNN.of(split)
    assert isinstance(made, Ranker)
    expected = ranks(made, split)
    # A negative shares the target's taste rarely: 3 of 111 items, and then chance decides.
    assert np.mean(expected == 1) > 0.8
    write_tensors(tmp_path / "knn.safetensors", made.tensors())
    again = ItemKNN.from_tensors(read_tensors(tmp_path / "knn.safetensors"))
    assert np.array_equal(ranks(again, split), expected)


def test_foreign_tensors_are_refused() -> None:
    made = ItemKNN.of(split_of([list("abcd")])).tensors()
    with pytest.raises(ArtifactError, match="indptr missing"):
        ItemKNN.from_tensors({name: made[name] for name in ("data", "indices")})
    with pytest.raises(ArtifactError, match="no ItemKNN"):
        ItemKNN.from_tensors(made | {"data": made["data"][:0]})
