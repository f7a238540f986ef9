"""Small data sets."""

from __future__ import annotations

import pytest

from allmrec.data import InteractionDataset


@pytest.fixture
def small() -> InteractionDataset:
    """Four users of lengths 5, 3, 2 and 1 over six items, of which f is never met."""
    return InteractionDataset.from_sequences(
        {"ann": list("abcde"), "bob": list("bca"), "cyd": list("ab"), "dan": ["e"]},
        times={"ann": [1, 2, 3, 4, 5], "bob": [3, 3, 9], "cyd": [7, 8], "dan": [0]},
        titles={"a": "Alpha", "b": "Beta"},
        descriptions={"b": "The second.", "c": "The third."},
        categories={"a": ["x", "y"]},
        items=list("abcdef"),
    )
