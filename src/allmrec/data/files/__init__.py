"""File formats: one record a row, whatever the syntax."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.data.files import records
from allmrec.data.files.delimited import WHITE_SPACE, read_delimited
from allmrec.data.files.delimited_parts import read_delimited_parts
from allmrec.data.files.json_lines import parse_json, read_json_lines
from allmrec.data.files.literal_lines import parse_literal, read_literal_lines
from allmrec.data.files.parquet import read_parquet, read_parquet_parts
from allmrec.data.files.parts import Collect, Collector, InMemory, Part
from allmrec.data.files.rows import (
    MAX_SKIPPED,
    MAX_UNPACKED,
    OnError,
    Problems,
    Role,
    Rows,
    Wanted,
    check_file,
    shown,
    shown_all,
)

__all__ = [
    "MAX_SKIPPED",
    "MAX_UNPACKED",
    "Collect",
    "Collector",
    "FileFormat",
    "FileLayout",
    "OnError",
    "Part",
    "Problems",
    "Role",
    "Rows",
    "Wanted",
    "first_record",
    "read_rows",
    "shown",
    "shown_all",
]

FileFormat = Literal["csv", "tsv", "plain", "jsonl", "literal", "parquet"]

_ENDINGS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "plain",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class FileLayout(Config):
    """How records lie in a file. What is None follows from the format, and the format from the file's ending."""

    format: FileFormat | None = Field(
        None,
        description="csv, tsv, plain (white space), jsonl (an object a line, or an array of them), literal (a Python dict "
        "a line) or parquet.",
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        description="Between columns, one or several characters; by default the ending's, or what the first lines show.",
    )
    header: bool | None = Field(
        None,
        description='Whether the first record names the columns; without it they are called "1", "2", ... By default it '
        "does, in plain files where it holds a usual name.",
    )
    quoting: bool | None = Field(
        None, description="Whether double quotes enclose fields; by default in csv with a delimiter of one character."
    )
    encoding: str | None = Field(
        None, description="Encoding of text files; by default UTF-8, UTF-16 or cp1252, as the bytes tell."
    )

    @field_validator("delimiter")
    @classmethod
    def _no_line_end(cls, value: str | None) -> str | None:
        if value is not None and set(value) & set('\r\n"\0'):
            raise ValueError("a delimiter holds no line end, double quote or NUL")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            codecs.lookup(value)
            b"a".decode(value, errors="ignore")
        except (LookupError, ValueError):
            raise ValueError("no such text encoding; well-known ones are utf-8 and latin-1") from None
        return value

    def resolved_format(self, path: Path) -> FileFormat:
        """The format, from the file's ending where none is set.

        Raises:
            ConfigError: the ending says nothing.
        """
        if self.format is not None:
            return self.format
        ending = Path(path.name.removesuffix(".gz")).suffix.lower()
        if ending not in _ENDINGS:
            raise ConfigError(
                f"{path}: the ending {ending!r} names no format; expected {', '.join(_ENDINGS)}, "
                "each also with .gz, or set format (--format)."
            )
        return _ENDINGS[ending]


def read_rows(path: Path, layout: FileLayout, wanted: Wanted, problems: Problems, collect: Collect = InMemory) -> Rows:
    """Read the wanted columns that a file has. What is recognised without being told is noted in `problems`.

    Args:
        path: the file.
        layout: how records lie in it.
        wanted: columns to give back where they exist.
        problems: what becomes of bad records.
        collect: where columns are kept of formats that are read part by part; the others are read in memory.

    Raises:
        DataError: the file is missing, empty or damaged, or has a bad record where those fail.
        ConfigError: the layout cannot be.
    """
    check_file(path)
    kind = layout.resolved_format(path)
    if kind == "parquet":
        if collect is not InMemory:
            parts = read_parquet_parts(path, wanted, problems, collect)
            if parts is not None:
                return parts
        return read_parquet(path, wanted, problems)
    if kind == "jsonl":
        return read_json_lines(path, wanted, problems, layout.encoding, collect)
    if kind == "literal":
        return read_literal_lines(path, wanted, problems, layout.encoding, collect)
    delimiter = layout.delimiter or {"csv": ",", "tsv": "\t", "plain": WHITE_SPACE}[kind]
    quoting = layout.quoting
    if quoting is None and kind == "csv":
        quoting = len(delimiter) == 1
    if quoting and len(delimiter) != 1:
        raise ConfigError(f"{path}: quoting needs a delimiter of one character; found {delimiter!r}.")
    read: Callable[..., Rows] = (
        read_delimited if collect is InMemory else partial(read_delimited_parts, collect=collect)
    )
    return read(
        path,
        wanted,
        problems,
        delimiter=delimiter,
        sniff=layout.format is None and layout.delimiter is None,
        header=kind != "plain" or None if layout.header is None else layout.header,
        quoting=quoting,
        encoding=layout.encoding,
    )


def first_record(
    path: Path, usable: Callable[[dict[str, Any]], bool]
) -> tuple[Literal["jsonl", "literal"], dict[str, Any]] | None:
    """The first usable record of a file with an object a line, and its syntax; None if there is none near its beginning.

    Raises:
        DataError: the file is missing or unreadable.
    """
    check_file(path)
    parsers: dict[Literal["jsonl", "literal"], records.Parser] = {"jsonl": parse_json, "literal": parse_literal}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return records.first_record(path, parsers, usable)
