"""Files with one object a line, in whatever syntax: values become columns.

A block of lines goes to a fast reader first, where the syntax has one. It reads all of the block or nothing; what it
refuses goes line by line to the plain parser, which says what is wrong with which line, or leaves it out. Both give the
same rows; a test holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from allmrec.core.errors import NoRecordsError
from allmrec.data.files.lines import Block, Span, line_blocks, spans, too_long
from allmrec.data.files.parts import Collect, InMemory, Part, joined
from allmrec.data.files.rows import Problems, Role, Rows, Wanted, wanted_of
from allmrec.data.files.values import NUMBERS, UnusableError, array_of, readable, usable_value
from allmrec.data.files.workers import results, workers_for

__all__ = [
    "FastReader",
    "MakeFast",
    "Parser",
    "first_names",
    "first_record",
    "read_records",
    "rows_of_records",
]

Name = TypeVar("Name", bound=str)
R = TypeVar("R")

# The object of one line; raises UnusableError where there is none.
Parser = Callable[[bytes], dict[str, Any]]

# A value for each line of a block, by field; or None where the plain parser has to look. A field that all lines lack is
# left out.
FastReader = Callable[[Block], dict[str, pa.Array] | None]

# Makes such a reader for fields with their roles; can be sent to another process.
MakeFast = Callable[[Mapping[str, Role]], FastReader]

# Lines that are looked at for one that tells what the file is.
_LOOKED_AT = 1000


def read_records(
    path: Path,
    wanted: Mapping[str, Role],
    problems: Problems,
    parse: Parser,
    *,
    fast: MakeFast | None = None,
    expected: str,
    encoding: str | None = None,
    collect: Collect = InMemory,
) -> Rows:
    """Read a file with one object a line, UTF-8, which may be gzip. Empty lines are skipped.

    A field that a line lacks is missing there. Numbers become text as they are written where not the whole column is
    numbers. Lists of texts are allowed in "texts" columns only; other nested values are bad.

    Args:
        path: the file.
        wanted: fields to give back where they exist.
        problems: what becomes of bad lines.
        parse: the plain parser.
        fast: makes a reader, for some fields, of a block of lines at once.
        expected: what a line should hold, for the message about an empty file.
        encoding: of the file, see `line_blocks`.
        collect: where the columns are kept.

    Raises:
        NoRecordsError: the file is empty.
        DataError: it is missing, or has a bad line where those fail.
    """
    kept = collect(wanted)
    names: dict[str, None] = {}
    found_any = False
    example: dict[str, Any] = {}
    lines_before = 0
    for part in _parts(path, tuple(wanted.items()), problems, parse, fast, encoding):
        for kind, message, line in part.bad:
            problems.add(kind, message, path, lines_before + line)
        if part.first is not None:
            if not found_any:
                found_any = True
                example = _record(part.first, parse)
                names.update(dict.fromkeys(example))
            names.update(dict.fromkeys(part.names))
            kept.add(Part(part.arrays, _moved(part.lines, lines_before)))
        lines_before += part.n_lines
    if not found_any:
        raise NoRecordsError(f"the file is empty; expected {expected} on each line", path)
    return Rows(
        path,
        tuple(readable(name) for name in names),
        kept.columns(tuple(names)),
        len(kept),
        kept.lines,
        example,
    )


def rows_of_records(
    records: Sequence[R],
    wanted: Wanted,
    path: Path,
    problems: Problems,
    parse: Callable[[R], dict[str, Any]],
    lines: Iterable[int] | None = None,
) -> Rows:
    """Rows of records in memory, as `read_records` gives those of lines.

    Args:
        records: the records.
        wanted: fields to give back where they exist.
        path: what they are called in messages.
        problems: what becomes of bad records.
        parse: the fields of one record; raises UnusableError where there are none.
        lines: the line of each record; None: its place, counted from 1.

    Raises:
        NoRecordsError: there is no record.
        DataError: one is bad where those fail.
    """
    if not records:
        raise NoRecordsError("there is nothing in it; expected at least one record", path)
    if callable(wanted):
        wanted = wanted_of(wanted, {name: None for record in records[:_LOOKED_AT] for name in _record(record, parse)})
    numbered = zip(count(1) if lines is None else lines, records, strict=False)
    part = _plain(numbered, wanted, parse)
    for kind, message, line in part.bad:
        problems.add(kind, message, path, line)
    example = _record(records[0], parse)
    names = dict.fromkeys([*example, *part.names])
    columns = {name: joined([part.arrays[name]], role) for name, role in wanted.items() if name in names}
    return Rows(path, tuple(readable(name) for name in names), columns, len(part.lines), lambda: part.lines, example)


def first_names(path: Path, parse: Parser, encoding: str | None = None) -> tuple[str, ...]:
    """The fields of a file's first lines, those that are bad left out.

    Raises:
        DataError: the file is missing or unreadable.
    """
    blocks = line_blocks(path, Problems("skip"), 1 << 16, encoding)
    lines = islice(chain.from_iterable(block.lines() for block in blocks), _LOOKED_AT)
    return tuple({readable(name): None for _, line in lines for name in _record(line, parse)})


def first_record(
    path: Path, parsers: Mapping[Name, Parser], usable: Callable[[dict[str, Any]], bool]
) -> tuple[Name, dict[str, Any]] | None:
    """The first usable record among a file's first lines and the name of the parser that reads it; None if none does.

    Raises:
        DataError: the file is missing or unreadable.
    """
    # What is wrong with lines is reported by whoever reads the file afterwards.
    blocks = line_blocks(path, Problems("skip"), 1 << 16)
    for _, line in islice(chain.from_iterable(block.lines() for block in blocks), _LOOKED_AT):
        for name, parse in parsers.items():
            try:
                record = parse(line)
            except UnusableError:
                continue
            if usable(record):
                return name, record
    return None


def _record(record: R, parse: Callable[[R], dict[str, Any]]) -> dict[str, Any]:
    """The fields of a record, or none where it is bad."""
    try:
        return parse(record)
    except (UnusableError, RecursionError):
        return {}


@dataclass(frozen=True)
class _Read:
    """What a part of a file holds. Lines are counted from 1 in each part.

    Attributes:
        arrays: values by field.
        lines: those that are good.
        names: every field that they have; of a fast reader, the wanted ones.
        bad: kind, message and line of each bad line.
        n_lines: how many there are, empty ones included.
        first: the first that is not empty; none where all are.
    """

    arrays: Mapping[str, pa.Array]
    lines: Sequence[int]
    names: Sequence[str]
    bad: Sequence[tuple[str, str, int]] = ()
    n_lines: int = 0
    first: bytes | None = None


def _parts(
    path: Path,
    wanted: tuple[tuple[str, Role], ...],
    problems: Problems,
    parse: Parser,
    fast: MakeFast | None,
    encoding: str | None,
) -> Iterator[_Read]:
    """A file part by part, read by several processes where it is large."""
    workers = workers_for(path)
    read = partial(_read, parse, fast, wanted)
    apart = spans(path, encoding) if workers > 1 else None
    parts: Iterator[Block | Span] = line_blocks(path, problems, encoding=encoding) if apart is None else apart
    with closing(results(read, parts, workers, path)) as found:
        yield from found


def _read(parse: Parser, fast: MakeFast | None, wanted: tuple[tuple[str, Role], ...], part: Block | Span) -> _Read:
    """What a part of a file holds, by the fast reader if it takes it."""
    block, cut = part.block() if isinstance(part, Span) else (Block(part.path, 1, part.data), False)
    if (first := block.first) is None:
        found = _Read({}, (), ())
    elif fast is not None and (arrays := _reader(fast, wanted)(block)) is not None:
        found = _Read(arrays, range(1, 1 + block.n_lines), list(arrays))
    else:
        found = _plain(block.lines(), dict(wanted), parse)
    bad = [*found.bad, (*too_long(), block.n_lines + 1)] if cut else found.bad
    return replace(found, bad=bad, n_lines=block.n_lines + cut, first=first)


def _moved(lines: Sequence[int], by: int) -> Sequence[int]:
    """Numbers of lines, so many lines further on."""
    return range(lines.start + by, lines.stop + by) if isinstance(lines, range) else [line + by for line in lines]


@lru_cache(maxsize=4)
def _reader(fast: MakeFast, wanted: tuple[tuple[str, Role], ...]) -> FastReader:
    return fast(dict(wanted))


def _plain(records: Iterable[tuple[int, R]], wanted: Mapping[str, Role], parse: Callable[[R], dict[str, Any]]) -> _Read:
    """Values record by record."""
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    names: dict[str, None] = {}
    lines: list[int] = []
    bad: list[tuple[str, str, int]] = []
    for number, raw in records:
        try:
            record = parse(raw)
            usable = {name: usable_value(record.get(name), name, role) for name, role in wanted.items()}
        except UnusableError as error:
            bad.append((error.args[0], error.args[1], number))
            continue
        except RecursionError:
            bad.append(("nested too deeply", "found a value that is nested too deeply", number))
            continue
        names.update(dict.fromkeys(record))
        for name, value in usable.items():
            # Numbers stay numbers as long as all of a column are, or one bad line would make text of a large file's.
            columns[name].append(record.get(name) if wanted[name] in NUMBERS else value)
        lines.append(number)
    arrays = {name: array_of(values, name, wanted[name]) for name, values in columns.items()}
    return _Read(arrays, lines, list(names), bad)
