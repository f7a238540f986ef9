"""How alike items' texts are to a history's, by vectors of a sentence encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.text.bank import TextBank

__all__ = ["TitleSimilarity"]


class TitleSimilarity:
    """The best cosine between an item's text and that of any of the last items of a history.

    The best and not the mean: a history has several interests, and an item need fit one of them only.

    Texts of one catalogue resemble one another ("nail polish"), and what they share says nothing of what sets them
    apart. Centred vectors leave it out: the mean over the catalogue is subtracted before lengths are made 1.

    Items without a text say nothing: such a candidate is as alike as the mean of the query's other candidates, and
    such an item of the history is passed over (an older one does not take its place). Where no candidate or nothing in
    the history has a text, all are 0.

    Args:
        vectors: by item number, row 0 unused; of any length.
        present: which item numbers have a text.
        max_history: most recent items of the history that are compared.
        centred: see above.

    Raises:
        ConfigError: `max_history` is not positive.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "items_and_padding dim"],
        present: Bool[np.ndarray, " items_and_padding"],
        max_history: int = 10,
        centred: bool = False,
    ) -> None:
        if max_history < 1:
            raise ConfigError(
                f"max_history is {max_history}; expected how many items of the history are compared, 1 or more."
            )
        plain = vectors.detach().float().cpu().numpy()
        self._centre = np.zeros(plain.shape[1], dtype=np.float32)
        if centred and present.any():
            self._centre = plain[present].mean(axis=0)
        self._unit = _unit(plain - self._centre)
        self._present = present
        self._max_history = max_history

    @classmethod
    def of(cls, bank: TextBank, max_history: int = 10, centred: bool = False) -> TitleSimilarity:
        """Of a bank with one text per item number; its encoder is in evaluation mode."""
        return cls(bank.all_vectors(description="encode titles"), bank.present, max_history, centred)

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], max_history: int = 10, centred: bool = False
    ) -> TitleSimilarity:
        """From `vectors` and `present`.

        Raises:
            ArtifactError: a tensor is missing.
        """
        if not {"vectors", "present"} <= tensors.keys():
            raise ArtifactError(f"Expected tensors vectors and present, found {', '.join(tensors) or 'none'}.")
        return cls(tensors["vectors"], tensors["present"].numpy().astype(bool), max_history, centred)

    def extended(self, vectors: Float[Tensor, "new dim"], present: Bool[Tensor, " new"]) -> TitleSimilarity:
        """The same with items behind the others; the centre stays that of the catalogue."""
        added = _unit(vectors.detach().float().cpu().numpy() - self._centre)
        other = copy.copy(self)
        other._unit = np.concatenate([self._unit, added])
        other._present = np.concatenate([self._present, present.cpu().numpy().astype(bool)])
        return other

    def scores(
        self, history: Int[np.ndarray, " length"], items: Int[np.ndarray, " candidates"]
    ) -> Float[np.ndarray, " candidates"]:
        """One query's similarities, in the candidates' order."""
        recent = history[-self._max_history :]
        recent = recent[self._present[recent]]
        known = self._present[items]
        if not len(recent) or not known.any():
            return np.zeros(len(items), dtype=np.float32)
        best = (self._unit[items] @ self._unit[recent].T).max(axis=1)
        found: Float[np.ndarray, " candidates"] = np.where(known, best, best[known].mean())
        return found


def _unit(vectors: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    """Rows of length 1; a row of zeros stays."""
    unit: Float[np.ndarray, "rows dim"] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
