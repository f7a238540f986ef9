"""Progress for people: a bar with time left on a terminal, nothing elsewhere; knows nothing of the work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

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

SECONDS_BETWEEN_LINES = 30.0

# Bars go to standard error so that what a command prints can be piped.
_console = Console(stderr=True)


class Bar:
    """One line of progress: how far, what is known of the quality so far, and the time left.

    Where there is no terminal, a plain line once in a while says the same, so that a log shows that work goes on.
    """

    def __init__(self, progress: Progress, task: TaskID, silent: bool = False) -> None:
        self._progress, self._silent = progress, silent
        self._task = task
        self._said = time.monotonic()

    def advance(self, steps: int = 1, status: str | None = None) -> None:
        """Move on by `steps`; `status` is a short text such as the current loss."""
        fields: dict[str, Any] = {} if status is None else {"status": status}
        self._progress.update(self._task, advance=steps, **fields)
        if self._progress.disable and not self._silent and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            task = self._progress.tasks[0]
            total = "" if task.total is None else f"/{task.total:.0f}"
            _console.print(f"{task.description}: {task.completed:.0f}{total} {task.fields['status']}", highlight=False)


@contextmanager
def progress_bar(description: str, total: int | None, done: int = 0, silent: bool = False) -> Iterator[Bar]:
    """Show a bar for the length of the block; without a terminal a line every SECONDS_BETWEEN_LINES.

    Args:
        description: what is being done.
        total: how many steps there are, where that is known.
        done: how many lie behind.
        silent: show nothing, because another process does.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=_console, disable=silent or not _console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(description, total=total, completed=done, status=""), silent)


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with progress_bar(description, total) as bar:
        for item in iterable:
            yield item
            bar.advance()
