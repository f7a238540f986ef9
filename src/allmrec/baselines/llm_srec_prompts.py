"""What LLM-SRec's language model reads: a user's history, or one item, each ending in a token that is trained."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.pieces import ItemSlot, Piece, Text, Title, UserSlot
from allmrec.prompting.questions import WORDS, DomainWords, check_places
from allmrec.prompting.tokenising import TitleTokens, TokenisedPrompt, tokenised

__all__ = ["LLMSRecPrompts", "LLMSRecWords"]


class LLMSRecWords(Config):
    """The words around titles and vectors; the trained token, [UserOut] or [ItemOut], follows each prompt.

    `{verb}`, `{past}`, `{noun}` and `{article}` are the domain's words, `{history}` is the list of items, `{title}` an item's
    title with a leading blank and `{item}` the place of its CF vector. The defaults are the paper's words, without the number and
    the time of each item, which a request need not have.
    """

    words: DomainWords = DomainWords()
    user: str = Field(
        "This user has {past} in the following order:{history}. Based on this sequence, generate user representation token:",
        description="The user's prompt.",
    )
    no_history: str = Field(
        "This user has {past} nothing so far. Generate user representation token:",
        description="The same where the history is empty.",
    )
    item: str = Field(
        "The {noun} title and {noun} embedding are as follows:{title}{item}, then generate item representation token:",
        description="An item's prompt.",
    )
    entry: str = Field("{title}{item}", description="One item of the history.")
    separator: str = Field(",", description="Between two items of the history.")

    @model_validator(mode="after")
    def _known_places(self) -> LLMSRecWords:
        shown = frozenset({"title", "item"})
        allowed = {
            "user": WORDS | {"history"},
            "no_history": WORDS,
            "item": WORDS | shown,
            "entry": WORDS | shown,
            "separator": frozenset[str](),
        }
        for name, places in allowed.items():
            check_places(name, getattr(self, name), places)
        if "{history}" not in self.user:
            raise ValueError("user must hold {history}")
        for name in ("item", "entry"):
            if getattr(self, name).count("{item}") != 1:
                raise ValueError(f"{name} must hold {{item}} once, the place of the item's vector")
        return self


@dataclass(frozen=True)
class LLMSRecPrompts:
    """Builds the prompts of one catalogue.

    Attributes:
        lm: whose tokenizer and positions count.
        titles: the catalogue's titles, cut.
        words: around them.
        max_history: most recent items of a history that are shown.
        limit: tokens of a prompt; the oldest items of a history give way first.
    """

    lm: LanguageModel
    titles: TitleTokens
    words: LLMSRecWords
    max_history: int
    limit: int

    def of_user(self, history: Int[np.ndarray, " _length"]) -> TokenisedPrompt:
        """The prompt of a history, oldest first.

        Raises:
            ConfigError: the words alone do not fit.
        """
        shown = [int(item) for item in history[-self.max_history :]]
        while True:
            prompt = self._tokenised(self._user_pieces(shown))
            if len(prompt) <= self.limit or not shown:
                return self._fitting(prompt, "A user's")
            shown = shown[1:]

    def of_item(self, item: int) -> TokenisedPrompt:
        """The prompt of an item.

        Raises:
            ConfigError: it does not fit.
        """
        return self._fitting(self._tokenised(self._item_pieces("item", item)), "An item's")

    def with_titles(self, titles: Sequence[str | None]) -> LLMSRecPrompts:
        """The same for a catalogue with new items behind the others."""
        return LLMSRecPrompts(self.lm, self.titles.extended(titles), self.words, self.max_history, self.limit)

    def _fitting(self, prompt: TokenisedPrompt, whose: str) -> TokenisedPrompt:
        if len(prompt) > self.limit:
            raise ConfigError(
                f"{whose} prompt takes {len(prompt)} tokens, and {self.limit} fit ({self.lm.name} has {self.lm.max_tokens} "
                "positions). Use fewer words, cut titles shorter, or raise prompt_tokens."
            )
        return prompt

    def _tokenised(self, pieces: Sequence[Piece]) -> TokenisedPrompt:
        return tokenised([*pieces, UserSlot()], self.lm, self.titles)

    def _user_pieces(self, history: Sequence[int]) -> list[Piece]:
        if not history:
            return self._filled(self.words.no_history, {})
        listed: list[Piece] = []
        for number, item in enumerate(history):
            if number and self.words.separator:
                listed.append(Text(self.words.separator))
            listed += self._item_pieces("entry", item)
        return self._filled(self.words.user, {"history": listed})

    def _item_pieces(self, part: str, item: int) -> list[Piece]:
        places: dict[str, list[Piece]] = {"title": [Title(item, "history")], "item": [ItemSlot(item, "history")]}
        return self._filled(getattr(self.words, part), places)

    def _filled(self, text: str, places: Mapping[str, Sequence[Piece]]) -> list[Piece]:
        """A part as pieces; neighbouring words are one, so that the tokenizer sees whole phrases."""
        words, pieces = self.words.words.places(), list[Piece]()
        for literal, name, _, _ in string.Formatter().parse(text):
            new: list[Piece] = [Text(literal)] if literal else []
            if name is not None:
                new += [Text(words[name])] if name in words else places[name]
            for piece in new:
                if isinstance(piece, Text) and pieces and isinstance(pieces[-1], Text):
                    pieces[-1] = Text(pieces[-1].text + piece.text)
                else:
                    pieces.append(piece)
        return pieces
