"""Windows and negatives against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.cf import NegativeSampler, training_windows
from allmrec.core.errors import DataError
from allmrec.data import InteractionDataset, Split, leave_one_out

ITEMS = [str(number) for number in range(1, 31)]


def split_of(sequences: list[list[int]], hold_out: int = 0) -> Split:
    named = {f"user {n}": [str(item) for item in sequence] for n, sequence in enumerate(sequences)}
    return leave_one_out(InteractionDataset.from_sequences(named, items=ITEMS), hold_out)


def plain_windows(split: Split, length: int, windows: str) -> list[tuple[int, list[int], list[int]]]:
    rows = []
    for user in range(split.dataset.n_users):
        sequence = split.train(user).tolist()
        inputs, targets = sequence[:-1], sequence[1:]
        while inputs:
            pad = [0] * max(0, length - len(inputs))
            rows.append((user, pad + inputs[-length:], pad + targets[-length:]))
            inputs, targets = inputs[:-length], targets[:-length]
            if windows == "last":
                break
    return rows


@given(
    st.lists(st.lists(st.integers(1, 30), max_size=14), min_size=1, max_size=5),
    st.integers(1, 6),
    st.sampled_from(["last", "all"]),
    st.integers(0, 2),
)
def test_windows_equal_a_plain_loop(sequences: list[list[int]], length: int, windows: str, hold_out: int) -> None:
    split = split_of(sequences, hold_out)
    wanted = plain_windows(split, length, windows)
    if not wanted:
        with pytest.raises(DataError, match="two training items"):
            training_windows(split, length, windows)
        return
    found = training_windows(split, length, windows)
    # Rows are as wide as the longest of those asked for: one at a time there is no padding, together there is.
    for row, (user, history, following) in enumerate(wanted):
        real = [item for item in history if item]
        inputs, targets = found.cut(np.array([row]))
        assert (found.users[row], inputs.tolist(), targets.tolist()) == (user, [real], [following[-len(real) :]])
    inputs, targets = found.cut(np.arange(len(found))[::-1])
    width = max(sum(item != 0 for item in history) for _, history, _ in wanted)
    assert inputs.tolist() == [history[-width:] for _, history, _ in wanted[::-1]]
    assert targets.tolist() == [following[-width:] for _, _, following in wanted[::-1]]


def test_all_windows_train_every_position_once() -> None:
    split = split_of([list(range(1, 28))])
    rows = training_windows(split, 10, "all")
    _, targets = rows.cut(np.arange(len(rows)))
    assert sorted(targets[targets != 0].tolist()) == list(range(2, 26))
    assert len(training_windows(split, 10, "last")) == 1


def test_negatives_avoid_training_items_and_nothing_else() -> None:
    split = split_of([list(range(1, 13)), list(range(20, 25))], hold_out=1)
    drawn = NegativeSampler(split).draw(np.array([0, 1]), 4000, np.random.default_rng(0))
    for user in (0, 1):
        trained = set(split.train(user).tolist())
        # Held-out, validation and test items must stay possible: sparing them would give the answers away.
        assert set(drawn[user].tolist()) == set(range(1, 31)) - trained


@given(st.lists(st.lists(st.integers(1, 20), max_size=14), min_size=1, max_size=8), st.integers(0, 2))
def test_seen_items_gathered_in_pieces_are_the_same(sequences: list[list[int]], hold_out: int) -> None:
    split = split_of(sequences, hold_out)
    wanted = {(user, item) for user in range(len(sequences)) for item in split.train(user).tolist()}
    for at_once in (1, 5, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("allmrec.cf.samples._INTERACTIONS_AT_ONCE", at_once)
            sampler = NegativeSampler(split)
        assert sampler._seen.tolist() == sorted(user * 31 + item for user, item in wanted)


def test_negatives_are_uniform() -> None:
    split = split_of([list(range(1, 13))])
    drawn = NegativeSampler(split).draw(np.array([0]), 40_000, np.random.default_rng(1))
    counts = np.bincount(drawn[0], minlength=31)[11:]
    assert counts.sum() == 40_000
    assert np.abs(counts / 2000 - 1).max() < 0.1


def test_users_without_negatives_are_known_and_train_nothing() -> None:
    everything = [*range(1, 31), 1, 2]
    with pytest.raises(DataError, match="Every user who trains has all 30 items"):
        NegativeSampler(split_of([everything]))
    split = split_of([everything, [1, 2, 3, 4, 5]])
    sampler = NegativeSampler(split)
    assert sampler.without.tolist() == [True, False]
    with pytest.raises(DataError, match="no negative can be drawn"):
        sampler.draw(np.array([0]), 1, np.random.default_rng(0))
    windows = training_windows(split, 10, "all")
    assert set(windows.users.tolist()) == {0, 1}
    assert windows.of(~sampler.without).users.tolist() == [1]
