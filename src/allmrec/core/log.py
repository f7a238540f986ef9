"""The library's logger, `allmrec`. It is the standard library's: nothing is shown until a program sets up logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from allmrec.core.visible import visible

__all__ = ["logger", "shown_on_stderr"]

logger = logging.getLogger("allmrec")
logger.addHandler(logging.NullHandler())


class _Visible(logging.Formatter):
    """Shows texts of a catalogue as they are."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), lines=True)


@contextmanager
def shown_on_stderr() -> Iterator[None]:
    """Show what is logged as plain lines on standard error for the length of the block, as the command line does."""
    handler, level = logging.StreamHandler(), logger.level
    handler.setFormatter(_Visible("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
