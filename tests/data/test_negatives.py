from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data import InteractionDataset, sample_negatives
from allmrec.data.negatives import pooled_negatives, room_for_negatives


def world(rows: list[list[int]], n_items: int) -> InteractionDataset:
    """Items are called and numbered 1 to n_items."""
    names = [str(number) for number in range(1, n_items + 1)]
    return InteractionDataset.from_sequences(
        {f"u{n}": [str(i) for i in row] for n, row in enumerate(rows)}, items=names
    )


@given(
    st.lists(st.lists(st.integers(1, 20), max_size=14), min_size=1, max_size=4),
    st.integers(0, 6),
    st.lists(st.integers(0, 20), max_size=0) | st.lists(st.integers(0, 20), min_size=1, max_size=1),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_never_seen_never_excluded_never_twice(
    rows: list[list[int]], n: int, extra: list[int], distinct: bool, seed: int
) -> None:
    dataset = world(rows, 21)
    users = np.tile(np.arange(len(rows)), 3)
    exclude = np.tile(np.array([extra], dtype=np.int64).reshape(1, len(extra)), (len(users), 1))
    drawn = sample_negatives(dataset, users, n, np.random.default_rng(seed), exclude, distinct)
    assert drawn.shape == (len(users), n)
    assert drawn.dtype == np.int32
    for user, row in zip(users, drawn.tolist(), strict=True):
        assert all(1 <= item <= 21 for item in row)
        assert not set(row) & (set(rows[user]) | set(extra))
        assert not distinct or len(set(row)) == n


@pytest.mark.parametrize("interacted", [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7]], ids=["by rejection", "by listing"])
def test_as_likely_as_drawing_one_by_one(interacted: list[int]) -> None:
    # The plain way: list what is free, draw without replacement.
    dataset, rows = world([interacted, []], 10), 8000
    free = [item for item in range(1, 11) if item not in interacted]
    drawn = sample_negatives(dataset, np.zeros(rows, dtype=np.int64), 2, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    plain = np.array([rng.choice(free, 2, replace=False) for _ in range(rows)])
    for ours, theirs in ((drawn, plain), (drawn[:, :1], plain[:, :1]), (drawn[:, 1:], plain[:, 1:])):
        shares = [np.bincount(array.ravel(), minlength=11) / array.size for array in (ours, theirs)]
        assert np.abs(shares[0] - shares[1]).max() < 0.02
    pairs = np.bincount(drawn[:, 0] * 11 + drawn[:, 1], minlength=121).reshape(11, 11)
    assert np.count_nonzero(pairs) == len(free) * (len(free) - 1)
    assert pairs[pairs > 0].min() > 0.7 * rows / np.count_nonzero(pairs)


def test_all_that_is_free_can_be_drawn() -> None:
    dataset = world([[2, 4, 4, 2]], 5)
    drawn = sample_negatives(dataset, np.array([0, 0]), 3, np.random.default_rng(0))
    assert [sorted(row) for row in drawn.tolist()] == [[1, 3, 5], [1, 3, 5]]


def test_too_few_items_is_an_error_that_names_the_user() -> None:
    dataset = world([[], [2, 4, 4, 2]], 5)
    with pytest.raises(DataError, match="User 'u1' leaves 3 of 5 items unseen; 4 negatives"):
        sample_negatives(dataset, np.array([0, 1]), 4, np.random.default_rng(0))
    with pytest.raises(DataError, match="leaves 2 of 5"):
        sample_negatives(dataset, np.array([1]), 3, np.random.default_rng(0), np.array([[1, 1, 2, 0]]))
    assert sample_negatives(dataset, np.array([1]), 9, np.random.default_rng(0), distinct=False).shape == (1, 9)


def test_the_same_generator_draws_the_same() -> None:
    dataset, users = world([[1, 2]], 50), np.zeros(8, dtype=np.int64)
    first, second = (sample_negatives(dataset, users, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


@given(
    st.lists(st.lists(st.integers(1, 20), max_size=12), min_size=1, max_size=6),
    st.integers(1, 6),
    st.integers(6, 30),
    st.integers(0, 2**32),
)
def test_pooled_negatives_are_never_seen_never_twice_and_few(
    rows: list[list[int]], n: int, pool: int, seed: int
) -> None:
    dataset = world(rows, 21)
    users = np.arange(len(rows))
    drawn = pooled_negatives(dataset, users, n, pool, np.random.default_rng(seed))
    assert drawn.shape == (len(users), n)
    for user, row in zip(users, drawn.tolist(), strict=True):
        assert all(1 <= item <= 21 for item in row)
        assert not set(row) & set(rows[user])
        assert len(set(row)) == n
    untouched = [user for user in users if not rows[user]]
    assert len(np.unique(drawn[untouched])) <= pool


@pytest.mark.parametrize("pool", [6, 2])
def test_pooled_negatives_of_one_row_are_uniform(pool: int) -> None:
    dataset = world([[1, 2, 3], []], 10)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([pooled_negatives(dataset, np.asarray([0]), 2, pool, rng).ravel() for _ in range(4000)])
    shares = np.bincount(drawn, minlength=11)[4:] / len(drawn)
    np.testing.assert_allclose(shares, 1 / 7, atol=0.012)


def test_a_user_of_most_of_the_pool_draws_only_what_is_missing() -> None:
    dataset = world([list(range(1, 16)), []], 40)
    for seed in range(20):
        one = pooled_negatives(dataset, np.asarray([1]), 20, 20, np.random.default_rng(seed))
        heavy = pooled_negatives(dataset, np.asarray([0]), 20, 20, np.random.default_rng(seed))
        left = set(one[0].tolist()) - set(range(1, 16))
        assert left <= set(heavy[0].tolist())


@given(
    st.lists(st.lists(st.integers(1, 20), max_size=30), min_size=1, max_size=8),
    st.integers(1, 25),
)
def test_room_is_what_three_quarters_leave(rows: list[list[int]], wanted: int) -> None:
    dataset, users = world(rows, 20), np.arange(len(rows))
    left = np.array([20 - len(set(row)) for row in rows])
    if not left.any() and wanted:
        with pytest.raises(DataError, match="No user leaves any of the 20 items"):
            room_for_negatives(dataset, users, wanted)
        return
    room = room_for_negatives(dataset, users, wanted)
    able = left[left > 0]
    # The plain way: try every number from the wanted one down.
    plain = next(n for n in range(wanted, 0, -1) if np.mean(able >= n) >= 0.75)
    assert (room.n, room.wanted) == (plain, wanted)
    assert room.kept.tolist() == np.flatnonzero(left >= plain).tolist()
    assert room.left_out == len(rows) - len(room.kept)
