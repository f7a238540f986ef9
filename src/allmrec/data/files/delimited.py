"""Text files with a record a line: comma, tab, any other delimiter, or white space.

pyarrow reads what is in order. Whatever it refuses goes to a plain reader, which knows the line of every record and
so can say which one is wrong, or leave it out. Both give the same rows; a test holds them against each other.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from allmrec.core.errors import ConfigError, DataError
from allmrec.data.files.rows import Problems, Role, Rows, read_bytes, shown, shown_all

__all__ = ["WHITE_SPACE", "read_delimited"]

# The delimiter of "plain" files: any run of blanks and tabs.
WHITE_SPACE = ""

# Undecodable bytes are read as lone surrogates, which decoded text cannot contain, so they mark their record.
_UNDECODABLE = re.compile("[\ud800-\udfff]")

# A line that no file contains: if it does not come out as a record of its own, a quote before it was never closed.
_END = "\x00end of file\x00"

# Stands for a delimiter of several characters, which pyarrow does not know.
_UNIT_SEPARATOR = b"\x1f"

_Record = tuple[int, list[str]]


def read_delimited(
    path: Path,
    wanted: Mapping[str, Role],
    problems: Problems,
    *,
    delimiter: str,
    header: bool = True,
    quoting: bool = False,
    encoding: str = "utf-8",
) -> Rows:
    """Read a file with one record a line.

    Empty lines are skipped. Without a header, columns are called "1", "2" and so on.

    Args:
        path: the file, which may be gzip.
        wanted: columns to give back where they exist.
        problems: what becomes of bad records.
        delimiter: one or several characters, or WHITE_SPACE.
        header: whether the first record names the columns.
        quoting: whether a field in double quotes may contain delimiters, line ends and doubled quotes.
        encoding: the characters' encoding.

    Raises:
        DataError: the file is missing, empty, has a bad header, or a bad record where those fail.
        ConfigError: there is no such encoding.
    """
    data = read_bytes(path)
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8") and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("begins with the mark of UTF-16; expected UTF-8. Set encoding='utf-16'", path)
    records = _record_reader(data, path, delimiter, quoting, encoding)
    names, header_line = _column_names(records(), path, header)
    rows = None
    if delimiter != WHITE_SPACE and header_line <= 1:
        rows = _fast(data, names, [n for n in names if n in wanted], delimiter, header, quoting, encoding)
    if rows is not None:

        @cache
        def lines() -> list[int]:
            good = (line for line, fields in records() if len(fields) == len(names))
            return list(good)[1 if header else 0 :]

        return Rows(path, names, rows, _length(rows), lines)
    return _slow(records(), names, wanted, problems, path, header)


def _fast(
    data: bytes, names: tuple[str, ...], kept: list[str], delimiter: str, header: bool, quoting: bool, encoding: str
) -> dict[str, pa.Array] | None:
    """Columns by pyarrow, or None where the plain reader has to look."""
    try:
        if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            data = data.decode(encoding).encode()
        if len(delimiter.encode()) > 1:
            if _UNIT_SEPARATOR in data:
                return None
            data, delimiter = data.replace(delimiter.encode(), _UNIT_SEPARATOR), _UNIT_SEPARATOR.decode()
        if quoting and not _well_quoted(data, delimiter):
            return None
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(column_names=list(names), skip_rows=int(header)),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoting else False, newlines_in_values=quoting
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                include_columns=kept or [names[0]],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, ValueError, LookupError):
        return None
    return {name: _joined(table.column(name)) for name in (kept or [names[0]])}


def _well_quoted(data: bytes, delimiter: str) -> bool:
    """Whether every double quote belongs to a field that is quoted as a whole.

    pyarrow lets a quote that is never closed swallow the rest of the file without a word.
    """
    if b'"' not in data:
        return True
    mark = re.escape(delimiter.encode())
    field = re.compile(rb'(?<![^\r\n%b])"[^"]*+(?:""[^"]*+)*+"(?=[\r\n%b]|\Z)' % (mark, mark))
    return b'"' not in field.sub(b"", data.removeprefix(codecs.BOM_UTF8))


def _slow(
    records: Iterator[_Record],
    names: tuple[str, ...],
    wanted: Mapping[str, Role],
    problems: Problems,
    path: Path,
    header: bool,
) -> Rows:
    """Columns record by record, each bad record reported with its line."""
    kept = [place for place, name in enumerate(names) if name in wanted]
    values: list[list[str]] = [[] for _ in kept]
    lines: list[int] = []
    first = True
    for line, fields in records:
        if first and header:
            first = False
            continue
        if fields == [_END]:
            problems.add("quote never closed", "a double quote opens here and is never closed", path, line)
        elif len(fields) != len(names):
            problems.add(
                "wrong number of columns",
                f"found {_counted(len(fields), 'column')}, expected {len(names)} ({shown_all(names)})",
                path,
                line,
            )
        elif _UNDECODABLE.search("".join(fields)):
            problems.add("wrong encoding", "found bytes that the encoding does not allow; set encoding", path, line)
        else:
            for column, place in zip(values, kept, strict=True):
                column.append(fields[place])
            lines.append(line)
    arrays = {names[p]: pa.array(column, pa.large_string()) for p, column in zip(kept, values, strict=True)}
    return Rows(path, names, arrays, len(lines), lambda: lines)


def _column_names(records: Iterator[_Record], path: Path, header: bool) -> tuple[tuple[str, ...], int]:
    """Column names, and the line of the record that they came from."""
    line, fields = next(records, (0, []))
    if not line:
        raise DataError("the file is empty; expected a line for each record", path)
    if fields == [_END]:
        raise DataError("a double quote opens here and is never closed", path, line)
    if not header:
        return tuple(str(number) for number in range(1, len(fields) + 1)), line
    if _UNDECODABLE.search("".join(fields)):
        raise DataError("found bytes that the encoding does not allow; set encoding", path, line)
    names = tuple(field.strip() for field in fields)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"two columns are called {shown(twice[0])}; expected different names in the header", path, line)
    # A quoted header over several lines is the plain reader's.
    return names, line if all("\n" not in field and "\r" not in field for field in fields) else line + 1


def _record_reader(
    data: bytes, path: Path, delimiter: str, quoting: bool, encoding: str
) -> Callable[[], Iterator[_Record]]:
    """A function that begins at the first record again; records come with their line, an unclosed quote as _END."""

    @cache
    def text() -> str:
        try:
            return data.decode(encoding, errors="surrogateescape").removeprefix("\ufeff")
        except LookupError:
            raise ConfigError(f"there is no encoding {encoding!r}; well-known ones are utf-8 and latin-1") from None
        except UnicodeError as error:
            raise DataError(f"the file is not {encoding} ({error}); set encoding", path) from error

    def split() -> Iterator[_Record]:
        for number, line in enumerate(io.StringIO(text(), newline=""), start=1):
            line = line.rstrip("\r\n")
            fields = line.split() if delimiter == WHITE_SPACE else line.split(delimiter)
            if fields and line:
                yield number, fields

    def parse() -> Iterator[_Record]:
        lines = chain(io.StringIO(text(), newline=""), [_END])
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE)
        line = 1
        while True:
            with _fields_of_any_length():
                fields = next(reader, None)
            if fields is None or fields == [_END]:
                return
            if fields:
                yield line, [_END] if fields[-1].endswith(_END) else fields
            line = reader.line_num + 1

    return split if len(delimiter) != 1 else parse


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the csv module's limit, which is global, for the length of a call."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """One array of a column's chunks."""
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _length(columns: Mapping[str, pa.Array]) -> int:
    """How many rows columns have."""
    return len(next(iter(columns.values())))


def _counted(number: int, word: str) -> str:
    """The number with its noun."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
