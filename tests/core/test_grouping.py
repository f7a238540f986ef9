from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.grouping import length_groups


@given(
    st.lists(st.integers(1, 50), max_size=130),
    st.sampled_from([None, 1, 30, 256, 10**6]),
    st.sampled_from([None, 1, 7, 1000]),
)
def test_groups_hold_every_row_once_and_save_what_they_must(
    lengths: list[int], worth: int | None, largest: int | None
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    groups = length_groups(sizes, worth=worth, largest=largest)
    assert sorted(row for rows in groups for row in rows.tolist()) == list(range(len(lengths)))
    assert all(0 < len(rows) <= (largest or len(lengths)) for rows in groups)
    widths = [int(sizes[rows].max()) for rows in groups]
    assert widths == sorted(widths)
    if largest is None and lengths:
        width = sum(len(rows) * widest for rows, widest in zip(groups, widths, strict=True))
        assert len(lengths) * max(lengths) - width >= (len(groups) - 1) * (worth or 0)
        assert worth is not None or len(groups) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Apart, the two short rows save 2 * 8 positions; dividing them again would save 1.
        ({"worth": 16}, [[2, 1], [0, 3]]),
        ({"worth": 17}, [[2, 1, 0, 3]]),
        ({"largest": 3}, [[2, 1, 0], [3]]),
        ({"worth": 16, "largest": 1}, [[2], [1], [0], [3]]),
        ({}, [[2, 1, 0, 3]]),
    ],
)
def test_groups_by_hand(options: dict[str, int], expected: list[list[int]]) -> None:
    assert [rows.tolist() for rows in length_groups(np.array([10, 2, 1, 10]), **options)] == expected
