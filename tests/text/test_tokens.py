"""Flat token storage."""

from __future__ import annotations

import numpy as np

from allmrec.text.tokens import TokenisedTexts


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
