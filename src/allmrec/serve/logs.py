"""Log lines of the server as JSON objects, one a line. They name no user and no item unless that is asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LOGGER", "log", "logging_as_json"]

LOGGER = logging.getLogger("allmrec.serve")


class _Json(logging.Formatter):
    """One JSON object a line; whatever a text holds, it is one line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Sparse(logging.Filter):
    """Of the lines that one place in a program writes, one a minute; `held_back` says how many came since the one before."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place = record.pathname, record.lineno
        last, held = self._seen.get(place, (-self._seconds, 0))
        if record.created - last < self._seconds:
            self._seen[place] = last, held + 1
            return False
        if held:
            record.fields = {"held_back": held}
        self._seen[place] = record.created, 0
        return True


def log(event: str, level: int = logging.INFO, exc_info: Any = None, **fields: Any) -> None:
    """Log an event with fields."""
    LOGGER.log(level, event, exc_info=exc_info, extra={"fields": fields})


@contextmanager
def logging_as_json(*others: str) -> Iterator[None]:
    """Write the log to standard error as JSON for the length of the block, the library's and uvicorn's lines among it.

    Args:
        others: loggers whose warnings are to be among it too, of those of one kind one a minute: a cluster that has lost a node
            warns at every request.
    """
    levels = {"allmrec": logging.INFO, **dict.fromkeys(("uvicorn", *others), logging.WARNING)}
    before = {}
    for name, level in levels.items():
        found = logging.getLogger(name)
        before[name] = (found.handlers, found.propagate, found.level)
        # One each: a library that formats its own handler anew formats no other.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Json())
        if name in others:
            handler.addFilter(_Sparse())
        found.handlers, found.propagate = [handler], False
        found.setLevel(level)
    try:
        yield
    finally:
        for name, (handlers, propagate, level) in before.items():
            found = logging.getLogger(name)
            found.handlers, found.propagate = handlers, propagate
            found.setLevel(level)
