"""Ids to contiguous numbers and back; knows neither what an id stands for nor where it came from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from allmrec.core.errors import DataError, UnknownIdError

__all__ = ["Vocabulary"]

# Comparing one id with every other is slow in a large vocabulary, and only a hint comes of it.
_COMPARED = 5000

# Unknown ids that a message names.
_NAMED = 10


@dataclass(frozen=True)
class Vocabulary:
    """A one-to-one map between ids, which are text, and contiguous numbers.

    Attributes:
        ids: the ids in the order of their numbers.
        first: the number of the first id. Items begin at 1, because 0 pads; users begin at 0.
        kind: the word for one of them in messages.

    Raises:
        DataError: an id stands twice.
    """

    ids: tuple[str, ...]
    first: int
    kind: str = "id"

    def __post_init__(self) -> None:
        if len(self._numbers) != len(self.ids):
            # The map keeps the last number of each id, so the first id that it puts elsewhere stands twice.
            twice = next(name for number, name in enumerate(self.ids, self.first) if self._numbers[name] != number)
            raise DataError(f"{self.kind} {twice!r} stands twice in a vocabulary; ids must differ.")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return dict(zip(self.ids, range(self.first, self.first + len(self.ids)), strict=True))

    def __len__(self) -> int:
        """How many ids there are; the padding number is none."""
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        """Whether there is such an id."""
        return name in self._numbers

    def __iter__(self) -> Iterator[str]:
        """The ids in the order of their numbers."""
        return iter(self.ids)

    def get(self, name: str) -> int | None:
        """The number of an id, or None where the vocabulary does not hold it."""
        return self._numbers.get(name)

    def number(self, name: str) -> int:
        """The number of an id.

        Raises:
            UnknownIdError: the vocabulary does not hold it; the message offers the nearest ids.
        """
        number = self._numbers.get(name)
        if number is not None:
            return number
        close = difflib.get_close_matches(name, islice(self._similar(name), _COMPARED), n=3)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise UnknownIdError(f"There is no {self.kind} {name!r} among {len(self.ids)}.{hint}")

    def numbers(self, names: Iterable[str]) -> list[int]:
        """The numbers of several ids.

        Raises:
            UnknownIdError: some are not there; the message counts and names them.
        """
        names = list(names)
        unknown = [name for name in names if name not in self._numbers]
        if len(unknown) > 1:
            shown = ", ".join(map(repr, unknown[:_NAMED])) + (", …" if len(unknown) > _NAMED else "")
            raise UnknownIdError(f"{len(unknown)} of {len(names)} {self.kind}s are not among {len(self.ids)}: {shown}.")
        return [self.number(name) for name in names]

    def id(self, number: int) -> str:
        """The id that has a number.

        Raises:
            UnknownIdError: no id has it. The padding number has none either.
        """
        if not self.first <= number < self.first + len(self.ids):
            raise UnknownIdError(
                f"There is no {self.kind} with number {number}; "
                f"numbers go from {self.first} to {self.first + len(self.ids) - 1}."
            )
        return self.ids[number - self.first]

    def extended(self, ids: Iterable[str]) -> Vocabulary:
        """A vocabulary with more ids behind these, whose numbers stay."""
        return Vocabulary((*self.ids, *ids), self.first, self.kind)

    def _similar(self, name: str) -> Iterator[str]:
        """Ids that may be near: about as long, and the same at the beginning or at the end."""
        start, end = name[:2].casefold(), name[-2:].casefold()
        for other in self.ids:
            if abs(len(other) - len(name)) <= 2:
                folded = other.casefold()
                if folded.startswith(start) or folded.endswith(end):
                    yield other
