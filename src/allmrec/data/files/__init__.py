"""File formats: one record a row, whatever the syntax."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.data.files import records
from allmrec.data.files.delimited import WHITE_SPACE, read_delimited
from allmrec.data.files.json_lines import parse_json, read_json_lines
from allmrec.data.files.literal_lines import parse_literal, read_literal_lines
from allmrec.data.files.parquet import read_parquet
from allmrec.data.files.rows import OnError, Problems, Role, Rows, shown, shown_all

__all__ = [
    "FileFormat",
    "FileLayout",
    "OnError",
    "Problems",
    "Role",
    "Rows",
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
        description="csv, tsv, plain (white space, no header), jsonl (an object a line), literal (a Python dict a line) "
        "or parquet.",
    )
    delimiter: str | None = Field(None, min_length=1, description="Between columns, one or several characters.")
    header: bool | None = Field(
        None, description='Whether the first record names the columns; without it they are called "1", "2", ...'
    )
    quoting: bool | None = Field(
        None, description="Whether double quotes enclose fields; by default in csv with a delimiter of one character."
    )
    encoding: str = Field("utf-8", description="Encoding of csv, tsv and plain files.")

    @field_validator("delimiter")
    @classmethod
    def _no_line_end(cls, value: str | None) -> str | None:
        if value is not None and set(value) & set('\r\n"\0'):
            raise ValueError("a delimiter holds no line end, double quote or NUL")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
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
                "each also with .gz, or set format."
            )
        return _ENDINGS[ending]

    def has_header(self, path: Path) -> bool:
        """Whether the first record names the columns."""
        return self.resolved_format(path) != "plain" if self.header is None else self.header


def read_rows(path: Path, layout: FileLayout, wanted: Mapping[str, Role], problems: Problems) -> Rows:
    """Read the wanted columns that a file has.

    Raises:
        DataError: the file is missing, empty or damaged, or has a bad record where those fail.
        ConfigError: the layout cannot be.
    """
    kind = layout.resolved_format(path)
    if kind == "parquet":
        return read_parquet(path, wanted)
    if kind == "jsonl":
        return read_json_lines(path, wanted, problems)
    if kind == "literal":
        return read_literal_lines(path, wanted, problems)
    delimiter = layout.delimiter or {"csv": ",", "tsv": "\t", "plain": WHITE_SPACE}[kind]
    quoting = kind == "csv" and len(delimiter) == 1 if layout.quoting is None else layout.quoting
    if quoting and len(delimiter) != 1:
        raise ConfigError(f"{path}: quoting needs a delimiter of one character; found {delimiter!r}.")
    return read_delimited(
        path,
        wanted,
        problems,
        delimiter=delimiter,
        header=layout.has_header(path),
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
    parsers: dict[Literal["jsonl", "literal"], records.Parser] = {"jsonl": parse_json, "literal": parse_literal}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return records.first_record(path, parsers, usable)
