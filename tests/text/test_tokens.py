"""Flat token storage and grouping by length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from allmrec.text.tokens import TokenisedTexts, length_groups


def test_a_batch_is_padded_to_its_own_longest() -> None:
    tokens = TokenisedTexts.of([[5, 6, 7], [], [8], [9, 9, 9, 9]], padding=1)
    assert tokens.lengths.tolist() == [3, 0, 1, 4]
    ids, real = tokens.batch(np.array([2, 0]))
    assert ids.tolist() == [[8, 1, 1], [5, 6, 7]]
    assert real.tolist() == [[True, False, False], [True, True, True]]
    ids, real = tokens.batch(np.array([1]))
    assert ids.tolist() == [[1]]
    assert not real.any()


def test_nothing_at_all() -> None:
    tokens = TokenisedTexts.of([[], []])
    assert len(tokens) == 2
    assert tokens.batch(np.array([0, 1]))[0].shape == (2, 1)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 20))
def test_groups_hold_every_row_once_and_little_padding(lengths: list[int], largest: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    groups = length_groups(array, largest, ratio=0.7, smallest=4)
    assert sorted(np.concatenate(groups).tolist() if groups else []) == list(range(len(lengths)))
    for group in groups:
        assert 0 < len(group) <= largest
        assert len(group) <= 4 or array[group].min() >= 0.7 * array[group].max()
