"""Progress of long work: a bar with the time left on a terminal, a record in the log once in a while elsewhere.

`ALLMREC_PROGRESS=0` in the environment turns both off, and so does `progress_shown(False)`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
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

from allmrec.core.errors import ConfigError
from allmrec.core.log import logger

__all__ = ["Bar", "loading_bars", "progress_bar", "progress_shown", "track"]

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0

VARIABLE = "ALLMREC_PROGRESS"
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

_chosen: ContextVar[bool | None] = ContextVar("allmrec_progress", default=None)

# Bars go to standard error so that what a command prints can be piped.
_console = Console(stderr=True)


class Bar:
    """One line of progress: how far, what is known of the quality so far, and the time left.

    Where there is no terminal, a record in the log says the same once in a while, so that it shows that work goes on.
    """

    def __init__(self, progress: Progress, task: TaskID, silent: bool = False) -> None:
        self._progress, self._silent = progress, silent
        self._task = task
        self._said = self._begun = time.monotonic()
        self._first = progress.tasks[0].completed

    def advance(self, steps: int = 1, status: str | None = None) -> None:
        """Move on by `steps`; `status` is a short text such as the current loss."""
        fields: dict[str, Any] = {} if status is None else {"status": status}
        self._progress.update(self._task, advance=steps, **fields)
        if self._progress.disable and not self._silent and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            task = self._progress.tasks[0]
            total = "" if task.total is None else f"/{task.total:.0f}"
            more = [text for text in (self._left(task.completed, task.total), task.fields["status"]) if text]
            logger.info(" ".join([f"{task.description}: {task.completed:.0f}{total}", *more]))

    def _left(self, completed: float, total: float | None) -> str:
        """The time left in words, at the speed so far."""
        done = completed - self._first
        if total is None or done <= 0:
            return ""
        seconds = (self._said - self._begun) / done * max(0.0, total - completed)
        return f"({timedelta(seconds=round(seconds))} left)"


@contextmanager
def progress_shown(shown: bool | None) -> Iterator[None]:
    """Show progress within the block, or do not; None leaves it to the environment."""
    before = _chosen.set(shown)
    try:
        yield
    finally:
        _chosen.reset(before)


@contextmanager
def loading_bars() -> Iterator[None]:
    """Within the block transformers draws bars of its own only where progress is shown."""
    from transformers.utils import logging as theirs  # slow to import, and whoever loads a model has it already

    hidden = theirs.is_progress_bar_enabled() and not _is_shown()
    if hidden:
        theirs.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without annotations
    try:
        yield
    finally:
        if hidden:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without annotations


def _is_shown() -> bool:
    """Whether progress is wanted.

    Raises:
        ConfigError: the environment variable is neither on nor off.
    """
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    word = os.environ.get(VARIABLE, "1").strip().lower()
    if word not in _WORDS:
        raise ConfigError(f"{VARIABLE} is {word!r}; expected one of {', '.join(_WORDS)}.")
    return _WORDS[word]


@contextmanager
def progress_bar(description: str, total: int | None, done: int = 0, silent: bool = False) -> Iterator[Bar]:
    """Show a bar for the length of the block; without a terminal log a record every SECONDS_BETWEEN_LINES.

    Args:
        description: what is being done.
        total: how many steps there are, where that is known.
        done: how many lie behind.
        silent: show nothing, because another process does.
    """
    silent = silent or not _is_shown()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
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
