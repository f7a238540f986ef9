"""Text files with a record a line, part by part, for files that no memory holds.

pyarrow reads each part, a few megabytes of whole lines. What it refuses, and what shows only in the whole file (an encoding
to be guessed, a quoted field over the end of a part), makes `read_delimited` read the file anew in memory, so that both give
the same rows and the same report.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from allmrec.core.errors import DataError
from allmrec.data.files.delimited import Syntax, TextTable, fast_columns, length, read_delimited
from allmrec.data.files.encodings import by_mark, is_utf_8, said_delimiter
from allmrec.data.files.parts import Collect, Part
from allmrec.data.files.rows import Problems, Rows, Wanted, check_unpacked

__all__ = ["read_delimited_parts"]

_PART = 1 << 23
# As far as `read_delimited` looks before it takes bytes for UTF-8.
_LOOKED_AT = 1 << 16


def read_delimited_parts(
    path: Path,
    wanted: Wanted,
    problems: Problems,
    *,
    delimiter: str,
    sniff: bool = False,
    header: bool | None = True,
    quoting: bool | None = False,
    encoding: str | None = "utf-8",
    collect: Collect,
) -> Rows:
    """Read a file with one record a line; arguments and errors as in `read_delimited`.

    Args:
        path, wanted, problems, delimiter, sniff, header, quoting, encoding: as there.
        collect: where the columns are kept if the file is read part by part; otherwise they are in memory.
    """
    open_syntax = Syntax(delimiter, bool(header), bool(quoting), encoding or "utf-8")
    rows = None
    if encoding is None or is_utf_8(encoding):
        rows = _by_parts(path, wanted, problems, open_syntax, sniff, header, quoting, encoding, collect)
    if rows is not None:
        return rows
    return read_delimited(
        path, wanted, problems, delimiter=delimiter, sniff=sniff, header=header, quoting=quoting, encoding=encoding
    )


def _by_parts(
    path: Path,
    wanted: Wanted,
    problems: Problems,
    syntax: Syntax,
    sniff: bool,
    header: bool | None,
    quoting: bool | None,
    encoding: str | None,
    collect: Collect,
) -> Rows | None:
    """The rows, or None where the file has to be read as a whole."""
    try:
        parts = _parts(path, problems.max_unpacked)
        first = next(parts, b"")
        if not _is_plain(first, encoding, sniff):
            return None
        table = TextTable(first, path, syntax)
        try:
            table.recognise(wanted, sniff=sniff, header=header, quoting=quoting)
        except DataError:
            if first[:_LOOKED_AT].isascii():
                raise  # nothing further on makes another file of it
            return None
        if not table.may_be_fast:
            return None
        kept = collect(table.roles)
        line, data = 1, first
        rest = replace(table.syntax, header=False)
        while data:
            part = table if line == 1 else _continued(table, data, rest)
            added = _part(part, line)
            if added is None:
                return None
            kept.add(added)
            line += data.count(b"\n")
            data = next(parts, b"")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return None  # whose reader says what is wrong
    table.say(problems, syntax.delimiter, header)
    return table.rows(kept.columns(table.names), len(kept), kept.lines)


def _is_plain(first: bytes, encoding: str | None, sniff: bool) -> bool:
    """Whether a file begins as UTF-8 does, with no line that is for spreadsheets only."""
    if encoding is None and by_mark(first) != "utf-8":
        return False
    if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return False
    return bool(first) and not (sniff and said_delimiter(first) is not None)


def _continued(table: TextTable, data: bytes, syntax: Syntax) -> TextTable:
    """A further part of a table."""
    part = TextTable(data, table.path, syntax)
    part.names, part.roles = table.names, table.roles
    return part


def _part(table: TextTable, line: int) -> Part | None:
    """The rows of a part that begins on a line, or None where pyarrow cannot read it."""
    data = table.data
    if data.count(b"\r") != data.count(b"\r\n"):
        return None  # a line end of its own, which lines are not counted by here
    if not data.isascii():
        data.decode()  # raises where the whole file may be in another encoding
    columns = fast_columns(data, table.names, table.roles, table.syntax)
    if columns is None:
        return None
    n_rows, n_lines = length(columns), data.count(b"\n") + (not data.endswith(b"\n"))
    begin = int(table.syntax.header)
    if n_rows == n_lines - begin:
        return Part(columns, range(line + begin, line + n_lines))
    return Part(columns, [line - 1 + number for number in table.lines_of_rows()])


def _parts(path: Path, max_unpacked: int) -> Iterator[bytes]:
    """A file, which may be gzip, as parts of whole lines.

    Raises:
        DataError: it unpacks to too much.
        OSError, EOFError, zlib.error: it is missing or damaged.
    """
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.open(raw) if zipped else raw as handle:
            read, rest = 0, b""
            while piece := handle.read(_PART):
                read += len(piece)
                if zipped:
                    check_unpacked(path, read, raw.tell(), max_unpacked)
                end = piece.rfind(b"\n") + 1
                if end:
                    yield rest + piece[:end]
                    rest = piece[end:]
                else:
                    rest += piece
            if rest:
                yield rest
