"""Text files with a record a line: comma, tab, any other delimiter, or white space.

pyarrow reads what is in order. Whatever it refuses goes to a plain reader, which knows the line of every record and
so can say which one is wrong, or leave it out. Both give the same rows; a test holds them against each other.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from allmrec.core.errors import ConfigError, DataError, NoRecordsError
from allmrec.data.files.encodings import (
    WHITE_SPACE,
    by_mark,
    guessed_delimiter,
    guessed_encoding,
    is_utf_8,
    looks_like_json,
    said_delimiter,
)
from allmrec.data.files.quoted import Record, kind_of_quotes, quoted_records, spaced_quotes
from allmrec.data.files.rows import Problems, Role, Rows, Wanted, read_bytes, shown, shown_all, wanted_of

__all__ = ["WHITE_SPACE", "Syntax", "TextTable", "fast_columns", "length", "read_delimited"]

# Undecodable bytes are read as lone surrogates, which decoded text cannot contain, so they mark their record.
_UNDECODABLE = re.compile("[\ud800-\udfff]")

# Stands for a delimiter of several characters, which pyarrow does not know.
_UNIT_SEPARATOR = b"\x1f"

# Values of these have no line ends, so that a quoted one over two lines is a stray quote.
_SINGLE_LINE: tuple[Role, ...] = ("id", "number", "time")

# Bytes that are looked at for delimiter and header.
_HEAD = 1 << 17

_BAD_BYTES = "found bytes that the encoding does not allow; set encoding (--encoding, such as cp1252)"


@dataclass(frozen=True)
class Syntax:
    """How records lie in a file, once that is known."""

    delimiter: str
    header: bool
    quoting: bool
    encoding: str
    # Whether blanks stand between a delimiter and a quoted field.
    spaced: bool = False


def read_delimited(
    path: Path,
    wanted: Wanted,
    problems: Problems,
    *,
    delimiter: str,
    sniff: bool = False,
    header: bool | None = True,
    quoting: bool | None = False,
    encoding: str | None = "utf-8",
) -> Rows:
    """Read a file with one record a line.

    Empty lines are skipped. Without a header, columns are called "1", "2" and so on.

    Args:
        path: the file, which may be gzip.
        wanted: columns to give back where they exist.
        problems: what becomes of bad records.
        delimiter: one or several characters, or WHITE_SPACE.
        sniff: whether another delimiter counts where the first line lacks this one.
        header: whether the first record names the columns; None: it does where some of its names are wanted.
        quoting: whether a field in double quotes may contain delimiters, line ends and doubled quotes; None: where the
            delimiter is a comma, a semicolon or a bar.
        encoding: the characters' encoding; None: what the bytes tell.

    Raises:
        DataError: the file is missing, empty, has a bad header, or a bad record where those fail.
        ConfigError: there is no such encoding.
    """
    data = read_bytes(path, problems.max_unpacked)
    if encoding is not None and is_utf_8(encoding) and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError("begins with the mark of UTF-16; expected UTF-8. Set encoding='utf-16'", path)
    known = encoding or by_mark(data)
    if sniff and (said := said_delimiter(data)) is not None:
        delimiter, sniff, data = said, False, data[data.index(b"sep=") + 5 :]
    if encoding is None and known == "utf-8" and not data[: 1 << 16].isascii():
        known = guessed_encoding(data)
    while True:
        file = TextTable(data, path, Syntax(delimiter, bool(header), bool(quoting), known))
        file.recognise(wanted, sniff=sniff, header=header, quoting=quoting)
        rows = file.fast()
        if rows is None and encoding is None and known == "utf-8":
            # Only now, because it takes as long as reading does, and nearly all files are UTF-8.
            known = guessed_encoding(data)
            if known != "utf-8":
                continue
        break
    if encoding is None and known != "utf-8":
        problems.note(f"{path.name}: read as {known} (--encoding if letters look wrong)")
    file.say(problems, delimiter, header)
    return file.slow(problems) if rows is None else rows


class TextTable:
    """One file whose bytes are in memory."""

    def __init__(self, data: bytes, path: Path, syntax: Syntax) -> None:
        self.data, self.path, self.syntax = data, path, syntax
        self.names: tuple[str, ...] = ()
        self.header_line = 0
        self.roles: dict[str, Role] = {}

    def recognise(self, wanted: Wanted, *, sniff: bool, header: bool | None, quoting: bool | None) -> None:
        """Find out what was left open: delimiter, quoting and header; then the columns' names, and which are wanted."""
        usual = self.syntax.delimiter
        if sniff:
            delimiter = guessed_delimiter(self._head, usual, quoting is not False)
            self.syntax = replace(self.syntax, delimiter=delimiter, quoting=self.syntax.quoting and len(delimiter) == 1)
        if quoting is None:
            self.syntax = replace(self.syntax, quoting=self.syntax.delimiter in (",", ";", "|"))
        self.syntax = replace(
            self.syntax, spaced=self.syntax.quoting and spaced_quotes(self._head, self.syntax.delimiter)
        )
        if looks_like_json(self._head):
            raise DataError("begins as JSON does; expected a table. Set format to jsonl (--format jsonl)", self.path)
        if header is None:
            first = next(self.records(head=True), Record(0, []))
            found = tuple(field.strip() for field in first.fields)
            chosen = wanted_of(wanted, found) if len(set(found)) == len(found) else {}
            self.syntax = replace(self.syntax, header=any(n in chosen and not n.isdigit() for n in found))
        self.names, self.header_line = _column_names(self.records(head=True), self.path, self.syntax.header)
        roles = wanted_of(wanted, self.names)
        self.roles = {name: roles[name] for name in self.names if name in roles}

    def say(self, problems: Problems, delimiter: str, header: bool | None) -> None:
        """Note what was found where it is another than `delimiter` and `header` say."""
        if self.syntax.delimiter != delimiter:
            problems.note(f"{self.path.name}: columns are separated by {_called(self.syntax.delimiter)} (--delimiter)")
        if header is None and self.syntax.header:
            problems.note(f"{self.path.name}: the first line names the columns (--no-header if it does not)")

    @property
    def may_be_fast(self) -> bool:
        """Whether pyarrow reads such a syntax."""
        return not (self.syntax.delimiter == WHITE_SPACE or self.header_line > 1 or self.syntax.spaced)

    def fast(self) -> Rows | None:
        """Columns by pyarrow, or None where the plain reader has to look."""
        if not self.may_be_fast:
            return None
        columns = fast_columns(self.data, self.names, self.roles, self.syntax)
        if columns is None:
            return None

        return self.rows(columns, length(columns), cache(self.lines_of_rows))

    def lines_of_rows(self) -> list[int]:
        """The line of each record that has all columns, the header left out."""
        good = [record.line for record in self.records() if len(record.fields) == len(self.names)]
        return good[1 if self.syntax.header else 0 :]

    def slow(self, problems: Problems) -> Rows:
        """Columns record by record, each bad record reported with its line."""
        names, path = self.names, self.path
        places = [(place, name) for place, name in enumerate(names) if name in self.roles]
        values: list[list[str]] = [[] for _ in places]
        lines: list[int] = []
        for record in islice(self.records(), 1 if self.syntax.header else 0, None):
            line, fields = record.line, record.fields
            if record.problem is not None:
                kind = "quote never closed" if "never closed" in record.problem else "stray quote"
                problems.add(
                    kind,
                    f"{record.problem}; where quotes enclose nothing, set quoting to false (--no-quoting)",
                    path,
                    line,
                )
            elif len(fields) != len(names):
                problems.add(
                    "wrong number of columns",
                    f"found {_counted(len(fields), 'column')}, expected {len(names)} ({shown_all(names)})",
                    path,
                    line,
                )
            elif _UNDECODABLE.search("".join(fields)):
                problems.add("wrong encoding", _BAD_BYTES, path, line)
            else:
                for column, (place, _) in zip(values, places, strict=True):
                    column.append(fields[place])
                lines.append(line)
        arrays = {name: pa.array(column, pa.large_string()) for (_, name), column in zip(places, values, strict=True)}
        return self.rows(arrays, len(lines), lambda: lines)

    def records(self, head: bool = False) -> Iterator[Record]:
        """The file's records that are not empty, or only those of its head."""
        text = self._head if head else self._text
        if len(self.syntax.delimiter) == 1:
            syntax = self.syntax
            return quoted_records(text, syntax.delimiter, syntax.quoting, self._single_line, syntax.spaced)
        return _split_records(text, self.syntax.delimiter)

    def _single_line(self) -> Sequence[int]:
        return [place for place, name in enumerate(self.names) if self.roles.get(name) in _SINGLE_LINE]

    def rows(self, columns: Mapping[str, pa.Array], n_rows: int, lines: Callable[[], Sequence[int]]) -> Rows:
        """The file's rows, with the first as the example."""
        example: dict[str, Any] = {}
        for record in islice(self.records(head=True), 1 if self.syntax.header else 0, 2):
            example = dict(zip(self.names, record.fields, strict=False))
        return Rows(self.path, self.names, columns, n_rows, lines, example, headerless=not self.syntax.header)

    @cached_property
    def _head(self) -> str:
        """The first whole lines, for a look at them: the header of a large file does not need all its text."""
        if len(self.data) > _HEAD:
            with suppress(LookupError, UnicodeError):
                text = self.data[:_HEAD].decode(self.syntax.encoding, errors="surrogateescape").removeprefix("\ufeff")
                if end := text.rfind("\n") + 1:
                    return text[:end]
        return self._text

    @cached_property
    def _text(self) -> str:
        encoding = self.syntax.encoding
        try:
            return self.data.decode(encoding, errors="surrogateescape").removeprefix("\ufeff")
        except LookupError:
            raise ConfigError(f"there is no encoding {encoding!r}; well-known ones are utf-8 and latin-1") from None
        except UnicodeError as error:
            raise DataError(f"the file is not {encoding} ({error}); set encoding (--encoding)", self.path) from error


def fast_columns(
    data: bytes, names: tuple[str, ...], roles: Mapping[str, Role], syntax: Syntax
) -> dict[str, pa.Array] | None:
    """Columns by pyarrow, or None where the plain reader has to look."""
    kept, delimiter = list(roles) or [names[0]], syntax.delimiter
    over_lines = False
    try:
        if not is_utf_8(syntax.encoding):
            data = data.decode(syntax.encoding).encode()
        if len(delimiter.encode()) > 1:
            if _UNIT_SEPARATOR in data:
                return None
            data, delimiter = data.replace(delimiter.encode(), _UNIT_SEPARATOR), _UNIT_SEPARATOR.decode()
        if syntax.quoting:
            quotes = kind_of_quotes(data, delimiter, len(names))
            if quotes == "stray":
                return None
            over_lines = quotes == "over lines"
        table = pa_csv.read_csv(
            pa.BufferReader(_owned(data)),
            read_options=pa_csv.ReadOptions(column_names=list(names), skip_rows=int(syntax.header)),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if syntax.quoting else False, newlines_in_values=syntax.quoting
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), include_columns=kept, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, ValueError, LookupError):
        return None
    columns = {name: _joined(table.column(name)) for name in kept}
    if over_lines and any(
        pc.any(pc.match_substring_regex(columns[name], r"[\r\n]")).as_py()
        for name in kept
        if roles.get(name) in _SINGLE_LINE
    ):
        return None
    return columns


def _owned(data: bytes) -> pa.Buffer:
    """A copy in Arrow's own memory. Its threads may let go of the last buffer while the interpreter shuts down, and one
    that belongs to Python would then wait for the interpreter and abort the process."""
    buffer = pa.allocate_buffer(len(data))
    if data:
        memoryview(buffer).cast("B")[:] = data
    return buffer


def _column_names(records: Iterator[Record], path: Path, header: bool) -> tuple[tuple[str, ...], int]:
    """Column names, and the line of the record that they came from."""
    record = next(records, None)
    if record is None:
        # A header, where there should be one, is written also of nothing.
        kind = DataError if header else NoRecordsError
        raise kind("the file is empty; expected a line for each record", path)
    line, fields = record.line, record.fields
    if record.problem is not None:
        raise DataError(record.problem, path, line)
    if not header:
        return tuple(str(number) for number in range(1, len(fields) + 1)), line
    if _UNDECODABLE.search("".join(fields)):
        raise DataError(_BAD_BYTES, path, line)
    names = tuple(field.strip() for field in fields)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"two columns are called {shown(twice[0])}; expected different names in the header", path, line)
    # A quoted header over several lines is the plain reader's.
    return names, line if all("\n" not in field and "\r" not in field for field in fields) else line + 1


def _split_records(text: str, delimiter: str) -> Iterator[Record]:
    """Records of text without quotes, split at white space or at a delimiter of several characters."""
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        line = line.rstrip("\r\n")
        fields = line.split() if delimiter == WHITE_SPACE else line.split(delimiter)
        if fields and line:
            yield Record(number, fields)


def _called(delimiter: str) -> str:
    """A delimiter in a message."""
    return {"\t": "tabs", WHITE_SPACE: "white space"}.get(delimiter, repr(delimiter))


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """One array of a column's chunks."""
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def length(columns: Mapping[str, pa.Array]) -> int:
    """How many rows columns have."""
    return len(next(iter(columns.values())))


def _counted(number: int, word: str) -> str:
    """The number with its noun."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
