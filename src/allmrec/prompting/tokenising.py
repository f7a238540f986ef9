"""From typed pieces to tokens with known slots, inside a budget; knows no vector and no model weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int
from pydantic import Field

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.template import ItemSlot, PromptTemplate, Text, Title, UserSlot

__all__ = ["PromptBudget", "PromptBuilder", "TitleTokens", "TokenisedPrompt"]


class PromptBudget(Config):
    """How long a prompt may get, and what gives way first: long titles, then the oldest history."""

    history: int = Field(10, ge=0, description="Items of the history that are shown, the latest ones.")
    title_tokens: int = Field(24, ge=1, description="Tokens of a title; longer ones are cut.")
    prompt_tokens: int = Field(1024, ge=16, description="Tokens of a prompt; the oldest history is dropped first.")
    user_before_bos: bool = Field(
        False, description="User slot before the BOS token, as the released program has it; the paper does not say."
    )


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
    """

    ids: Int[np.ndarray, " tokens"]
    user_at: int
    history_at: Int[np.ndarray, " history"]
    history: Int[np.ndarray, " history"]
    candidates_at: Int[np.ndarray, " slots"]
    candidates: Int[np.ndarray, " candidates"]
    dropped: int

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

    def extend(self, titles: Sequence[str | None]) -> None:
        """Add titles of new items; they take the next item numbers."""
        self._titles.extend(titles)


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
            history: item numbers, oldest first; the latest `budget.history` of them are shown.
            candidates: item numbers in the order in which they are shown.
            reserve: tokens to leave free for an answer.

        Raises:
            ConfigError: the candidates alone do not fit.
        """
        shown = list(history)[-self.budget.history :] if self.budget.history else []
        prompt = self._build(shown, candidates, 0)
        dropped = 0
        while len(prompt) + reserve > self._limit and dropped < len(shown):
            dropped += 1
            prompt = self._build(shown[dropped:], candidates, dropped)
        if len(prompt) + reserve > self._limit:
            raise ConfigError(
                f"A prompt with {len(candidates)} candidates takes {len(prompt)} tokens and its answer {reserve}, but "
                f"{self._limit} fit ({self._lm.name} has {self._lm.max_tokens} positions, the budget allows "
                f"{self.budget.prompt_tokens}). Show fewer candidates, cut titles shorter, or raise prompt_tokens."
            )
        self.dropped_history += dropped
        return prompt

    def longest_answer(self, candidates: Sequence[int]) -> int:
        """Tokens that the longest of these titles and its end take."""
        return 1 + max(len(self.titles[int(item)]) for item in candidates)

    def _build(self, history: Sequence[int], candidates: Sequence[int], dropped: int) -> TokenisedPrompt:
        ids: list[int] = []
        prefix = list(self._lm.prefix_ids)
        pieces = self.template.pieces(history, candidates)
        user_at, history_at, candidates_at, history_items = -1, [], [], []
        marks = ItemSlot if any(isinstance(piece, ItemSlot) for piece in pieces) else Title
        if self.budget.user_before_bos and isinstance(pieces[0], UserSlot):
            user_at, ids, pieces = 0, [0, *prefix], pieces[1:]
        else:
            ids = prefix
        for piece in pieces:
            if isinstance(piece, Text):
                ids.extend(self._words(piece.text))
            elif isinstance(piece, Title):
                ids.extend(self.titles[piece.item])
            elif isinstance(piece, UserSlot):
                user_at = len(ids)
                ids.append(0)
            elif isinstance(piece, ItemSlot):
                ids.append(0)
            if isinstance(piece, marks):
                if piece.role == "history":
                    history_at.append(len(ids) - 1)
                    history_items.append(piece.item)
                else:
                    candidates_at.append(len(ids) - 1)
        return TokenisedPrompt(
            ids=np.asarray(ids, dtype=np.int64),
            user_at=user_at,
            history_at=np.asarray(history_at, dtype=np.int64),
            history=np.asarray(history_items, dtype=np.int64),
            candidates_at=np.asarray(candidates_at, dtype=np.int64),
            candidates=np.asarray(candidates, dtype=np.int64),
            dropped=dropped,
        )
