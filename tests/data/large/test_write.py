"""What is counted piece by piece is what is counted at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.data.large import write

histories = st.lists(st.lists(st.integers(1, 6), max_size=12), min_size=1, max_size=20)


@given(histories, st.integers(1, 30))
def test_different_pairs_are_those_of_a_set(histories: list[list[int]], at_once: int) -> None:
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_AT_ONCE", at_once)
        found = write._different_pairs(offsets, items)
    assert found == len({(user, item) for user, history in enumerate(histories) for item in history})
