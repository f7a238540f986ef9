"""From typed pieces to tokens with known slots, positions and blocks, inside a budget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.pieces import Block, ItemSlot, Piece, Text, Title, UserSlot
from allmrec.prompting.template import PromptTemplate

__all__ = ["PlaceKind", "PromptBudget", "PromptBuilder", "TitleTokens", "TokenisedPrompt", "tokenised"]


class PromptBudget(Config):
    """How long a prompt may get, and what gives way first: long titles, then the oldest history."""

    max_history: int = Field(10, ge=0, description="Items of the history that are shown, the latest ones.")
    title_tokens: int = Field(24, ge=1, description="Tokens of a title; longer ones are cut.")
    prompt_tokens: int = Field(
        1024,
        ge=16,
        description="Tokens of a prompt; the oldest history is dropped first. The candidates of a parallel list count once.",
    )
    user_before_bos: bool = Field(
        False, description="User slot before the BOS token, as the released program has it; the paper does not say."
    )


class PlaceKind(IntEnum):
    """What stands at a place of a prompt."""

    WORDS = 0
    USER = 1
    HISTORY = 2
    SLOT = 3
    TITLE_START = 4
    TITLE_REST = 5


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as token ids, with the places of its slots.

    Attributes:
        ids: token ids; a slot's own place holds 0, which nobody reads.
        user_at: place of the user slot, or -1 where the template has none.
        history_at, history: places of the history's slots and their items.
        candidates_at, candidates: places of the candidates' slots and their items. Where the template has no item slots
            an item's place is the last token of its title.
        dropped: history items that the budget had no room for.
        positions: the position number of each token. In a parallel list all candidates begin at the same one, and what
            follows the list goes on behind the longest candidate that there can be.
        blocks: to which candidate of a parallel list a token belongs, -1 for all others. A token sees what stands before
            it, but no token of another block; what follows the list sees all of them.
        kinds: a `PlaceKind` a token: the template's words (the prefix too), the user slot, slots and titles of the history,
            and of the candidates the slot, the title's first token and its other tokens.
        items: the item whose slot or title a token belongs to, 0 for all others.
    """

    ids: Int[np.ndarray, " tokens"]
    user_at: int
    history_at: Int[np.ndarray, " history"]
    history: Int[np.ndarray, " history"]
    candidates_at: Int[np.ndarray, " slots"]
    candidates: Int[np.ndarray, " candidates"]
    dropped: int
    positions: Int[np.ndarray, " tokens"]
    blocks: Int[np.ndarray, " tokens"]
    kinds: Int[np.ndarray, " tokens"]
    items: Int[np.ndarray, " tokens"]

    @property
    def is_parallel(self) -> bool:
        """Whether any token belongs to a block."""
        return bool((self.blocks >= 0).any())

    @property
    def span(self) -> int:
        """Position numbers that it takes: its tokens, with a parallel list counted as its longest candidate can be."""
        return int(self.positions.max()) + 1

    def visible(self) -> Bool[np.ndarray, "tokens tokens"]:
        """Which tokens (last axis) each token sees."""
        mine, theirs = self.blocks[:, None], self.blocks[None, :]
        sees: Bool[np.ndarray, "tokens tokens"] = np.tri(len(self), dtype=bool) & (
            (mine < 0) | (theirs < 0) | (mine == theirs)
        )
        return sees

    def __len__(self) -> int:
        return len(self.ids)


class TitleTokens:
    """Every title of the catalogue as tokens, each tokenised once, cut at a stated length.

    A title is tokenised with a leading space, the way it stands in a sentence, so that a title in the list and the
    same title as an answer are the same tokens.

    Args:
        titles: by item number, entry 0 unused; None where the catalogue has no title.
        lm: whose tokenizer to use.
        limit: tokens at the most.
        untitled: what stands for a missing title.
    """

    def __init__(self, titles: Sequence[str | None], lm: LanguageModel, limit: int, untitled: str) -> None:
        self._titles = list(titles)
        self._lm = lm
        self._limit = limit
        self._untitled = untitled
        self._tokens: dict[int, tuple[int, ...]] = {}
        self._cut: set[int] = set()

    def __getitem__(self, item: int) -> tuple[int, ...]:
        tokens = self._tokens.get(item)
        if tokens is None:
            ids = self._lm.tokenize(" " + (self._titles[item] or self._untitled))
            if len(ids) > self._limit:
                self._cut.add(item)
            tokens = self._tokens[item] = tuple(ids[: self._limit])
        return tokens

    @property
    def cut(self) -> int:
        """How many of the titles used so far were cut."""
        return len(self._cut)

    def extended(self, titles: Sequence[str | None]) -> TitleTokens:
        """These titles and those of new items, which take the next item numbers."""
        other = copy.copy(self)
        other._titles = [*self._titles, *titles]
        # What is tokenised later is each one's own: the same number may be another item's there.
        other._tokens, other._cut = dict(self._tokens), set(self._cut)
        return other

    def was_cut(self, item: int) -> bool:
        """Whether prompts show only the beginning of its title."""
        _ = self[item]
        return item in self._cut


class PromptBuilder:
    """Builds tokenised prompts for one template, language model and catalogue.

    Args:
        template: the words.
        budget: lengths.
        lm: whose tokenizer and position limit count.
        titles: by item number, entry 0 unused.
    """

    def __init__(
        self, template: PromptTemplate, budget: PromptBudget, lm: LanguageModel, titles: Sequence[str | None]
    ) -> None:
        self.template = template
        self.budget = budget
        self.titles = TitleTokens(titles, lm, budget.title_tokens, template.untitled_words)
        self.dropped_history = 0
        self._lm = lm
        self._limit = min(budget.prompt_tokens, lm.max_tokens)
        self._words = lru_cache(maxsize=256)(lambda text: tuple(lm.tokenize(text)))

    def build(self, history: Sequence[int], candidates: Sequence[int], reserve: int = 0) -> TokenisedPrompt:
        """One prompt.

        Args:
            history: item numbers, oldest first; the latest `budget.max_history` of them are shown.
            candidates: item numbers in the order in which they are shown.
            reserve: tokens to leave free for an answer.

        Raises:
            ConfigError: the candidates alone do not fit.
        """
        shown = list(history)[-self.history_shown :] if self.history_shown else []
        prompt = self._build(shown, candidates, 0)
        dropped = 0
        while prompt.span + reserve > self._limit and dropped < len(shown):
            dropped += 1
            prompt = self._build(shown[dropped:], candidates, dropped)
        if prompt.span + reserve > self._limit:
            raise ConfigError(
                f"A prompt with {len(candidates)} candidates takes {prompt.span} tokens and its answer {reserve}, but "
                f"{self._limit} fit ({self._lm.name} has {self._lm.max_tokens} positions, the budget allows "
                f"{self.budget.prompt_tokens}). Show fewer candidates, cut titles shorter, or raise prompt_tokens."
            )
        self.dropped_history += dropped
        return prompt

    def with_titles(self, titles: Sequence[str | None]) -> PromptBuilder:
        """The same for a catalogue with new items behind the others."""
        other = copy.copy(self)
        other.titles = self.titles.extended(titles)
        return other

    def longest_answer(self, candidates: Sequence[int]) -> int:
        """Tokens that the longest of these titles and its end take."""
        return 1 + max(len(self.titles[int(item)]) for item in candidates)

    @property
    def history_shown(self) -> int:
        """How many items of a history a prompt shows at the most."""
        return self.budget.max_history if self.template.shows_history else 0

    @cached_property
    def block_limit(self) -> int:
        """Tokens that the longest candidate of a parallel list may take."""
        pieces = self.template.block(0)
        return sum(
            self.budget.title_tokens if isinstance(p, Title) else len(self._words(p.text)) if isinstance(p, Text) else 1
            for p in pieces
        )

    def _build(self, history: Sequence[int], candidates: Sequence[int], dropped: int) -> TokenisedPrompt:
        return _Layout(self._lm.prefix_ids, self._words, self.titles, self.block_limit).built(
            self.template.pieces(history, candidates), candidates, dropped, self.budget.user_before_bos
        )


def tokenised(pieces: Sequence[Piece], lm: LanguageModel, titles: TitleTokens) -> TokenisedPrompt:
    """Pieces one after the other behind the language model's own prefix, whatever their length; no list of candidates."""
    return _Layout(lm.prefix_ids, lm.tokenize, titles, 0).built(pieces, (), 0, user_before_bos=False)


class _Layout:
    """A prompt as it is written, piece by piece."""

    def __init__(
        self, prefix: Sequence[int], words: Callable[[str], Sequence[int]], titles: TitleTokens, block_limit: int
    ) -> None:
        self._prefix, self._words, self._titles, self._block_limit = prefix, words, titles, block_limit
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._blocks: list[int] = []
        self._kinds: list[PlaceKind] = []
        self._items: list[int] = []
        self._next = 0
        self._user_at = -1
        self._places: dict[str, list[int]] = {"history": [], "candidate": []}
        self._history: list[int] = []

    def built(
        self, pieces: Sequence[Piece], candidates: Sequence[int], dropped: int, user_before_bos: bool
    ) -> TokenisedPrompt:
        """The prompt of these pieces."""
        inner = [q for p in pieces for q in (p.pieces if isinstance(p, Block) else (p,))]
        # Where the template has no item slots, an item's place is the end of its title.
        marks = ItemSlot if any(isinstance(piece, ItemSlot) for piece in inner) else Title
        rest = list(pieces)
        if user_before_bos and isinstance(rest[0], UserSlot):
            self._add(rest.pop(0), marks, -1)
        self._extend(self._prefix, -1)
        block, start = -1, 0
        for piece in rest:
            if isinstance(piece, Block):
                block += 1
                start = self._next if block == 0 else start
                self._next = start
                for part in piece.pieces:
                    self._add(part, marks, block)
                self._next = start + self._block_limit
            else:
                self._add(piece, marks, -1)
        return TokenisedPrompt(
            ids=np.asarray(self._ids, dtype=np.int64),
            user_at=self._user_at,
            history_at=np.asarray(self._places["history"], dtype=np.int64),
            history=np.asarray(self._history, dtype=np.int64),
            candidates_at=np.asarray(self._places["candidate"], dtype=np.int64),
            candidates=np.asarray(candidates, dtype=np.int64),
            dropped=dropped,
            positions=np.asarray(self._positions, dtype=np.int64),
            blocks=np.asarray(self._blocks, dtype=np.int64),
            kinds=np.asarray(self._kinds, dtype=np.int64),
            items=np.asarray(self._items, dtype=np.int64),
        )

    def _add(self, piece: Piece, marks: type[ItemSlot] | type[Title], block: int) -> None:
        if isinstance(piece, UserSlot):
            self._user_at = len(self._ids)
        ids: Sequence[int] = [0]  # a slot's own id, which is never read
        if isinstance(piece, Text):
            ids = self._words(piece.text)
        elif isinstance(piece, Title):
            ids = self._titles[piece.item]
        item = piece.item if isinstance(piece, Title | ItemSlot) else 0
        self._extend(ids, block, _kinds(piece, len(ids)), item)
        if isinstance(piece, marks):
            self._places[piece.role].append(len(self._ids) - 1)
            if piece.role == "history":
                self._history.append(piece.item)

    def _extend(self, ids: Sequence[int], block: int, kinds: Sequence[PlaceKind] = (), item: int = 0) -> None:
        self._ids.extend(ids)
        self._kinds.extend(kinds or [PlaceKind.WORDS] * len(ids))
        self._items.extend([item] * len(ids))
        self._positions.extend(range(self._next, self._next + len(ids)))
        self._blocks.extend([block] * len(ids))
        self._next += len(ids)


def _kinds(piece: Piece, count: int) -> list[PlaceKind]:
    """What stands at each of the `count` places of a piece."""
    if isinstance(piece, UserSlot):
        return [PlaceKind.USER] * count
    if isinstance(piece, Text | Block):
        return [PlaceKind.WORDS] * count
    if piece.role == "history":
        return [PlaceKind.HISTORY] * count
    if isinstance(piece, ItemSlot):
        return [PlaceKind.SLOT] * count
    return [PlaceKind.TITLE_START, *[PlaceKind.TITLE_REST] * (count - 1)][:count]
