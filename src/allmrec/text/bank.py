"""A catalogue's texts behind an encoder: tokenised once, and what is frozen of the encoder computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.core.grouping import length_groups
from allmrec.core.progress import progress_bar
from allmrec.text.encoder import SentenceEncoder

__all__ = ["TextBank"]

# Positions of padding that one more forward pass of the encoder must save.
_WORTH_A_PASS = 128


class TextBank:
    """Vectors of a fixed list of texts, by row number.

    What the encoder never trains is computed when a row is first asked for and kept: the final vectors of a frozen
    encoder, the lower layers' token states of one that is tuned in its last layers. Once `cache_bytes` are full, further
    rows are computed anew each time; the vectors are the same either way.

    Args:
        encoder: tunable or not; kept, not copied.
        texts: one per row; None where there is no text.
        cache_bytes: memory that kept states may take.
        device: where vectors are computed and returned; the encoder's own.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        texts: Sequence[str | None],
        cache_bytes: int = 2**30,
        device: torch.device | str = "cpu",
    ) -> None:
        self._encoder = encoder
        self._device = torch.device(device)
        self.tokens = encoder.tokenise(texts)
        self.present: Bool[np.ndarray, " texts"] = self.tokens.lengths > 0
        self._kept: dict[int, Tensor] = {}
        self._room = cache_bytes

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def cached_rows(self) -> int:
        """Rows whose frozen part is kept."""
        return len(self._kept)

    def vectors(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, "rows dim"]:
        """Pooled vectors of the chosen texts, with gradients to whatever of the encoder is trained.

        Rows without a text give zeros, which mean nothing: ask `present`. A row may be asked for twice; it is computed
        once.
        """
        unique, back = np.unique(rows, return_inverse=True)
        having = np.flatnonzero(self.present[unique])
        if not len(having):
            return torch.zeros(len(rows), self._encoder.dim, device=self._device)
        # Similar lengths go through together; the pieces are put in order again at the end.
        groups = length_groups(self.tokens.lengths[unique[having]], worth=_WORTH_A_PASS, largest=256)
        pieces = torch.cat([self._group(unique[having[group]]) for group in groups])
        place = torch.full((len(unique),), len(having))
        place[torch.from_numpy(having[np.concatenate(groups)])] = torch.arange(len(having))
        padded = torch.cat([pieces, pieces.new_zeros(1, pieces.shape[1])])
        return padded[place.to(pieces.device)][torch.as_tensor(back.reshape(-1), device=pieces.device)]

    @torch.no_grad()
    def all_vectors(
        self, rows: Int[np.ndarray, " rows"] | None = None, batch_size: int = 64, description: str | None = None
    ) -> Float[Tensor, "rows dim"]:
        """Vectors of many rows (all by default) without gradients, batched by length.

        The caller puts the encoder in evaluation mode.
        """
        rows = np.arange(len(self)) if rows is None else rows
        found = torch.zeros(len(rows), self._encoder.dim, device=self._device)
        having = np.flatnonzero(self.present[rows])
        having = having[np.argsort(-self.tokens.lengths[rows[having]], kind="stable")]
        with progress_bar(description or "encode texts", len(having)) as bar:
            for start in range(0, len(having), batch_size):
                part = having[start : start + batch_size]
                found[torch.from_numpy(part)] = self._group(rows[part])
                bar.advance(len(part))
        return found

    def _group(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, "rows dim"]:
        """Rows that all have a text, in one forward pass."""
        if self._encoder.frozen == "nothing":
            return self._encoder(*self._inputs(rows))
        if self._encoder.frozen == "all":
            return torch.stack(self._frozen_parts(rows))
        states = torch.nn.utils.rnn.pad_sequence(self._frozen_parts(rows), batch_first=True)
        lengths = torch.as_tensor(self.tokens.lengths[rows], device=self._device)
        return self._encoder.from_states(states, torch.arange(states.shape[1], device=self._device) < lengths[:, None])

    @torch.no_grad()
    def _frozen_parts(self, rows: Int[np.ndarray, " rows"]) -> list[Tensor]:
        """The kept part of each row, computing what is not kept."""
        missing = np.array([row for row in rows if row not in self._kept], dtype=np.int64)
        fresh: dict[int, Tensor] = {}
        if len(missing):
            ids, real = self._inputs(missing)
            if self._encoder.frozen == "all":
                parts = list(self._encoder(ids, real))
            else:
                parts = [s[:n] for s, n in zip(self._encoder.states(ids, real), real.sum(1).tolist(), strict=True)]
            for row, part in zip(missing.tolist(), parts, strict=True):
                size = part.numel() * part.element_size()
                # A clone: a slice would keep the whole batch's storage alive.
                fresh[row] = part.clone()
                if size <= self._room:
                    self._kept[row] = fresh[row]
                    self._room -= size
        return [self._kept[row] if row in self._kept else fresh[row] for row in rows.tolist()]

    def _inputs(self, rows: Int[np.ndarray, " rows"]) -> tuple[Tensor, Tensor]:
        """Token numbers and their mask on the device."""
        ids, real = self.tokens.batch(rows)
        return torch.as_tensor(ids, device=self._device), torch.as_tensor(real, device=self._device)
