"""What a language model is asked in place of a recommendation, and the words of the domain."""

from __future__ import annotations

import string
from typing import ClassVar, Self

from pydantic import Field, model_validator

from allmrec.core.config import Config

__all__ = [
    "GENRES",
    "PROFILE",
    "REASON",
    "WORDS",
    "DomainWords",
    "ItemQuestion",
    "Question",
    "UserQuestion",
    "check_places",
]


WORDS = frozenset({"verb", "past", "noun", "article"})


def check_places(part: str, text: str, names: frozenset[str]) -> None:
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


class Question(Config):
    """What is asked in place of a recommendation, after the same head and history.

    `{verb}`, `{past}`, `{noun}` and `{article}` are the domain's words.
    """

    question: str = Field(description="What is asked.")
    answer: str = Field(description="What the answer follows.")

    _may_hold: ClassVar[frozenset[str]] = WORDS

    @model_validator(mode="after")
    def _known_places(self) -> Self:
        check_places("question", self.question, self._may_hold)
        check_places("answer", self.answer, WORDS)
        return self


class ItemQuestion(Question):
    """What is asked of one item; `{chosen}` is the item as a list shows it, its leading blank included."""

    question: str = Field("The {noun}{chosen} is recommended to this user. ", description="The item's part.")

    _may_hold: ClassVar[frozenset[str]] = WORDS | {"chosen"}

    @model_validator(mode="after")
    def _holds_the_item(self) -> Self:
        if "{chosen}" not in self.question:
            raise ValueError("question must hold {chosen}")
        return self


class UserQuestion(Question):
    """What is asked of the user, without a chosen item."""


GENRES = ItemQuestion(answer="The genres of this {noun} are:")
REASON = ItemQuestion(answer="This {noun} fits this user because")
# The paper asks what the user "would enjoy watching" (its figure of free text); "to watch" needs no spelling rule of the
# verb, so that any verb may stand there.
PROFILE = UserQuestion(question="Specify the genres this user would like to {verb}. ", answer="The genres are:")
