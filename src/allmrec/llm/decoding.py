"""Rows of embeddings continued token by token behind a cache; knows no prompt and no model's family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from allmrec.core.errors import ConfigError

if TYPE_CHECKING:  # the model makes the decoding, and the decoding asks the model
    from allmrec.llm.language_model import LanguageModel

__all__ = ["CachedDecoding"]


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
    """

    def __init__(
        self,
        lm: LanguageModel,
        body: Any,
        embeddings: Float[Tensor, "rows tokens width"],
        lengths: Int[Tensor, " rows"],
    ) -> None:
        self._lm, self._body = lm, body
        self._cache: Any = None
        self._lengths = lengths.to(lm.device)
        columns = torch.arange(int(lengths.max()), device=lm.device)
        places = columns - (len(columns) - self._lengths)[:, None]
        self._mask = (places >= 0).long()
        # What stands at a padded place is masked, so its first token may stand there too.
        places = places.clamp_min(0)
        self._logits = self._read(torch.take_along_dim(embeddings, places[..., None], dim=1), places)

    @property
    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        """Logits of each row's next token."""
        return self._logits

    def append(self, tokens: Int[Tensor, " rows"]) -> None:
        """Read one more token in each row.

        Raises:
            ConfigError: a row has no positions left.
        """
        if int(self._lengths.max()) >= self._lm.max_tokens:
            raise ConfigError(
                f"A text of {int(self._lengths.max())} tokens cannot go on: {self._lm.name} has {self._lm.max_tokens} "
                "positions. Ask for fewer new tokens, or make the prompt shorter."
            )
        positions = self._lengths[:, None]
        self._lengths = self._lengths + 1
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self._logits = self._read(self._lm.embed(tokens[:, None]), positions)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows alone, in this order; a row may be named several times."""
        rows = rows.to(self._lm.device)
        self._lengths, self._mask, self._logits = self._lengths[rows], self._mask[rows], self._logits[rows]
        with torch.inference_mode():
            self._cache.batch_select_indices(rows)

    @torch.inference_mode()
    def _read(
        self, embeddings: Float[Tensor, "rows new width"], positions: Int[Tensor, "rows new"]
    ) -> Float[Tensor, "rows vocabulary"]:
        output = self._body(
            inputs_embeds=embeddings,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        return self._lm.logits(output.last_hidden_state[:, -1])
