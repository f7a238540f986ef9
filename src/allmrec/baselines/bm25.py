"""BM25 on titles: the history's titles are the question, the candidates' titles the documents; nothing is trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.ranking import Query, Ranking, rank_each

__all__ = ["BM25", "BM25Config"]


class BM25Config(Config):
    """How titles are compared word by word."""

    max_history: int = Field(10, ge=1, description="Most recent items of the history whose titles make the question.")
    k1: float = Field(1.5, ge=0, description="How slowly a repeated word saturates; 0: presence alone counts.")
    b: float = Field(0.75, ge=0, le=1, description="How much a long title is held against itself.")
    stopwords: str | None = Field("en", description="Language whose stop words are left out; none: all words count.")


class BM25:
    """Ranks by BM25 (Robertson and Zaragoza 2009), as the library bm25s computes it (its "lucene" variant).

    For a question of words w (a word that stands in several titles of the history counts as often) and a title t:

        score = Σ_w  ln(1 + (N − n_w + 0.5) / (n_w + 0.5)) · tf / (tf + k1 · (1 − b + b · |t| / mean |t|))

    N are the catalogue's titles, n_w those that hold w, tf is how often w stands in t. From no paper on
    recommendation: beside `TextSimilarity` it shows what is in the very words and what only an encoder finds. A-LLMRec
    has no such row.

    Words are runs of two or more letters or digits, lower-cased. An item without a title is no document (it counts
    neither to N nor to the mean length): as a candidate it scores 0, as does a title that shares no word with the
    history; in the history it adds nothing. Nothing is trained, so nothing is stored: the index is made from the titles
    when the system is.

    Args:
        titles: by item number, entry 0 unused.
        config: how words are weighed.

    Raises:
        MissingExtraError: bm25s is not installed.
        ConfigError: it has no stop words of that language.
    """

    name = "BM25"

    def __init__(self, titles: Sequence[str | None], config: BM25Config | None = None) -> None:
        if importlib.util.find_spec("bm25s") is None:
            raise MissingExtraError("bm25s", "bm25", "The BM25 baseline")
        import bm25s  # an optional package

        self._config = config or BM25Config()
        present = [number for number, title in enumerate(titles) if title is not None and number > 0]
        try:
            words = bm25s.tokenize(
                [titles[number] or "" for number in present],
                stopwords=self._config.stopwords or [],
                return_ids=False,
                show_progress=False,
            )
        except ValueError as error:  # a language that it has no stop words of
            raise ConfigError(f"stopwords is {self._config.stopwords!r}: {error}") from error
        self._words: dict[int, list[str]] = dict(zip(present, words, strict=True))
        # Where each item's score stands among the documents'; the last place is kept at 0 for those without a title.
        self._place = np.full(len(titles), len(present))
        self._place[present] = np.arange(len(present))
        self._index = None
        if any(words):
            self._index = bm25s.BM25(k1=self._config.k1, b=self._config.b, method="lucene")
            self._index.index(words, show_progress=False)

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates by their titles' score."""
        return rank_each(queries, candidates, self._scores)

    def _scores(
        self, history: Int[np.ndarray, " length"], items: Int[np.ndarray, " candidates"]
    ) -> Float[np.ndarray, " candidates"]:
        """One query's scores in the candidates' order."""
        question = [
            word for item in history[-self._config.max_history :].tolist() for word in self._words.get(item, ())
        ]
        if self._index is None or not question:
            return np.zeros(len(items), dtype=np.float32)
        scores = np.append(self._index.get_scores(question), np.float32(0))
        found: Float[np.ndarray, " candidates"] = scores[self._place[items]]
        return found
