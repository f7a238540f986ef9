"""Items as key-value words and histories as one long text, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from allmrec.core.errors import ConfigError
from allmrec.core.words import Words
from allmrec.data.catalogue import Catalogue

__all__ = ["KINDS", "ItemTokens", "TokenBatch"]

# What a token is, by the number of its type embedding.
KINDS = ("sequence", "key", "value")


@dataclass(frozen=True)
class TokenBatch:
    """Histories or single items as padded token numbers.

    Attributes:
        ids: token numbers; column 0 stands for the whole row.
        kinds: each token's place in KINDS.
        places: which item of the row a token belongs to, the most recent one 1; 0 in column 0.
        real: where the tokens are; padding is on the right.
    """

    ids: Int[np.ndarray, "rows tokens"]
    kinds: Int[np.ndarray, "rows tokens"]
    places: Int[np.ndarray, "rows tokens"]
    real: Bool[np.ndarray, "rows tokens"]


@dataclass(frozen=True)
class ItemTokens:
    """Each item as "title: …, category: …" in tokens, one behind another (RECFORMER).

    Attributes:
        ids, kinds: of all tokens.
        offsets: item i's tokens are `ids[offsets[i]:offsets[i + 1]]`; none for padding and for items without words.
        first: the token that begins a row (the tokenizer's CLS, or BOS where it has none).
        blank: the token that hides a word (its MASK, or its padding where it has none).
        padding: the token that fills a row up.
        vocabulary: token numbers are below this.
    """

    ids: Int[np.ndarray, " tokens"]
    kinds: Int[np.ndarray, " tokens"]
    offsets: Int[np.ndarray, " items_and_padding_and_1"]
    first: int
    blank: int
    padding: int
    vocabulary: int

    @classmethod
    def of(cls, catalogue: Catalogue, tokenizer: Any, value_tokens: int = 32) -> ItemTokens:
        """Tokenise a catalogue's titles and categories.

        Args:
            catalogue: what is known of the items; a part that is missing is left out with its key.
            tokenizer: any of transformers'.
            value_tokens: tokens of a title, or of all categories together, at the most.

        Raises:
            ConfigError: the tokenizer has nothing to begin a row with.
        """
        first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
        if first is None:
            raise ConfigError("RECFORMER needs a tokenizer with a CLS or BOS token; name another encoder.")
        padding = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        blank = padding if tokenizer.mask_token_id is None else int(tokenizer.mask_token_id)

        words = Words(tokenizer).ids
        keys = {name: words(name) for name in ("title", "category")}
        ids: list[int] = []
        kinds: list[int] = []
        offsets = [0]
        for title, categories in zip(catalogue.titles, catalogue.categories, strict=True):
            for key, value in (("title", title or ""), ("category", ", ".join(categories))):
                if value:
                    tokens = words(value)[:value_tokens]
                    ids += [*keys[key], *tokens]
                    kinds += [1] * len(keys[key]) + [2] * len(tokens)
            offsets.append(len(ids))
        return cls(
            np.array(ids, dtype=np.int64), np.array(kinds, dtype=np.int64), np.array(offsets, dtype=np.int64),
            int(first), blank, padding, len(tokenizer),
        )  # fmt: skip

    def batch(self, rows: Sequence[Int[np.ndarray, " _items"]], max_history: int, max_tokens: int) -> TokenBatch:
        """Rows of items as text, the most recent item first, so that what is cut off is the oldest.

        Args:
            rows: item numbers, oldest first; zeros are passed over. A single item is a row of one.
            max_history: most recent items that are read.
            max_tokens: tokens of a row at the most, the first one included.
        """
        pieces = []
        for row in rows:
            recent = np.asarray(row)[np.asarray(row) != 0][-max_history:][::-1]
            spans = [np.arange(self.offsets[item], self.offsets[item + 1]) for item in recent]
            at = np.concatenate([np.zeros(0, dtype=np.int64), *spans])[: max_tokens - 1]
            places = np.repeat(np.arange(1, len(spans) + 1), [len(span) for span in spans])[: max_tokens - 1]
            pieces.append((at, places))
        longest = 1 + max((len(at) for at, _ in pieces), default=0)
        shape = (len(pieces), longest)
        ids, kinds, places = (
            np.full(shape, self.padding),
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
        )
        real = np.zeros(shape, dtype=bool)
        ids[:, 0] = self.first
        real[:, 0] = True
        for number, (at, place) in enumerate(pieces):
            taken = slice(1, 1 + len(at))
            ids[number, taken], kinds[number, taken] = self.ids[at], self.kinds[at]
            places[number, taken], real[number, taken] = place, True
        return TokenBatch(ids, kinds, places, real)
