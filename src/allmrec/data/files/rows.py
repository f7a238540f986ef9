"""What every file reader gives back, and what becomes of a bad line."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from allmrec.core.errors import DataError

__all__ = ["OnError", "Problems", "Role", "Rows", "open_failure", "read_bytes", "shown", "shown_all"]

OnError = Literal["fail", "skip"]

# What a column is for decides what may stand in it: an id is text or a whole number, a number may be a timestamp,
# "texts" may be a list of texts where the format has lists.
Role = Literal["id", "number", "text", "texts"]


class Problems:
    """Decides about bad lines: the first one fails, or each is left out and counted by file and kind."""

    def __init__(self, on_error: OnError = "fail") -> None:
        self.on_error = on_error
        self.skipped: Counter[str] = Counter()

    def add(self, kind: str, message: str, path: Path, line: int | None, count: int = 1) -> None:
        """Report a bad line.

        Args:
            kind: the same few words for every line of this kind.
            message: what was found on this line and what was expected.
            path: the file.
            line: the line, counted from 1, or None where the format has no lines.
            count: how many lines of that kind there are; `line` is the first.

        Raises:
            DataError: unless bad lines are skipped.
        """
        if self.on_error == "fail":
            raise DataError(f"{message}. Correct it, or leave out such lines with on_error='skip'.", path, line)
        self.skipped[f"{path.name}: {kind}"] += count


@dataclass(frozen=True)
class Rows:
    """Columns of one file, or of a table in memory.

    Attributes:
        path: the file, or what the table is called in messages.
        names: every column that the file has.
        columns: those that were asked for and exist, as Arrow arrays of text, those of ids perhaps dictionary-encoded;
            numbers and lists of texts where the format itself has them.
        n_rows: how many rows.
        lines: gives the line in the file for each row, or None where the format has no lines. Called only to report.
    """

    path: Path
    names: tuple[str, ...]
    columns: Mapping[str, pa.Array]
    n_rows: int
    lines: Callable[[], list[int] | None]

    def line(self, row: int) -> int | None:
        """The line of a row, counted from 1, or None where the format has no lines."""
        lines = self.lines()
        return None if lines is None or row >= len(lines) else lines[row]

    def where(self, row: int) -> str:
        """The beginning of a message about a row, for formats without lines."""
        return "" if self.lines() is not None else f"row {row + 1}: "


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, uncompressed where it is gzip.

    Raises:
        DataError: the file is missing, unreadable, or damaged gzip.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise open_failure(path, error) from error


def open_failure(path: Path, error: Exception) -> DataError:
    """The error for a file that could not be read at all."""
    if isinstance(error, FileNotFoundError):
        return DataError("there is no such file; check the path", path)
    if isinstance(error, IsADirectoryError):
        return DataError("this is a folder; expected a file", path)
    if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
        return DataError(f"the gzip data is damaged or cut off ({error}); get the file again", path)
    return DataError(f"the file cannot be read ({error})", path)


def shown(value: object) -> str:
    """A value for a message, of bearable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shown_all(names: Iterable[str], most: int = 30) -> str:
    """Names for a message: the first ones, each of bearable length."""
    known = list(names)
    return ", ".join([*map(shown, known[:most]), *["..."] * (len(known) > most)]) or "none"
