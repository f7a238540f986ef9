"""Files with one JSON object a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from allmrec.core.errors import DataError
from allmrec.data.files.encodings import by_mark, is_utf_8
from allmrec.data.files.json_array import array_elements, is_array
from allmrec.data.files.lines import Block, beginning
from allmrec.data.files.parts import Collect, InMemory
from allmrec.data.files.records import FastReader, first_names, read_records, rows_of_records
from allmrec.data.files.rows import Problems, Role, Rows, Wanted, read_bytes, wanted_of
from allmrec.data.files.values import MixedError, UnusableError, mixed_array, uniform_array

__all__ = ["fast_json_reader", "parse_json", "read_json_lines"]

_EXPECTED = "a JSON object"

# What a field may hold, so that the fast reader refuses what the plain one does.
_KINDS: dict[Role, Any] = {
    "id": str | int | float | None,
    "number": str | int | float | None,
    "time": str | int | float | None,
    "text": str | int | float | None,
    "texts": str | list[Any] | None,
}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def read_json_lines(
    path: Path, wanted: Wanted, problems: Problems, encoding: str | None = None, collect: Collect = InMemory
) -> Rows:
    """Read a file with one JSON object a line, or with one array of objects; see `read_records`."""
    first = beginning(path)
    if is_array(first):
        return _read_array(path, wanted, problems, encoding)
    if encoding is None and by_mark(first) != "utf-8":
        problems.note(f"{path.name}: read as {by_mark(first)}")
    if callable(wanted):
        wanted = wanted_of(wanted, first_names(path, parse_json, encoding))
    return read_records(
        path,
        wanted,
        problems,
        parse_json,
        fast=fast_json_reader,
        expected=_EXPECTED,
        encoding=encoding,
        collect=collect,
    )


def _read_array(path: Path, wanted: Wanted, problems: Problems, encoding: str | None) -> Rows:
    """Read a file that is one JSON array of objects, each of which stands for a line."""
    data = read_bytes(path, problems.max_unpacked)
    encoding = encoding or by_mark(data)
    try:
        data = data.removeprefix(codecs.BOM_UTF8) if is_utf_8(encoding) else data.decode(encoding).encode()
        elements, lines = array_elements(data)
    except UnicodeError as error:
        raise DataError(f"the file is not {encoding} ({error}); set encoding (--encoding)", path) from error
    except ValueError as error:
        raise DataError(f"found an array that is no JSON ({error}); expected an array of objects", path) from error
    problems.note(f"{path.name}: read as one JSON array of {len(elements):,} records")
    return rows_of_records(elements, wanted, path, problems, parse_json, lines)


def parse_json(line: bytes) -> dict[str, Any]:
    """The object of one line.

    Raises:
        UnusableError: there is none.
    """
    try:
        record = _DECODER.decode(line.decode())
    except UnicodeDecodeError:
        raise UnusableError("wrong encoding", "found bytes that are not UTF-8; expected UTF-8") from None
    except RecursionError:
        raise UnusableError("not JSON", "found JSON that is nested too deeply") from None
    except ValueError as error:
        raise UnusableError("not JSON", f"found no JSON ({error}); expected {_EXPECTED} on each line") from None
    if not isinstance(record, dict):
        found = type(record).__name__
        raise UnusableError("not an object", f"found a JSON {found}; expected one JSON object on each line")
    return record


def fast_json_reader(wanted: Mapping[str, Role]) -> FastReader:
    """A reader of whole blocks, which skips over the fields that nobody wants.

    It declines a block with anything that `parse_json` might refuse or read otherwise: lines that are not one object
    each, bytes that are not UTF-8, half a character in an escape, values of an unexpected kind.
    """
    fields = {f"field_{place}": name for place, name in enumerate(wanted)}
    record = msgspec.defstruct(
        "Record",
        [(field, _KINDS[wanted[name]] | msgspec.UnsetType, msgspec.UNSET) for field, name in fields.items()],
        rename=fields,
        gc=False,
    )
    decoder = msgspec.json.Decoder(record)
    getters = {name: attrgetter(field) for field, name in fields.items()}

    def read(block: Block) -> dict[str, pa.Array] | None:
        if not _one_object_a_line(block):
            return None
        try:
            if not block.data.isascii():
                block.data.decode()  # what nobody wants is skipped unseen
            records = decoder.decode_lines(block.data)
            if len(records) != len(block.line_ends):
                return None
            columns = {name: _column(list(map(get, records)), name, wanted[name]) for name, get in getters.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnusableError):
            return None
        return {name: column for name, column in columns.items() if column is not None}

    return read


def _one_object_a_line(block: Block) -> bool:
    """Whether each line begins and ends as an object does. A decoder also takes one over two lines, or two on one."""
    data, ends = np.frombuffer(block.data, dtype=np.uint8), block.line_ends
    starts = np.concatenate([[0], ends[:-1] + 1])
    return bool(np.all(data[starts] == ord("{")) and np.all(data[ends - 1] == ord("}")))


def _column(values: list[Any], name: str, role: Role) -> pa.Array | None:
    """The values of a field, or None where every line lacks it."""
    try:
        return uniform_array(values, role)
    except MixedError:
        if all(value is msgspec.UNSET for value in values):
            return None
        return mixed_array([None if value is msgspec.UNSET else value for value in values], name, role)
