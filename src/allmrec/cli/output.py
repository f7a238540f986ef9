"""Output that stops no work: a reader that has gone, a full disk behind `>`, or an encoding that lacks a character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

__all__ = ["lasting_output"]


class _Lasting:
    """Stands in the place of a standard stream, and goes on in silence once that takes nothing more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        if self.failed is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if self.failed is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        self.failed = error
        # What is still in the buffer goes nowhere: the interpreter would try again at its end, and complain.
        with suppress(OSError, ValueError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let the block go on to its end whatever becomes of standard output and standard error.

    A reader that has gone, as behind `| head`, has seen what it wanted: the status stays. Where a disk was full, the status
    is 1 and a line on standard error says so. Characters that the terminal's encoding lacks are written as escapes.
    """
    before = sys.stdout, sys.stderr
    streams = {}
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        # A stream that was closed from the start (`>&-`) is none.
        streams[name] = _Lasting(open(os.devnull, "w", encoding="utf-8") if stream is None else stream)  # noqa: SIM115  # it lasts as long as the process
    for name, stream in streams.items():
        if isinstance(stream._stream, io.TextIOWrapper):
            stream._stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast(TextIO, stream))
    try:
        yield
    finally:
        for stream in streams.values():
            stream.flush()
        lost = streams["stdout"].failed
        if lost is not None and lost.errno != errno.EPIPE:
            print(
                f"error: standard output takes nothing more ({lost.strerror}). What was done is kept; what was to be "
                "printed is lost.",
                file=sys.stderr,
            )
            sys.stderr.flush()
            sys.exit(1)
        sys.stdout, sys.stderr = before
