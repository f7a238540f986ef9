from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data import SequenceBatch, left_pad


def test_short_rows_are_padded_on_the_left_and_long_ones_keep_the_recent() -> None:
    rows = [np.array([1, 2], dtype=np.int32), np.array([3, 4, 5, 6]), np.array([], dtype=np.int32)]
    assert left_pad(rows, 3).tolist() == [[0, 1, 2], [4, 5, 6], [0, 0, 0]]
    assert left_pad(rows, 3).dtype == np.int64
    assert left_pad([], 3).shape == (0, 3)


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=6), st.integers(1, 7))
def test_equals_a_plain_loop(rows: list[list[int]], length: int) -> None:
    expected = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        for back, item in enumerate(row[::-1][:length], start=1):
            expected[number, -back] = item
    assert np.array_equal(left_pad([np.array(row, dtype=np.int32) for row in rows], length), expected)


def test_no_length_is_refused() -> None:
    with pytest.raises(DataError, match="length 0"):
        left_pad([], 0)


def test_a_batch_checks_its_shapes() -> None:
    users, histories = np.arange(2), np.zeros((2, 3), dtype=np.int64)
    assert len(SequenceBatch(users, histories, targets=users, negatives=histories)) == 2
    with pytest.raises(Exception, match="batch"):
        SequenceBatch(np.arange(3), histories)
