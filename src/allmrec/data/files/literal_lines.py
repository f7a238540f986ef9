"""Files with one Python literal of a dict a line, as older Amazon files have; nothing in them is ever run."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path
from typing import Any

from allmrec.data.files.parts import Collect, InMemory
from allmrec.data.files.records import first_names, read_records
from allmrec.data.files.rows import Problems, Rows, Wanted, wanted_of
from allmrec.data.files.values import UnusableError

__all__ = ["parse_literal", "read_literal_lines"]

_EXPECTED = "a Python dict"


def read_literal_lines(
    path: Path, wanted: Wanted, problems: Problems, encoding: str | None = None, collect: Collect = InMemory
) -> Rows:
    """Read a file with one Python dict a line, see `read_records`."""
    with warnings.catch_warnings():
        # Python warns of an unknown escape in a text, which a damaged line may hold.
        warnings.simplefilter("ignore")
        if callable(wanted):
            wanted = wanted_of(wanted, first_names(path, parse_literal, encoding))
        return read_records(
            path, wanted, problems, parse_literal, expected=_EXPECTED, encoding=encoding, collect=collect
        )


def parse_literal(line: bytes) -> dict[str, Any]:
    """The dict of one line.

    Raises:
        UnusableError: there is none.
    """
    try:
        text = line.decode().strip()
        record = _as_json(text)
        if record is None:
            record = ast.literal_eval(text)
    except UnicodeDecodeError:
        raise UnusableError("wrong encoding", "found bytes that are not UTF-8; expected UTF-8") from None
    except (RecursionError, MemoryError):
        raise UnusableError("no Python literal", "found a Python literal that is nested too deeply") from None
    except (ValueError, SyntaxError, TypeError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error).partition(" on line ")[0]
        message = f"found no Python literal ({reason}); expected {_EXPECTED} on each line"
        raise UnusableError("no Python literal", message) from None
    if not isinstance(record, dict) or not all(isinstance(name, str) for name in record):
        found = "dict with other names than text" if isinstance(record, dict) else type(record).__name__
        raise UnusableError("not an object", f"found a Python {found}; expected one dict on each line")
    return record


def _as_json(text: str) -> Any:
    """The value, several times faster, where double quotes alone make JSON of the line; None where they do not.

    Without a double quote or a backslash in the line, every single quote begins or ends a text. What is then JSON is the
    same value in Python; JSON's own words (null, true, false) are understood as well.
    """
    if '"' in text or "\\" in text:
        return None
    try:
        return _DECODER.decode(text.replace("'", '"'))
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no Python literal")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
