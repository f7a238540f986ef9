"""Files with one JSON object a line; knows no field's meaning."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from allmrec.core.errors import DataError
from allmrec.data.files.rows import Problems, Role, Rows, open_failure

__all__ = ["read_json_lines"]


class _UnusableError(ValueError):
    """A line's or a value's trouble: its kind, then the message."""


def read_json_lines(path: Path, wanted: Mapping[str, Role], problems: Problems) -> Rows:
    """Read a file with one JSON object a line, UTF-8, which may be gzip. Empty lines are skipped.

    A field that a line lacks is missing there. Numbers become text as they are written. Lists of texts are allowed in
    "texts" columns only; other nested values are bad.

    Raises:
        DataError: the file is missing, empty, or has a bad line where those fail.
    """
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    names: dict[str, None] = {}
    lines: list[int] = []
    found_any = False
    for number, line in _lines(path, problems):
        if not line.strip():
            continue
        found_any = True
        try:
            record = _parse(line)
            values = {name: _value(record.get(name), name, role) for name, role in wanted.items()}
        except _UnusableError as error:
            problems.add(error.args[0], error.args[1], path, number)
            continue
        names.update(dict.fromkeys(record))
        for name, value in values.items():
            columns[name].append(value)
        lines.append(number)
    if not found_any:
        raise DataError("the file is empty; expected a JSON object on each line", path)
    arrays = {
        name: pa.array(values, pa.large_list(pa.large_string()) if wanted[name] == "texts" else pa.large_string())
        for name, values in columns.items()
        if name in names
    }
    return Rows(path, tuple(_readable(name) for name in names), arrays, len(lines), lambda: lines)


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers. A gzip file that is cut off ends with a problem, not before what it still has."""
    number = 0
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as handle:
                for number, line in enumerate(handle, start=1):
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"the gzip data is damaged or cut off ({error}); get the file again"
        problems.add("damaged gzip", message, path, number + 1)
    except OSError as error:
        raise open_failure(path, error) from error


def _parse(line: bytes) -> dict[str, Any]:
    """The object of one line."""
    try:
        record = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise _UnusableError("wrong encoding", "found bytes that are not UTF-8; expected UTF-8") from None
    except RecursionError:
        raise _UnusableError("not JSON", "found JSON that is nested too deeply") from None
    except ValueError as error:
        raise _UnusableError("not JSON", f"found no JSON ({error}); expected a JSON object on each line") from None
    if not isinstance(record, dict):
        raise _UnusableError(
            "not an object", f"found a JSON {type(record).__name__}; expected one JSON object on each line"
        )
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _value(value: object, name: str, role: Role) -> str | list[str] | None:
    """A field as text, as a list of texts where the role allows it, or None where it is missing."""
    if value is None:
        return None
    if role == "texts":
        return _texts(value, name)
    if isinstance(value, str):
        return _readable(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnusableError("unexpected value", f"{name} is a JSON {type(value).__name__}; expected text or a number")
    if role == "id" and isinstance(value, float):
        raise _UnusableError("unexpected value", f"{name} is {value!r}; expected text or a whole number")
    return repr(value)


def _texts(value: object, name: str) -> list[str]:
    """A text, or lists of texts however nested (older Amazon files nest categories), as one flat list."""
    if isinstance(value, str):
        return [_readable(value)]
    if isinstance(value, list):
        return [text for part in value if part is not None for text in _texts(part, name)]
    raise _UnusableError(
        "unexpected value", f"{name} holds a JSON {type(value).__name__}; expected text or a list of texts"
    )


def _readable(text: str) -> str:
    """Text that can be written as UTF-8. A JSON escape may hold half a character, as cut-off emoji do."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
