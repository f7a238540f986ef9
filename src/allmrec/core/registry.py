"""Tables of things by name that other installed packages can add to by an entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import lru_cache
from importlib import metadata
from typing import Generic, TypeVar

from allmrec.core.errors import ConfigError

__all__ = ["Registry"]

T = TypeVar("T")


@lru_cache
def _entry_points(group: str, places: tuple[str, ...]) -> Mapping[str, metadata.EntryPoint]:
    """By name. To find them takes a look into every package in these places, milliseconds each time, and an entry is looked up often."""
    return {point.name: point for point in metadata.entry_points(group=group)}


class Registry(MutableMapping[str, T], Generic[T]):
    """Our entries first, then those of other packages in the order of their names.

    A package adds one in its `pyproject.toml`; the name before the equals sign is the entry's:

        [project.entry-points."allmrec.backbones"]
        mean = "my_package.mean:KIND"

    Its module is imported when the entry is first looked up, not when names are listed. A package that is installed while the
    process runs is found by the next process.

    Args:
        group: of the entry points.
        kind: class of the entries.
        entries: ours.
    """

    def __init__(self, group: str, kind: type[T], entries: Mapping[str, T]) -> None:
        self._group, self._kind = group, kind
        self._known, self._loaded = dict(entries), dict[str, T]()
        self._ours = frozenset(entries)

    def __getitem__(self, name: str) -> T:
        """The entry of that name.

        Raises:
            KeyError: there is none.
            ConfigError: another package's entry cannot be imported, is of another class, or has the name of one of ours.
        """
        if name in self._known:
            if name in self._ours and name in self._points():
                raise ConfigError(
                    f"{self._package(name)} adds {name!r} to {self._group}, and allmrec has that name itself."
                )
            return self._known[name]
        point = self._points()[name]
        if name in self._loaded:
            return self._loaded[name]
        try:
            found = point.load()
        except Exception as error:  # whatever another's package raises is what must be said
            raise ConfigError(
                f"{self._package(name)} adds {name!r} to {self._group}, and {point.value} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, self._kind):
            raise ConfigError(
                f"{self._package(name)} adds {name!r} to {self._group}: {point.value} is a {type(found).__name__}; expected "
                f"a {self._kind.__name__}."
            )
        self._loaded[name] = found
        return found

    def __setitem__(self, name: str, entry: T) -> None:
        self._known[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self._known), **dict.fromkeys(sorted(self._points()))})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._points()

    @property
    def outside(self) -> list[str]:
        """Names that other packages add."""
        return sorted(set(self._points()) - self._ours)

    def _points(self) -> Mapping[str, metadata.EntryPoint]:
        return _entry_points(self._group, tuple(sys.path))

    def _package(self, name: str) -> str:
        found = self._points()[name].dist
        return "An installed package" if found is None else f"The package {found.name}"
