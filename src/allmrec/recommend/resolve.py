"""From an answer in words to the item that it names, exactly or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from allmrec.data.texts import clean_text
from allmrec.prompting.template import PromptTemplate

__all__ = ["AnswerStatistics", "Resolution", "TitleResolver", "template_quotes"]

_QUOTES = "\"'`´‘’‚“”„«»‹›"


@dataclass(frozen=True)
class Resolution:
    """What an answer names.

    Attributes:
        item: the item's number, or None where the answer names none or several.
        kind: `candidate`: one of the candidates; `catalogue`: another item; `ambiguous`: a title that several items
            bear, none of them a candidate; `none`: no item's title.
    """

    item: int | None
    kind: Literal["candidate", "catalogue", "ambiguous", "none"]


@dataclass(frozen=True)
class AnswerStatistics:
    """How many answers named what; counts, so that they can be added up.

    Attributes:
        asked: answers.
        in_candidates: those that name a candidate.
        valid: those that name one item, candidate or not.
        in_catalogue: those that are a title of the catalogue, one that several items bear included.
    """

    asked: int = 0
    in_candidates: int = 0
    valid: int = 0
    in_catalogue: int = 0

    @classmethod
    def of(cls, resolutions: Iterable[Resolution]) -> AnswerStatistics:
        """Count."""
        kinds = [resolution.kind for resolution in resolutions]
        candidates, ambiguous = kinds.count("candidate"), kinds.count("ambiguous")
        valid = candidates + kinds.count("catalogue")
        return cls(asked=len(kinds), in_candidates=candidates, valid=valid, in_catalogue=valid + ambiguous)

    def __add__(self, other: AnswerStatistics) -> AnswerStatistics:
        return AnswerStatistics(
            self.asked + other.asked,
            self.in_candidates + other.in_candidates,
            self.valid + other.valid,
            self.in_catalogue + other.in_catalogue,
        )

    def __str__(self) -> str:
        return (
            f"of {self.asked} answers {self.in_candidates} name a candidate, {self.valid} one item of the catalogue, "
            f"{self.in_catalogue - self.valid} a title of several"
        )


class TitleResolver:
    """Finds the item whose title an answer is, word for word.

    Titles and answers are compared after the cleaning that titles get when a data set is read (entities, tags and white
    space). An answer that goes on after the title, or stops before its end, names nothing: the released program counts
    a hit where either contains the other, and so an empty answer always hits.

    Args:
        titles: by item number, entry 0 unused; None where the catalogue has no title.
        quotes: what the prompt puts around a title, and an answer may repeat; none: nothing.
        fold_case: take capitals and small letters for the same.
    """

    def __init__(
        self, titles: Sequence[str | None], quotes: tuple[str, str] | None = None, fold_case: bool = False
    ) -> None:
        self._titles, self._quotes, self._fold_case = titles, quotes, fold_case
        self._items: dict[str, list[int]] = defaultdict(list)
        for item, title in enumerate(titles):
            if item and title is not None:
                self._items[self._key(title)].append(item)

    def resolve(
        self, answer: str, candidates: Sequence[int] | None = None, shown: Sequence[str] | None = None
    ) -> Resolution:
        """The item that an answer names.

        Args:
            answer: what was said.
            candidates: item numbers that go first; where several bear the title, the first of them counts. None: the
                catalogue alone.
            shown: what the prompt calls each candidate, where that is not its title: titles that were cut, words for a
                missing one.
        """
        calls = [self._called(item) for item in candidates or ()]
        if shown is not None:
            calls = [{*known, self._key(words)} for known, words in zip(calls, shown, strict=True)]
        keys = [key for key in self._readings(answer) if key]
        for key in keys:
            for item, known in zip(candidates or (), calls, strict=True):
                if key in known:
                    return Resolution(int(item), "candidate")
        for key in keys:
            items = self._items.get(key, [])
            if items:
                return Resolution(items[0], "catalogue") if len(items) == 1 else Resolution(None, "ambiguous")
        return Resolution(None, "none")

    def _called(self, item: int) -> set[str]:
        # New items may have come since; `shown` says what they are called.
        title = self._titles[item] if item < len(self._titles) else None
        return set() if title is None else {self._key(title)}

    def _readings(self, answer: str) -> list[str]:
        """The answer as it is, and without the quotes around it."""
        words = clean_text(answer)
        readings = [words]
        if self._quotes is not None and len(words) > 1:
            opening, closing = self._quotes
            if words.startswith(opening) and words.endswith(closing):
                readings.append(words[len(opening) : -len(closing)])
        return [self._key(reading) for reading in readings]

    def _key(self, title: str) -> str:
        words = clean_text(title)
        return words.casefold() if self._fold_case else words


def template_quotes(template: PromptTemplate) -> tuple[str, str] | None:
    """The quotes that a template puts around a title, or None."""
    before, _, after = template.part("item").partition("{title}")
    if before[-1:] and before[-1] in _QUOTES and after[:1] and after[0] in _QUOTES:
        return before[-1], after[0]
    return None
