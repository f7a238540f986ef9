"""Progress for people: a bar with time left on a terminal, nothing elsewhere; knows nothing of the work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Bar", "progress_bar", "track"]

T = TypeVar("T")

# Bars go to standard error so that what a command prints can be piped.
_console = Console(stderr=True)


class Bar:
    """One line of progress: how far, what is known of the quality so far, and the time left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: int = 1, status: str | None = None) -> None:
        """Move on by `steps`; `status` is a short text such as the current loss."""
        if status is None:
            self._progress.update(self._task, advance=steps)
        else:
            self._progress.update(self._task, advance=steps, status=status)


@contextmanager
def progress_bar(description: str, total: int | None, done: int = 0) -> Iterator[Bar]:
    """Show a bar for the length of the block. Silent where standard error is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=_console, disable=not _console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(description, total=total, completed=done, status=""))


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with progress_bar(description, total) as bar:
        for item in iterable:
            yield item
            bar.advance()
