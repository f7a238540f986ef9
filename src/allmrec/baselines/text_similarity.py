"""Text similarity: a candidate is as good as its title's similarity to something in the history; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from allmrec.ranking import Query, Ranking, rank_each
from allmrec.text.similarity import TitleSimilarity

__all__ = ["TextSimilarity"]


class TextSimilarity:
    """Ranks by the best cosine between a candidate's title and any of the last items of the history.

    From no paper; it says how far the words alone carry, without training and without collaboration. A-LLMRec has no
    such row. `TitleSimilarity` says what becomes of items without a title; where nothing can be compared, the order given
    stays.

    Args:
        similarity: of the titles' vectors by the plain sentence encoder.
    """

    name = "Text similarity"

    def __init__(self, similarity: TitleSimilarity) -> None:
        self._similarity = similarity

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates by their similarity to the history."""
        return rank_each(queries, candidates, self._similarity.scores)
