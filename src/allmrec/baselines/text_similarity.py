"""Text similarity: a candidate is as good as its title's likeness to something in the history; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.ranking import Query, Ranking, rank_each
from allmrec.text.bank import TextBank

__all__ = ["TextSimilarity"]


class TextSimilarity:
    """Ranks by the best cosine between a candidate's title and any of the last items of the history.

    From no paper; it says how far the words alone carry, without training and without collaboration. The best and not
    the mean: a history has several interests, and a candidate need fit one of them only. A-LLMRec has no such row.

    Items without a title say nothing: such a candidate scores as the mean of the query's other candidates, and such an
    item of the history is passed over (an older one does not take its place). Where no candidate or nothing in the
    history has a title, all scores are 0 and the order given stays.

    Args:
        vectors: the titles' vectors by item number, row 0 unused; of any length.
        present: which item numbers have a title.
        last: most recent items of the history that are compared.

    Raises:
        ConfigError: `last` is not positive.
    """

    name = "Text similarity"

    def __init__(
        self,
        vectors: Float[Tensor, "items_and_padding width"],
        present: Bool[np.ndarray, " items_and_padding"],
        last: int = 10,
    ) -> None:
        if last < 1:
            raise ConfigError(f"last is {last}; expected how many items of the history are compared, 1 or more.")
        self._vectors = vectors.detach().float().cpu().numpy()
        self._present = present
        self._last = last

    @classmethod
    def of(cls, bank: TextBank, last: int = 10) -> TextSimilarity:
        """The vectors of a bank of titles, one row per item number; its encoder is in evaluation mode."""
        return cls(bank.all_vectors(description="encode titles"), bank.present, last)

    def tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` needs: the titles need not be encoded again."""
        return {"vectors": torch.from_numpy(self._vectors), "present": torch.from_numpy(self._present)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], last: int = 10) -> TextSimilarity:
        """What `tensors` gave.

        Raises:
            ArtifactError: a tensor is missing.
        """
        if not {"vectors", "present"} <= tensors.keys():
            raise ArtifactError(f"Expected tensors vectors and present, found {', '.join(tensors) or 'none'}.")
        return cls(tensors["vectors"], tensors["present"].numpy().astype(bool), last)

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates by their likeness to the history."""
        return rank_each(queries, candidates, self._scores)

    def _scores(
        self, history: Int[np.ndarray, " length"], items: Int[np.ndarray, " candidates"]
    ) -> Float[np.ndarray, " candidates"]:
        """One query's scores in the candidates' order."""
        recent = history[-self._last :]
        recent = recent[self._present[recent]]
        known = self._present[items]
        if not len(recent) or not known.any():
            return np.zeros(len(items), dtype=np.float32)
        best = (_unit(self._vectors[items]) @ _unit(self._vectors[recent]).T).max(axis=1)
        found: Float[np.ndarray, " candidates"] = np.where(known, best, best[known].mean())
        return found


def _unit(vectors: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows width"]:
    """Rows of length 1; a row of zeros stays."""
    unit: Float[np.ndarray, "rows width"] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
