"""Rows of embeddings continued token by token."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from allmrec.core.errors import ConfigError
from allmrec.llm.reading import Reader, kept_by

__all__ = ["CachedDecoding", "RereadDecoding"]


class CachedDecoding:
    """Decoding with the keys and values of everything read so far kept, so that a step reads one token a row.

    Rows come padded on the right and are kept padded on the left: a row's places then follow one another in the cache
    without a gap, and a model that looks a limited number of places back (Gemma, Mistral) looks back as far as it would
    on the row alone. Positions are counted per row, padding is masked.

    Args:
        reader: reads the model, embeds tokens and turns hidden states into logits.
        embeddings: what stands at each place, padded on the right.
        lengths: real places of each row, at least one.
        positions: the position number of each place; none: one after the other.
        visible: which places each place sees; none: all before it and itself. What is appended sees every place.
        body: what to call in the body's place; none: the model's.
    """

    def __init__(
        self,
        reader: Reader,
        embeddings: Float[Tensor, "rows tokens dim"],
        lengths: Int[Tensor, " rows"],
        positions: Int[Tensor, "rows tokens"] | None = None,
        visible: Bool[Tensor, "rows tokens tokens"] | None = None,
        body: nn.Module | None = None,
    ) -> None:
        self._reader, self._body = reader, body
        device = embeddings.device
        # With places of its own that each place sees, the masks are ours, and the cache drops nothing by itself.
        self._masked = visible is not None
        self._cache: Any = DynamicCache() if self._masked else None
        lengths = lengths.to(device)
        columns = torch.arange(int(lengths.max()), device=device)
        places = columns - (len(columns) - lengths)[:, None]
        self._real = (places >= 0).long()
        # What stands at a padded place is masked, so its first token may stand there too.
        places = places.clamp_min(0)
        numbers = places if positions is None else torch.take_along_dim(positions.to(device), places, dim=1)
        self._numbers = numbers
        # The position of what comes next in each row.
        self._next = numbers[:, -1] + 1
        seen = None
        if visible is not None:
            rows = torch.arange(len(places), device=device)[:, None, None]
            seen = visible.to(device)[rows, places[:, :, None], places[:, None, :]] & (self._real > 0)[:, None, :]
            # A padded place sees itself: a row of the softmax may not be empty.
            seen = seen | torch.eye(len(columns), dtype=torch.bool, device=device)
        self._logits = self._read(torch.take_along_dim(embeddings, places[..., None], dim=1), numbers, seen)

    @property
    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        """Logits of each row's next token."""
        return self._logits

    def append(self, tokens: Int[Tensor, " rows"]) -> None:
        """Read one more token in each row.

        Raises:
            ConfigError: a row has no positions left.
        """
        check_room(self._reader, int(self._next.max()))
        positions = self._next[:, None]
        self._next = self._next + 1
        self._real = nn.functional.pad(self._real, (0, 1), value=1)
        self._numbers = torch.cat([self._numbers, positions], dim=1)
        seen = (self._real > 0)[:, None, :] if self._masked else None
        self._logits = self._read(self._reader.embed(tokens[:, None]), positions, seen)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows alone, in this order; a row may be named several times."""
        rows = rows.to(self._logits.device)
        self._next, self._real, self._numbers = self._next[rows], self._real[rows], self._numbers[rows]
        self._logits = self._logits[rows]
        with torch.inference_mode():
            self._cache.reorder_cache(rows)

    @torch.inference_mode()
    def _read(
        self, embeddings: Float[Tensor, "rows new dim"], positions: Int[Tensor, "rows new"], visible: Tensor | None
    ) -> Float[Tensor, "rows vocabulary"]:
        output = self._reader.read(
            embeddings,
            positions,
            visible,
            body=self._body,
            real=self._real,
            seen_positions=self._numbers,
            cache=self._cache,
            keep=True,
        )
        self._cache = kept_by(output)
        return self._reader.head(output.last_hidden_state[:, -1])


class RereadDecoding:
    """Decoding that reads everything anew at every token, for models without a cache that could be relied on.

    Args:
        reader, embeddings, lengths, body: as of `CachedDecoding`.
    """

    def __init__(
        self,
        reader: Reader,
        embeddings: Float[Tensor, "rows tokens dim"],
        lengths: Int[Tensor, " rows"],
        body: nn.Module | None = None,
    ) -> None:
        self._reader, self._body = reader, body
        self._lengths = lengths.to(embeddings.device)
        self._embeddings = embeddings[:, : int(lengths.max())].detach()
        self._logits = self._read()

    @property
    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        """Logits of each row's next token."""
        return self._logits

    def append(self, tokens: Int[Tensor, " rows"]) -> None:
        """Read one more token in each row.

        Raises:
            ConfigError: a row has no positions left.
        """
        check_room(self._reader, int(self._lengths.max()))
        rows = torch.arange(len(tokens), device=self._lengths.device)
        self._embeddings = nn.functional.pad(self._embeddings, (0, 0, 0, 1))
        self._embeddings[rows, self._lengths] = self._reader.embed(tokens)
        self._lengths = self._lengths + 1
        self._logits = self._read()

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows alone, in this order; a row may be named several times."""
        rows = rows.to(self._lengths.device)
        self._lengths, self._logits = self._lengths[rows], self._logits[rows]
        self._embeddings = self._embeddings[rows][:, : int(self._lengths.max())]

    @torch.inference_mode()
    def _read(self) -> Float[Tensor, "rows vocabulary"]:
        rows, tokens = self._embeddings.shape[:2]
        positions = torch.arange(tokens, device=self._lengths.device).expand(rows, -1)
        hidden = self._reader.read(self._embeddings, positions, body=self._body).last_hidden_state
        # Padding is on the right, which nothing real sees.
        return self._reader.head(hidden[torch.arange(rows, device=hidden.device), self._lengths - 1])


def check_room(reader: Reader, position: int) -> None:
    """Whether there is such a position.

    Raises:
        ConfigError: a text is as long already as the model has positions for.
    """
    if position >= reader.max_tokens:
        raise ConfigError(
            f"A text of {position} tokens cannot go on: {reader.name} has {reader.max_tokens} positions. Ask for fewer new "
            "tokens, or make the prompt shorter."
        )
