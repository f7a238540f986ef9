"""What everybody who ranks has in common."""

from __future__ import annotations

import numpy as np
import pytest

from allmrec.core.errors import DataError
from allmrec.ranking import ranking_from_scores


def test_best_first_and_ties_as_they_came() -> None:
    ranking = ranking_from_scores(np.array([7, 8, 9]), np.array([1.0, 2.0, 1.0]))
    assert ranking.items.tolist() == [8, 7, 9]
    assert ranking.scores.tolist() == [2.0, 1.0, 1.0]


def test_what_is_no_number_has_no_place_in_an_order() -> None:
    with pytest.raises(DataError, match=r"2 of 3 scores are NaN.*smaller learning rate"):
        ranking_from_scores(np.array([7, 8, 9]), np.array([np.nan, 2.0, np.nan]))
    assert ranking_from_scores(np.array([7, 8]), np.array([-np.inf, 0.0])).items.tolist() == [8, 7]
