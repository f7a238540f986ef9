"""Ids to contiguous numbers and back; knows neither what an id stands for nor where it came from."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
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
    # The one without added ids, whose map is shared: a map of a million ids takes half a second.
    _begun: Vocabulary | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        earlier, own = self._maps
        if len(earlier) + len(own) != len(self.ids) or not own.keys().isdisjoint(earlier.keys()):
            twice = next(name for name, count in Counter(self.ids).items() if count > 1)
            raise DataError(f"{self.kind} {twice!r} stands twice in a vocabulary; ids must differ.")

    @cached_property
    def _maps(self) -> tuple[dict[str, int], dict[str, int]]:
        """Numbers of the ids that were there before any were added, shared with that vocabulary, and of the others."""
        earlier = {} if self._begun is None else self._begun._maps[1]
        first = self.first + len(earlier)
        added = self.ids[len(earlier) :]
        return earlier, dict(zip(added, range(first, first + len(added)), strict=True))

    def __len__(self) -> int:
        """How many ids there are; the padding number is none."""
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        """Whether there is such an id."""
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """The ids in the order of their numbers."""
        return iter(self.ids)

    def get(self, name: str) -> int | None:
        """The number of an id, or None where the vocabulary does not hold it."""
        earlier, own = self._maps
        number = own.get(name)
        return earlier.get(name) if number is None else number

    def number(self, name: str) -> int:
        """The number of an id.

        Raises:
            UnknownIdError: the vocabulary does not hold it; the message offers the nearest ids.
        """
        number = self.get(name)
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
        unknown = [name for name in names if name not in self]
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
        begun = self if self._begun is None else self._begun
        return Vocabulary((*self.ids, *ids), self.first, self.kind, begun)

    def _similar(self, name: str) -> Iterator[str]:
        """Ids that may be near: about as long, and the same at the beginning or at the end."""
        start, end = name[:2].casefold(), name[-2:].casefold()
        for other in self.ids:
            if abs(len(other) - len(name)) <= 2:
                folded = other.casefold()
                if folded.startswith(start) or folded.endswith(end):
                    yield other
