"""The prompt's words as data, and how they become typed pieces; knows no tokenizer and no vector."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from allmrec.core.config import Config

__all__ = [
    "GENRES",
    "REASON",
    "DomainWords",
    "ItemQuestion",
    "ItemSlot",
    "Piece",
    "PromptTemplate",
    "Text",
    "Title",
    "UserSlot",
]


@dataclass(frozen=True)
class Text:
    """Words of the template, tokenised on their own."""

    text: str


@dataclass(frozen=True)
class Title:
    """An item's title, tokenised on its own, so that nothing in it can be mistaken for a slot."""

    item: int
    role: Literal["history", "candidate"]


@dataclass(frozen=True)
class UserSlot:
    """The place of the user's vector."""


@dataclass(frozen=True)
class ItemSlot:
    """The place of an item's vector."""

    item: int
    role: Literal["history", "candidate"]


Piece = Text | Title | UserSlot | ItemSlot


_WORDS = frozenset({"verb", "past", "noun", "article"})


def _check_places(part: str, text: str, names: frozenset[str]) -> None:
    found = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    if found - names:
        raise ValueError(f"{part} holds {{{sorted(found - names)[0]}}}; it may hold {sorted(names)}")


class DomainWords(Config):
    """The words that follow the domain; the data set's name decides nothing."""

    verb: str = Field("use", min_length=1, description="What one does with an item: watch, play, buy.")
    past: str = Field("used", min_length=1, description="The verb's participle: watched, played, bought.")
    noun: str = Field("item", min_length=1, description="What an item is called: movie, game, item.")

    def places(self) -> dict[str, str]:
        """What the template's words are filled with; the article goes by the noun's first letter."""
        return {**self.model_dump(), "article": "an" if self.noun[0].lower() in "aeiou" else "a"}


class ItemQuestion(Config):
    """What is asked of one item in place of a recommendation, after the same head and history.

    `{chosen}` is the item as a list shows it, its leading blank included; `{verb}`, `{past}`, `{noun}` and `{article}`
    are the domain's words.
    """

    question: str = Field("The {noun}{chosen} is recommended to this user. ", description="The item's part.")
    answer: str = Field(description="What the answer follows.")

    @model_validator(mode="after")
    def _known_places(self) -> ItemQuestion:
        _check_places("question", self.question, _WORDS | {"chosen"})
        _check_places("answer", self.answer, _WORDS)
        if "{chosen}" not in self.question:
            raise ValueError("question must hold {chosen}")
        return self


GENRES = ItemQuestion(answer="The genres of this {noun} are:")
REASON = ItemQuestion(answer="This {noun} fits this user because")


class PromptTemplate(Config):
    """The paper's prompt (section 3.2), part by part.

    `{user}` is the user slot; in `item` `{title}` is the title and `{item}` the item slot; `{history}` and
    `{candidates}` are lists of items; `{verb}`, `{past}` and `{noun}` are the domain's words, `{article}` is a or an. A
    system without vectors is the same template without `{user}` and `{item}`.
    """

    words: DomainWords = DomainWords()
    head: str = Field("{user} is a user representation. ", description="The user's part.")
    history: str = Field("This user has {past} [{history}] in the past. ", description="The history's part.")
    no_history: str = Field("This user has {past} nothing so far. ", description="Said when the history is empty.")
    question: str = Field(
        "Recommend {article} {noun} for this user to {verb} next from the following set of {noun} titles, [{candidates}]. ",
        description="The candidates' part.",
    )
    answer: str = Field("The recommendation is", description="What the answer follows.")
    item: str = Field("{title}{item}", description="One item of a list.")
    separator: str = Field(",", description="Between two items of a list; each title brings its leading space.")
    untitled: str = Field("untitled {noun}", description="Said of an item whose title is missing.")

    @model_validator(mode="after")
    def _known_places(self) -> PromptTemplate:
        allowed = {
            "head": _WORDS | {"user"},
            "history": _WORDS | {"history"},
            "no_history": _WORDS,
            "question": _WORDS | {"candidates"},
            "answer": _WORDS,
            "item": _WORDS | {"title", "item"},
            "separator": frozenset[str](),
            "untitled": _WORDS,
        }
        for part, names in allowed.items():
            _check_places(part, getattr(self, part), names)
        if "{candidates}" not in self.question:
            raise ValueError("question must hold {candidates}")
        return self

    def without_vectors(self) -> PromptTemplate:
        """The same words without user and item slots: what LLM-Only and TALLRec read."""
        return self.model_copy(update={"head": "", "item": self.item.replace("{item}", "")})

    def asking(self, question: ItemQuestion) -> PromptTemplate:
        """The same head and history with another question, to be asked of one candidate."""
        words = question.question.replace("{chosen}", "{candidates}")
        return self.model_copy(update={"question": words, "answer": question.answer})

    @property
    def untitled_words(self) -> str:
        """What stands for a missing title."""
        return self.untitled.format(**self.words.places())

    def pieces(self, history: Sequence[int], candidates: Sequence[int]) -> list[Piece]:
        """The prompt for one query as typed pieces, the answer's words last.

        Args:
            history: item numbers, oldest first.
            candidates: item numbers in the order in which they are shown.
        """
        parts: list[Piece] = []
        parts += self._fill(self.head, {})
        if len(history):
            parts += self._fill(self.history, {"history": self._list(history, "history")})
        else:
            parts += self._fill(self.no_history, {})
        parts += self._fill(self.question, {"candidates": self._list(candidates, "candidate")})
        parts += self._fill(self.answer, {})
        return _merged(parts)

    def _list(self, items: Sequence[int], role: Literal["history", "candidate"]) -> list[Piece]:
        parts: list[Piece] = []
        for number, item in enumerate(items):
            if number:
                parts.append(Text(self.separator))
            parts += self._fill(self.item, {"title": [Title(int(item), role)], "item": [ItemSlot(int(item), role)]})
        return parts

    def _fill(self, part: str, places: dict[str, list[Piece]]) -> list[Piece]:
        words = self.words.places()
        pieces: list[Piece] = []
        for text, name, _, _ in string.Formatter().parse(part):
            if text:
                pieces.append(Text(text))
            if name == "user":
                pieces.append(UserSlot())
            elif name in words:
                pieces.append(Text(words[name]))
            elif name is not None:
                pieces += places[name]
        return pieces


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbouring texts as one, so that the tokenizer sees whole phrases."""
    merged: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Text) and merged and isinstance(merged[-1], Text):
            merged[-1] = Text(merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged
