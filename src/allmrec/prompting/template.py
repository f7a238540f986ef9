"""The prompt's words as data, in named forms, and how they become typed pieces."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from allmrec.core.config import Config
from allmrec.prompting.pieces import Block, ItemSlot, Piece, Text, Title, UserSlot
from allmrec.prompting.questions import WORDS, DomainWords, Question, check_places

__all__ = ["FORMS", "PromptTemplate"]


@dataclass(frozen=True)
class _Form:
    """The parts of a named prompt form."""

    head: str
    history: str
    no_history: str
    question: str
    answer: str
    item: str
    separator: str
    parallel: bool


FORMS: Mapping[str, _Form] = {
    # The paper's words (section 3.2).
    "paper": _Form(
        head="{user} is a user representation. ",
        history="This user has {past} [{history}] in the past. ",
        no_history="This user has {past} nothing so far. ",
        question="Recommend {article} {noun} for this user to {verb} next from the following set of {noun} titles, "
        "[{candidates}]. ",
        answer="The recommendation is",
        item="{title}{item}",
        separator=",",
        parallel=False,
    ),
    # Ours: each slot stands before its title, and the user's slot where the answer begins, so that the answer is a copy
    # of what follows the slot that is most like the user's (docs/prompt_forms.md).
    "copy": _Form(
        head="",
        history="",
        no_history="",
        question="Recommend {article} {noun} from these:{candidates}",
        answer="{user}",
        item="{item}{title}",
        separator="",
        parallel=True,
    ),
}

# The parts that may hold the user slot.
_USER_PARTS = ("head", "history", "no_history", "question", "answer")


class PromptTemplate(Config):
    """The prompt, part by part: those of a named form, and what is said otherwise.

    `{user}` is the user slot, which may stand in any part but `item`; in `item` `{title}` is the title and `{item}` the
    item slot, in either order; `{history}` and `{candidates}` are lists of items; `{verb}`, `{past}` and `{noun}` are the
    domain's words, `{article}` is a or an. A system without vectors reads the paper's words without `{user}` and `{item}`.
    """

    words: DomainWords = DomainWords()
    form: Literal["paper", "copy"] = Field(
        "paper",
        description="What every part is that is not given here. `paper`: the paper's prompt (section 3.2); `copy` (ours): "
        "few words, no history, each slot before its title, the user's slot where the answer begins, candidates in parallel.",
    )
    head: str | None = Field(None, description="The user's part; none: the form's.")
    history: str | None = Field(None, description="The history's part; none: the form's.")
    no_history: str | None = Field(None, description="Said when the history is empty; none: the form's.")
    question: str | None = Field(None, description="The candidates' part; none: the form's.")
    answer: str | None = Field(None, description="What the answer follows; none: the form's.")
    item: str | None = Field(None, description="One item of a list; none: the form's.")
    separator: str | None = Field(
        None,
        description="Between two items of a list; each title brings its leading space. None: the form's, and nothing in a "
        "parallel list.",
    )
    parallel: bool | None = Field(
        None,
        description="Candidates are read in parallel: each sees what stands before the list and itself, and all begin at the "
        "same position (Ratner et al., 2023, parallel context windows). Their order then says nothing, and what was computed "
        "for an item serves every list that it stands in. None: the form's.",
    )
    untitled: str = Field("untitled {noun}", description="Said of an item whose title is missing.")

    @model_validator(mode="after")
    def _known_places(self) -> PromptTemplate:
        anywhere = WORDS | {"user"}
        allowed = {
            "head": anywhere,
            "history": anywhere | {"history"},
            "no_history": anywhere,
            "question": anywhere | {"candidates"},
            "answer": anywhere,
            "item": WORDS | {"title", "item"},
            "separator": frozenset[str](),
        }
        for part, names in allowed.items():
            check_places(part, self.part(part), names)
        check_places("untitled", self.untitled, WORDS)
        if "{candidates}" not in self.part("question"):
            raise ValueError("question must hold {candidates}")
        for shown in ("history", "no_history"):
            found = [part for part in ("head", shown, "question", "answer") if "{user}" in self.part(part)]
            if len(found) > 1 or any(self.part(part).count("{user}") > 1 for part in found):
                raise ValueError(f"{' and '.join(found)} hold {{user}}; a prompt has one user slot at most")
        if ("{user}" in self.part("history")) != ("{user}" in self.part("no_history")):
            raise ValueError(
                "one of history and no_history holds {user}; a prompt has its user slot with and without history"
            )
        if self.is_parallel:
            if self.separator:
                raise ValueError("a parallel list has no separator between its items; leave separator out")
            if not _behind_list({name: self.part(name) for name in ("question", "answer")}):
                raise ValueError(
                    "something must follow a parallel list, for the answer to begin at: give answer a word"
                )
        return self

    def part(self, name: str) -> str:
        """A part's text: what is given, or the form's."""
        given: str | None = getattr(self, name)
        if given is not None:
            return given
        if name == "separator" and self.is_parallel:
            return ""
        text: str = getattr(FORMS[self.form], name)
        return text

    @property
    def is_parallel(self) -> bool:
        """Whether the candidates are read in parallel."""
        return FORMS[self.form].parallel if self.parallel is None else self.parallel

    @property
    def shows_history(self) -> bool:
        """Whether the prompt lists items of the history."""
        return "{history}" in self.part("history")

    @property
    def has_user(self) -> bool:
        """Whether the prompt has a user slot."""
        return any("{user}" in self.part(name) for name in _USER_PARTS)

    @property
    def is_shared(self) -> bool:
        """Whether what stands before and in the list is the same for all users, so that it need be read but once."""
        before = self.part("head") + self.part("history") + self.part("no_history")
        before += self.part("question").partition("{candidates}")[0]
        return self.is_parallel and not self.shows_history and "{user}" not in before

    def without_user(self) -> PromptTemplate:
        """The same words without the user slot; a head that is about nothing else goes with it.

        Where a parallel list would be the end, the answer begins at a colon.
        """
        names = ("history", "no_history", "question", "answer")
        parts = {name: self.part(name).replace("{user}", "") for name in names}
        if self.is_parallel and not _behind_list(parts):
            parts["answer"] = ":"
        head = self.part("head")
        return self.model_copy(update={**parts, "head": "" if "{user}" in head else head})

    def without_items(self) -> PromptTemplate:
        """The same words without item slots."""
        return self.model_copy(update={"item": self.part("item").replace("{item}", "")})

    def without_vectors(self) -> PromptTemplate:
        """What LLM-Only and TALLRec read: the words without user and item slots.

        Of the form `copy` nothing would be left without its slots, so there it is the paper's words.
        """
        plain = PromptTemplate(words=self.words, untitled=self.untitled) if self.form == "copy" else self
        return plain.without_user().without_items()

    def asking(self, question: Question) -> PromptTemplate:
        """The same head and history with another question, of one candidate or of none.

        The form `copy` has neither, so there they are the paper's; its order of slot and title stays. There is a user slot
        where there was one: in the paper's head, if the part that held it is not asked here.
        """
        words = question.question.replace("{chosen}", "{candidates}")
        update = {"question": words, "answer": question.answer, "parallel": False}
        if self.form == "copy":
            update |= {name: getattr(FORMS["paper"], name) for name in ("head", "history", "no_history", "separator")}
        asked = self.model_copy(update=update)
        if not self.has_user:
            return asked.without_user()
        return asked if asked.has_user else asked.model_copy(update={"head": FORMS["paper"].head + asked.part("head")})

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
        parts += self._fill("head", {})
        if len(history):
            parts += self._fill("history", {"history": self._list(history, "history")})
        else:
            parts += self._fill("no_history", {})
        parts += self._fill("question", {"candidates": self._list(candidates, "candidate")})
        parts += self._fill("answer", {})
        return _merged(parts)

    def block(self, item: int) -> list[Piece]:
        """One candidate as a list shows it."""
        return self._item(item, "candidate")

    def _list(self, items: Sequence[int], role: Literal["history", "candidate"]) -> list[Piece]:
        parts: list[Piece] = []
        separator = self.part("separator")
        parallel = self.is_parallel and role == "candidate"
        for number, item in enumerate(items):
            if number and separator:
                parts.append(Text(separator))
            shown = self._item(int(item), role)
            parts += [Block(tuple(_merged(shown)))] if parallel else shown  # type: ignore[arg-type]  # items hold no block
        return parts

    def _item(self, item: int, role: Literal["history", "candidate"]) -> list[Piece]:
        return self._fill("item", {"title": [Title(item, role)], "item": [ItemSlot(item, role)]})

    def _fill(self, part: str, places: dict[str, list[Piece]]) -> list[Piece]:
        words = self.words.places()
        pieces: list[Piece] = []
        for text, name, _, _ in string.Formatter().parse(self.part(part)):
            if text:
                pieces.append(Text(text))
            if name == "user":
                pieces.append(UserSlot())
            elif name in words:
                pieces.append(Text(words[name]))
            elif name is not None:
                pieces += places[name]
        return pieces


def _behind_list(parts: Mapping[str, str]) -> str:
    """What follows the list of candidates."""
    return parts["question"].partition("{candidates}")[2] + parts["answer"]


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring texts as one, so that the tokenizer sees whole phrases."""
    merged: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Text) and merged and isinstance(merged[-1], Text):
            merged[-1] = Text(merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged
