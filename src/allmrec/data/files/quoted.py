"""Records of delimited text whose fields may be quoted, with their lines; a stray quote costs its own line only.

The csv module lets a quote that is never closed swallow every later line. Here a record over several lines is believed
only where it looks like one; otherwise its first line is bad, and the next line begins a record again.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

__all__ = ["LONGEST_FIELD", "MOST_LINES", "Record", "kind_of_quotes", "quoted_records", "spaced_quotes", "swallows"]

# What a quoted record may hold beside its first line. A review of a thousand lines has not been seen.
MOST_LINES = 1000
LONGEST_FIELD = 1 << 20

# A line that no file contains: if it does not come out as a record of its own, a quote before it was never closed.
_END = "\x00end of file\x00"


@dataclass(frozen=True)
class Record:
    """The fields of one record.

    Attributes:
        line: its first line, counted from 1.
        fields: what stands in it; empty where the line is bad.
        problem: why the line is bad, or None.
    """

    line: int
    fields: list[str]
    problem: str | None = None


def quoted_records(
    text: str, delimiter: str, quoting: bool, single_line: Callable[[], Sequence[int]], spaced: bool = False
) -> Iterator[Record]:
    """The records of a text that are not empty.

    A record over several lines is believed where it has as many columns as the first record, none of the columns in
    `single_line` holds a line end, it is not too long, and the lines within it are not whole records themselves.

    Args:
        text: the file.
        delimiter: one character.
        quoting: whether double quotes enclose fields.
        single_line: gives the places of columns whose values have no line end, once the first record is known.
        spaced: whether blanks behind a delimiter do not count.
    """
    feed = _Feed(text)
    expected: int | None = None
    reader = _reader(feed, delimiter, quoting, spaced)
    while True:
        with _fields_of_any_length():
            fields = next(reader, None)
        if fields is None or fields == [_END]:
            return
        if not fields:
            feed.begin()
            continue
        line = feed.start
        if len(feed.record) == 1 and not fields[-1].endswith(_END):
            yield Record(line, fields)
            expected = len(fields) if expected is None else expected
            feed.begin()
            continue
        problem = _problem(fields, feed.record, delimiter, expected, () if expected is None else single_line())
        if problem is None:
            yield Record(line, fields)
            expected = len(fields) if expected is None else expected
            feed.begin()
        else:
            yield Record(line, [], problem)
            feed.go_back()
            reader = _reader(feed, delimiter, quoting, spaced)


def spaced_quotes(text: str, delimiter: str) -> bool:
    """Whether quoted fields stand behind blanks, as in `1, "a, b"`: some do, and every quote behind blanks is such a field's.

    Args:
        text: the beginning of the file.
        delimiter: what stands between the columns.
    """
    mark = re.escape(delimiter)
    behind = re.findall(rf'{mark} +"', text)
    return bool(behind) and len(behind) == len(
        re.findall(rf'{mark} +"[^"\r\n]*(?:""[^"\r\n]*)*" *(?=[\r\n]|{mark}|\Z)', text)
    )


def swallows(lines: Sequence[str], delimiter: str, n_columns: int) -> bool:
    """Whether the lines of a quoted record are whole records themselves, so that its quotes belong to two records.

    Every line behind the first has as many columns as a record, and begins with one word, as an id is. With two columns
    a single such line is too little: a title may go on with a comma.

    Args:
        lines: all lines of the record.
        delimiter: one character.
        n_columns: how many columns a record has.
    """
    behind = [line for line in lines[1:] if line.strip()]
    return (
        n_columns > 1
        and len(behind) >= (2 if n_columns == 2 else 1)
        and all(line.count(delimiter) == n_columns - 1 for line in behind)
        and all(len(line.partition(delimiter)[0].split()) == 1 for line in behind)
    )


def _problem(
    fields: list[str], lines: list[str], delimiter: str, expected: int | None, single_line: Sequence[int]
) -> str | None:
    """Why a record over several lines is none, or None."""
    if fields[-1].endswith(_END):
        limit = f" within {MOST_LINES:,} lines" if len(lines) > MOST_LINES else ""
        return f"a double quote opens here and is never closed{limit}"
    if expected is None:
        return None
    stray = f"a double quote opens here and closes {len(lines) - 1} lines below"
    if len(fields) != expected:
        return f"{stray}, which makes {len(fields)} columns; expected {expected}"
    if any("\n" in fields[place] or "\r" in fields[place] for place in single_line):
        return f"{stray}, within an id, a number or a time"
    if swallows(lines, delimiter, expected):
        return f"{stray}, and those lines are whole records"
    return None


class _Feed:
    """Lines for a csv reader that can go back to the line behind a record's first."""

    def __init__(self, text: str) -> None:
        self._lines = iter(io.StringIO(text, newline=""))
        self._ahead: deque[str] = deque()
        self.start = 1
        self.record: list[str] = []
        self._size = 0
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._ended:
            raise StopIteration  # the reader gives what it has
        line = _END
        if len(self.record) <= MOST_LINES and (self._size <= LONGEST_FIELD or len(self.record) < 2):
            line = self._ahead.popleft() if self._ahead else next(self._lines, _END)
        if line is _END:
            self._ended = True
        else:
            self.record.append(line)
            self._size += len(line)
        return line

    def begin(self) -> None:
        """The record so far is done; the next line begins another."""
        self.start += len(self.record)
        self.record.clear()
        self._size = 0
        self._ended = False

    def go_back(self) -> None:
        """Only the first line of the record so far is done."""
        self._ahead.extendleft(reversed(self.record[1:]))
        del self.record[1:]
        self.begin()


def kind_of_quotes(data: bytes, delimiter: str, n_columns: int) -> Literal["fine", "over lines", "stray"]:
    """Whether every double quote belongs to a field that is quoted as a whole, and whether such a field has line ends.

    pyarrow lets a quote that is never closed swallow the rest of the file without a word.
    """
    if b'"' not in data:
        return "fine"
    data = data.removeprefix(codecs.BOM_UTF8)
    mark = re.escape(delimiter.encode())
    field = re.compile(rb'(?<![^\r\n%b])"[^"]*+(?:""[^"]*+)*+"(?=[\r\n%b]|\Z)' % (mark, mark))
    without = field.sub(b"", data)
    if b'"' in without:
        return "stray"
    if all(without.count(end) == data.count(end) for end in (b"\n", b"\r")):
        return "fine"
    for found in field.finditer(data):
        if b"\n" in found.group() or b"\r" in found.group():
            start, end = data.rfind(b"\n", 0, found.start()) + 1, data.find(b"\n", found.end())
            lines = data[start : end if end >= 0 else len(data)].decode(errors="replace").splitlines()
            if len(found.group()) > LONGEST_FIELD or len(lines) > MOST_LINES or swallows(lines, delimiter, n_columns):
                return "stray"
    return "over lines"


def _reader(feed: _Feed, delimiter: str, quoting: bool, spaced: bool) -> Iterator[list[str]]:
    if quoting:
        return csv.reader(feed, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL, skipinitialspace=spaced)
    return csv.reader(feed, delimiter=delimiter, quoting=csv.QUOTE_NONE, skipinitialspace=spaced)


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the csv module's limit, which is global, for the length of a call."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
