"""Text files of any size as blocks of whole lines, gzip or plain."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from jaxtyping import Int64

from allmrec.core.errors import DataError
from allmrec.data.files.encodings import by_mark, is_utf_8
from allmrec.data.files.rows import MOST_TIMES, Problems, check_unpacked, open_failure

__all__ = ["LONGEST_LINE", "Block", "Span", "beginning", "line_blocks", "read_ahead", "spans", "too_long"]

T = TypeVar("T")

# Large enough that the thread that reads ahead seldom asks for the interpreter.
_BLOCK = 1 << 23

# A record of a shop takes kilobytes; what has no line end for so long is no file of records.
LONGEST_LINE = 1 << 26

# From so many bytes on, a file that was packed suspiciously well is unpacked to its end first.
_LOOK_AHEAD = 1 << 22

_LINE_END = ord("\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Attributes:
        path: the file.
        line: the number of its first line, counted from 1.
        data: the lines' bytes; the last one ends with a line end too.
    """

    path: Path
    line: int
    data: bytes

    @cached_property
    def line_ends(self) -> Int64[np.ndarray, " ends"]:
        """Where the line ends lie."""
        return np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == _LINE_END)

    @property
    def n_lines(self) -> int:
        """How many lines there are, empty ones included."""
        return len(self.line_ends)

    @property
    def first(self) -> bytes | None:
        """The first line that is not empty."""
        begin = 0
        while begin < len(self.data):
            end = self.data.index(b"\n", begin)
            if (line := self.data[begin:end]) and not line.isspace():
                return line
            begin = end + 1
        return None

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines that are not empty, with their numbers."""
        for number, line in enumerate(self.data.split(b"\n"), start=self.line):
            if line and not line.isspace():
                yield number, line


def too_long() -> tuple[str, str]:
    """Kind and message of a line that is longer than LONGEST_LINE."""
    return "line too long", f"found a line of more than {LONGEST_LINE >> 20} MiB; expected a record on each line"


def beginning(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, which may be gzip; none where it cannot be read, which its reader says."""
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as handle:
                return handle.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


def line_blocks(path: Path, problems: Problems, size: int = _BLOCK, encoding: str | None = None) -> Iterator[Block]:
    """The lines of a file, which may be gzip, without a byte order mark.

    A gzip file that is cut off ends with a problem, not before the whole lines that it still has. A line longer than
    LONGEST_LINE is a problem and is left out.

    Args:
        path: the file.
        problems: what becomes of damage.
        size: bytes of a block; a longer line makes a longer block.
        encoding: of the file; None: UTF-8, or UTF-16 where the first bytes say so. Blocks are UTF-8.

    Raises:
        DataError: the file is missing or unreadable, or unpacks to too much; or damaged where that fails.
    """
    blocks = _Blocks(path, problems)
    unpacked, measured = 0, False
    recode: _Recoder | None = None
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as handle:
                # read1 gives what there is; read would lose what stands before the damage.
                while piece := handle.read1(size):
                    if zipped:
                        unpacked += len(piece)
                        check_unpacked(path, unpacked, raw.tell(), problems.max_unpacked)
                        if not measured and unpacked > max(_LOOK_AHEAD, MOST_TIMES * raw.tell()):
                            # Reading records takes many times as long as unpacking them.
                            _measure(path, problems.max_unpacked)
                            measured = True
                    encoding = encoding or by_mark(piece)
                    if not is_utf_8(encoding):
                        recode = recode or _Recoder(encoding)
                        piece = recode(piece)
                    blocks.add(piece)
                    if blocks.whole and blocks.size >= size // 2:
                        yield blocks.take()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        if blocks.whole:
            yield blocks.take()
        message = f"the gzip data is damaged or cut off ({error}); get the file again"
        problems.add("damaged gzip", message, path, blocks.line)
        return
    except UnicodeError as error:
        raise DataError(
            f"it is no text in {encoding}: {error}. Say which encoding it has (--encoding).", path
        ) from None
    except OSError as error:
        raise open_failure(path, error) from error
    blocks.end()
    if blocks.whole:
        yield blocks.take()


def _measure(path: Path, max_unpacked: int) -> None:
    """Refuse a gzip file that unpacks to too much, before its records are read; damage is said by its reader."""
    size = 0
    with suppress(OSError, EOFError, zlib.error), open(path, "rb") as raw, gzip.open(raw) as unpacked:
        while piece := unpacked.read1(_BLOCK):
            size += len(piece)
            check_unpacked(path, size, raw.tell(), max_unpacked)


@dataclass(frozen=True)
class Span:
    """Those lines of a file that begin between two places.

    Attributes:
        path: the file, neither packed nor in another encoding than UTF-8.
        begin, end: the places, in bytes.
    """

    path: Path
    begin: int
    end: int

    def block(self) -> tuple[Block, bool]:
        """The lines, numbered from 1, and whether one that is too long stands behind them.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            with open(self.path, "rb") as handle:
                handle.seek(self.end - 1)
                stop = self.end if handle.read(1) in (b"\n", b"") else self.end + len(handle.readline(LONGEST_LINE + 1))
                # A line that goes on from before is another span's.
                handle.seek(max(0, self.begin - 1))
                own = not self.begin or handle.read(1) == b"\n" or _behind_line(handle, self.end)
                data = handle.read(stop - handle.tell()) if own else b""
        except OSError as error:
            raise open_failure(self.path, error) from error
        if data and not data.endswith(b"\n"):
            data += b"\n"
        last = data.rfind(b"\n", 0, -1) + 1
        cut = len(data) - last > LONGEST_LINE + 1
        if cut:
            data = data[:last]
        return Block(self.path, 1, data.removeprefix(_BOM) if self.begin == 0 else data), cut


def _behind_line(handle: BinaryIO, end: int) -> bool:
    """Go behind the next line end; whether there is one before a place."""
    while (here := handle.tell()) < end:
        if handle.readline(end - here).endswith(b"\n"):
            return handle.tell() < end
    return False


def spans(path: Path, encoding: str | None, size: int = _BLOCK) -> Iterator[Span] | None:
    """The spans of a file that any process can read by itself; none where it must be read from its beginning.

    Args:
        path: the file.
        encoding: of the file; None: UTF-8, or UTF-16 where the first bytes say so.
        size: bytes of a span.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            first, total = handle.read(4096), path.stat().st_size
    except OSError as error:
        raise open_failure(path, error) from error
    if first.startswith(b"\x1f\x8b") or not is_utf_8(encoding or by_mark(first)):
        return None
    return (Span(path, begin, min(begin + size, total)) for begin in range(0, total, size))


def read_ahead(blocks: Iterator[T]) -> Generator[T]:
    """The same blocks, the next one read by another thread while the last one is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block


class _Recoder:
    """Pieces of bytes in some encoding to UTF-8. What cannot be decoded stays as it is, so that its line is reported."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")

    def __call__(self, piece: bytes) -> bytes:
        return self._decoder.decode(piece).encode("utf-8", "surrogateescape")


class _Blocks:
    """Pieces of a file become blocks of whole lines."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path, self.problems = path, problems
        self.line = 1
        self.whole: list[bytes | memoryview] = []
        self.size = 0
        self.rest: list[bytes | memoryview] = []
        self.dropping = False

    def add(self, piece: bytes) -> None:
        """Append what was read."""
        if self.dropping:
            _, end, piece = piece.partition(b"\n")
            if not end:
                return
            self.dropping = False
            self.problems.add(*too_long(), self.path, self.line + b"".join(self.whole).count(b"\n"))
            self._append(b"\n")  # in its place, so that the lines behind it keep their numbers
        end_of_last = piece.rfind(b"\n") + 1
        if end_of_last:
            for part in (*self.rest, memoryview(piece)[:end_of_last]):
                self._append(part)
            self.rest.clear()
        self.rest.append(memoryview(piece)[end_of_last:])
        if sum(map(len, self.rest)) > LONGEST_LINE:
            self.rest.clear()
            self.dropping = True

    def take(self) -> Block:
        """The whole lines so far, as a block."""
        data = b"".join(self.whole)
        self.whole.clear()
        self.size = 0
        block = Block(self.path, self.line, data.removeprefix(_BOM) if self.line == 1 else data)
        self.line += block.n_lines
        return block

    def end(self) -> None:
        """Take what has no line end as a line."""
        if self.dropping or any(self.rest):
            self.add(b"\n")

    def _append(self, part: bytes | memoryview) -> None:
        self.whole.append(part)
        self.size += len(part)
