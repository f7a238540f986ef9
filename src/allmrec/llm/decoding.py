"""Rows of embeddings continued token by token behind a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.core.errors import ConfigError

if TYPE_CHECKING:  # the model makes the decoding, and the decoding asks the model
    from allmrec.llm.language_model import LanguageModel

__all__ = ["CachedDecoding", "additive_mask"]


def additive_mask(
    visible: Bool[Tensor, "batch tokens seen"], embeddings: Float[Tensor, "batch _tokens _dim"]
) -> Float[Tensor, "batch 1 tokens seen"]:
    """What attention adds to its scores: 0 where a place is seen, the lowest number where it is not."""
    hidden = ~visible[:, None].to(embeddings.device)
    mask = torch.zeros(hidden.shape, dtype=embeddings.dtype, device=embeddings.device)
    return mask.masked_fill_(hidden, torch.finfo(embeddings.dtype).min)


class CachedDecoding:
    """Decoding with the keys and values of everything read so far kept, so that a step reads one token a row.

    Rows come padded on the right and are kept padded on the left: a row's places then follow one another in the cache
    without a gap, and a model that looks a limited number of places back (Gemma, Mistral) looks back as far as it would
    on the row alone. Positions are counted per row, padding is masked.

    Args:
        lm: embeds tokens and turns hidden states into logits.
        body: the model's layers; it takes `inputs_embeds`, `attention_mask`, `position_ids`, `past_key_values` and
            `use_cache`, and makes its own cache when it is given none.
        embeddings: what stands at each place, padded on the right.
        lengths: real places of each row, at least one.
        positions: the position number of each place; none: one after the other.
        visible: which places each place sees; none: all before it and itself. What is appended sees every place.
    """

    def __init__(
        self,
        lm: LanguageModel,
        body: Any,
        embeddings: Float[Tensor, "rows tokens dim"],
        lengths: Int[Tensor, " rows"],
        positions: Int[Tensor, "rows tokens"] | None = None,
        visible: Bool[Tensor, "rows tokens tokens"] | None = None,
    ) -> None:
        self._lm, self._body = lm, body
        self._cache: Any = None
        lengths = lengths.to(lm.device)
        columns = torch.arange(int(lengths.max()), device=lm.device)
        places = columns - (len(columns) - lengths)[:, None]
        real = places >= 0
        self._mask = real.long()
        # What stands at a padded place is masked, so its first token may stand there too.
        places = places.clamp_min(0)
        numbers = places if positions is None else torch.take_along_dim(positions.to(lm.device), places, dim=1)
        # The position of what comes next in each row.
        self._next = numbers[:, -1] + 1
        mask = self._mask
        if visible is not None:
            rows = torch.arange(len(places), device=lm.device)[:, None, None]
            seen = visible.to(lm.device)[rows, places[:, :, None], places[:, None, :]] & real[:, None, :]
            # A padded place sees itself: a row of the softmax may not be empty.
            mask = additive_mask(seen | torch.eye(len(columns), dtype=torch.bool, device=lm.device), embeddings)
        self._logits = self._read(torch.take_along_dim(embeddings, places[..., None], dim=1), numbers, mask)

    @property
    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        """Logits of each row's next token."""
        return self._logits

    def append(self, tokens: Int[Tensor, " rows"]) -> None:
        """Read one more token in each row.

        Raises:
            ConfigError: a row has no positions left.
        """
        if int(self._next.max()) >= self._lm.max_tokens:
            raise ConfigError(
                f"A text of {int(self._next.max())} tokens cannot go on: {self._lm.name} has {self._lm.max_tokens} "
                "positions. Ask for fewer new tokens, or make the prompt shorter."
            )
        positions = self._next[:, None]
        self._next = self._next + 1
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self._logits = self._read(self._lm.embed(tokens[:, None]), positions, self._mask)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows alone, in this order; a row may be named several times."""
        rows = rows.to(self._lm.device)
        self._next, self._mask, self._logits = self._next[rows], self._mask[rows], self._logits[rows]
        with torch.inference_mode():
            self._cache.batch_select_indices(rows)

    @torch.inference_mode()
    def _read(
        self, embeddings: Float[Tensor, "rows new dim"], positions: Int[Tensor, "rows new"], mask: Tensor
    ) -> Float[Tensor, "rows vocabulary"]:
        output = self._body(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        return self._lm.logits(output.last_hidden_state[:, -1])
