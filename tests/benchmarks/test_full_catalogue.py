"""Ranks among all items of a catalogue, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.full_catalogue import figures, ranks


def test_figures_of_a_full_catalogue_by_hand() -> None:
    items = np.array([[9.0], [1.0], [2.0], [3.0], [3.0]], dtype=np.float32)
    histories = [np.array([4]), np.array([1]), np.array([3, 4])]
    found = ranks(np.ones((3, 1), dtype=np.float32), items, np.array([3, 3, 2]), histories)
    # Item 4 ties with the target of the second row and counts against it; a seen one and the padding never do.
    assert found.tolist() == [0, 1, 0]
    assert figures(found)["ndcg@10"] == pytest.approx((2 + 1 / np.log2(3)) / 3)
    assert figures(np.array([9, 10]))["hit@10"] == 0.5
