"""What every file reader gives back, and what becomes of a bad line."""

from __future__ import annotations

import gzip
import stat
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from allmrec.core.errors import AllmrecWarning, DataError

__all__ = [
    "MAX_SKIPPED",
    "MAX_UNPACKED",
    "MOST_TIMES",
    "OnError",
    "Problems",
    "Role",
    "Rows",
    "Wanted",
    "check_file",
    "check_unpacked",
    "open_failure",
    "read_bytes",
    "shown",
    "shown_all",
    "wanted_of",
]

OnError = Literal["fail", "skip"]

# What a column is for decides what may stand in it: an id is text or a whole number, a number may be a timestamp, a
# time keeps its unit where the format has one, "texts" may be a list of texts where the format has lists.
Role = Literal["id", "number", "time", "text", "texts"]

# The columns to read with their roles, or a function that chooses them among the names that a file has.
Wanted: TypeAlias = Mapping[str, Role] | Callable[[tuple[str, ...]], Mapping[str, Role]]

# The share of a file's lines that may be left out, and as many lines of any file, because shares of a few mean nothing.
MAX_SKIPPED = 0.1
_FEW = 10

# What a packed file may unpack to, in MiB, where it is more than so many times its size. Logs are packed to a tenth or
# a thirtieth; what goes beyond a hundredth was made to fill a memory.
MAX_UNPACKED = 512
MOST_TIMES = 100

_PART = 1 << 24
_RANGES_KEPT = 1000
_RANGES_SHOWN = 8


class Problems:
    """Decides about bad lines: the first one fails, or each is left out and counted by file and kind.

    It also keeps what else there is to say of the files: what was chosen for the user, and what should make him look.

    Args:
        on_error: whether a bad line fails or is left out.
        max_skipped: the share of a file's lines that may be left out; None is MAX_SKIPPED, with which any file may lose
            ten lines.
        max_unpacked: what a packed file may unpack to, in MiB, where that is more than a hundred times its size.

    Attributes:
        skipped: how many lines were left out, by file and kind.
        columns: by file, what its columns were used for.
        notes: what was recognised in the files without being told.
        warnings: what is probably not as it should be.
    """

    def __init__(
        self, on_error: OnError = "fail", max_skipped: float | None = None, max_unpacked: int = MAX_UNPACKED
    ) -> None:
        self.on_error = on_error
        self.max_skipped = max_skipped
        self.max_unpacked = max_unpacked
        self.skipped: Counter[str] = Counter()
        self.columns: dict[str, dict[str, str]] = {}
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._lost: Counter[Path] = Counter()
        self._ranges: dict[str, list[list[int]]] = {}

    def add(
        self,
        kind: str,
        message: str,
        path: Path,
        line: int | None,
        count: int = 1,
        lines: Iterable[int] | None = None,
    ) -> None:
        """Report a bad line.

        Args:
            kind: the same few words for every line of this kind.
            message: what was found on this line and what was expected.
            path: the file.
            line: the line, counted from 1, or None where the format has no lines.
            count: how many lines of that kind there are; `line` is the first.
            lines: which they are, where there are several.

        Raises:
            DataError: unless bad lines are skipped.
        """
        if self.on_error == "fail":
            raise DataError(
                f"{message}. Correct it, or leave out such lines: --on-error skip (on_error='skip').", path, line
            )
        key = f"{path.name}: {kind}"
        self.skipped[key] += count
        self._lost[path] += count
        ranges = self._ranges.setdefault(key, [])
        for number in lines if lines is not None else () if line is None else (line,):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1][1] = number
            elif len(ranges) < _RANGES_KEPT:
                ranges.append([number, number])

    def note(self, text: str) -> None:
        """Keep what was recognised without being told, once."""
        if text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """Warn of what is probably not as it should be, and keep it."""
        if text not in self.warnings:
            self.warnings.append(text)
            warnings.warn(text, AllmrecWarning, stacklevel=2)

    def skipped_lines(self) -> dict[str, str]:
        """Which lines were left out, by file and kind, such as "3-7, 12"; nothing where the format has no lines."""
        return {key: _ranges_text(ranges) for key, ranges in self._ranges.items() if ranges}

    def lost(self, path: Path) -> int:
        """How many lines of a file were left out."""
        return self._lost[path]

    def require_share(self, path: Path, kept: int) -> None:
        """Check that no more of a file was left out than may be.

        Args:
            path: the file.
            kept: how many rows of it are used.

        Raises:
            DataError: more was left out.
        """
        lost = self._lost[path]
        total = lost + kept
        allowed = max(MAX_SKIPPED * total, _FEW) if self.max_skipped is None else self.max_skipped * total
        if lost <= allowed:
            return
        where = self.skipped_lines()
        found = "; ".join(
            f"{count:,} of kind {key.removeprefix(path.name + ': ')!r}"
            + (f", lines {where[key]}" if key in where else "")
            for key, count in self.skipped.items()
            if key.startswith(path.name + ": ")
        )
        share = MAX_SKIPPED if self.max_skipped is None else self.max_skipped
        raise DataError(
            f"{lost:,} of {total:,} lines ({lost / total:.1%}) would be left out, more than the {share:.1%} that may be "
            f"({found}). Correct the file, or allow a larger share with max_skipped (--max-skipped 1 is all)",
            path,
        )


@dataclass(frozen=True)
class Rows:
    """Columns of one file, or of a table in memory.

    Attributes:
        path: the file, or what the table is called in messages.
        names: every column that the file has.
        columns: those that were asked for and exist, as Arrow arrays of text, those of ids perhaps dictionary-encoded;
            numbers, times and lists of texts where the format itself has them.
        n_rows: how many rows.
        lines: gives the line in the file for each row, or None where the format has no lines. Called only to report.
        example: values of the first row, or the types of columns, by name; as much as the format shows at no cost.
        headerless: whether columns are called by number.
    """

    path: Path
    names: tuple[str, ...]
    columns: Mapping[str, pa.Array]
    n_rows: int
    lines: Callable[[], Sequence[int] | None]
    example: Mapping[str, Any] = field(default_factory=dict)
    headerless: bool = False

    def line(self, row: int) -> int | None:
        """The line of a row, counted from 1, or None where the format has no lines."""
        lines = self.lines()
        return None if lines is None or row >= len(lines) else lines[row]

    def where(self, row: int) -> str:
        """The beginning of a message about a row, for formats without lines."""
        return "" if self.lines() is not None else f"row {row + 1}: "


def wanted_of(wanted: Wanted, names: Iterable[str]) -> Mapping[str, Role]:
    """The columns to read of a file that has these."""
    return wanted(tuple(names)) if callable(wanted) else wanted


def read_bytes(path: Path, max_unpacked: int = MAX_UNPACKED) -> bytes:
    """All bytes of a file, uncompressed where it is gzip.

    Args:
        path: the file.
        max_unpacked: what it may unpack to in MiB, see `check_unpacked`.

    Raises:
        DataError: the file is missing, unreadable, damaged gzip, or unpacks to too much.
    """
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not zipped:
                return raw.read()
            parts: list[bytes] = []
            size = 0
            with gzip.open(raw) as unpacked:
                while part := unpacked.read(_PART):
                    parts.append(part)
                    size += len(part)
                    check_unpacked(path, size, raw.tell(), max_unpacked)
            return b"".join(parts)
    except (OSError, EOFError, zlib.error) as error:
        raise open_failure(path, error) from error


def check_unpacked(path: Path, size: int, packed: int, max_unpacked: int) -> None:
    """Refuse what unpacks to far more than any log does, before it fills the memory.

    Args:
        path: the file.
        size: the bytes that it unpacked to so far, or would.
        packed: the bytes that they were packed in.
        max_unpacked: the limit in MiB. Below it, and below a hundred times `packed`, everything is right.

    Raises:
        DataError: both are exceeded.
    """
    if size > max_unpacked << 20 and size > MOST_TIMES * packed:
        raise DataError(
            f"unpacks to more than {max_unpacked:,} MiB and more than {MOST_TIMES} times its size; expected a log, which "
            "packs to a tenth or so. If it is right, raise the limit with max_unpacked (--max-unpacked, in MiB)",
            path,
        )


def check_file(path: Path) -> None:
    """Refuse what is no file before it is opened: a pipe that nobody writes to would be waited for without end.

    Where nothing is there at all, not even a link, its reader says so.

    Raises:
        DataError: it is a folder, a pipe, a device, or a link that leads nowhere.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise open_failure(path, error) from error
        return
    if stat.S_ISDIR(mode):
        raise open_failure(path, IsADirectoryError())
    if not stat.S_ISREG(mode):
        raise DataError(
            "this is a pipe or a device; expected a file, since it is read more than once. Write it to a file first",
            path,
        )


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


def _ranges_text(ranges: list[list[int]]) -> str:
    """Ranges of lines for people: the first ones, and how many there are beside them."""
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_RANGES_SHOWN]]
    more = len(ranges) - len(parts)
    if more:
        parts.append(f"and {'at least ' if len(ranges) == _RANGES_KEPT else ''}{more:,} ranges more")
    return ", ".join(parts)
