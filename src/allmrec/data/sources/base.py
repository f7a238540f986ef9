"""What every source gives: raw interactions and items, checked value by value.

A source turns the columns of its files into these with `id_columns.id_column`, `number_column`, `text_column` and
`times.time_column`, and drops with `Checks` the rows that they refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, Problems, Rows, Wanted, shown, shown_all
from allmrec.data.sources.patterns import MISSING, NUMBER

__all__ = [
    "Checks",
    "Log",
    "Numbers",
    "RawData",
    "RawInteractions",
    "RawItems",
    "ReadRows",
    "list_column",
    "number_column",
    "parsed_number",
    "require_columns",
    "text_column",
]

Numbers = Float64[np.ndarray, " interactions"] | Int64[np.ndarray, " interactions"]

# Reads a file's rows, as `read_rows` does.
ReadRows: TypeAlias = Callable[[Path, FileLayout, Wanted, Problems], Rows]

# Interactions, wherever they are kept.
Log = TypeVar("Log")


@dataclass(frozen=True, eq=False)
class RawInteractions:
    """Interactions in the order of their file.

    Attributes:
        user_ids, item_ids: Arrow arrays of text, dictionary-encoded or plain.
        ratings: how much the user liked it, or None where the source has none.
        times: Unix time, or None.
        positions: the place in the user's order, or None. It decides between equal times; file order decides the rest.
        ticks: how many units of `times` make a second.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    ratings: Float64[np.ndarray, " interactions"] | None = None
    times: Numbers | None = None
    positions: Numbers | None = None
    ticks: int = 1


@dataclass(frozen=True, eq=False)
class RawItems:
    """Rows of an items file, one per item id, with texts as they stand there."""

    ids: tuple[str, ...]
    titles: tuple[str | None, ...]
    descriptions: tuple[str | None, ...]
    categories: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class RawData:
    """What a source read.

    Attributes:
        interactions: who met what.
        items: the items file, or None where there is none.
        files: the files that were read.
        skipped: lines that were left out, by file and kind.
        skipped_lines: which lines those are, where the format has lines.
        columns: by file, what its columns were used for.
        notes: what was recognised without being told.
        warnings: what is probably not as it should be; warned of already.
    """

    interactions: RawInteractions
    items: RawItems | None
    files: tuple[Path, ...]
    skipped: dict[str, int]
    skipped_lines: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, interactions: RawInteractions, items: RawItems | None, files: tuple[Path, ...], problems: Problems
    ) -> RawData:
        """What was read, with what there is to say of it."""
        return cls(
            interactions,
            items,
            files,
            dict(problems.skipped),
            problems.skipped_lines(),
            problems.columns,
            tuple(problems.notes),
            tuple(problems.warnings),
        )


class Checks:
    """Which rows of a file are usable; each refusal fails or is counted, as `Problems` decides."""

    def __init__(self, rows: Rows, problems: Problems) -> None:
        self.rows = rows
        self.problems = problems
        self.good: Bool[np.ndarray, " rows"] = np.ones(rows.n_rows, dtype=bool)

    def reject(self, bad: Bool[np.ndarray, " rows"], kind: str, describe: Callable[[int], str]) -> None:
        """Refuse rows that were good so far.

        Args:
            bad: which rows.
            kind: the same few words for all of them.
            describe: says what was found in a row and what was expected.

        Raises:
            DataError: unless bad lines are skipped.
        """
        new = bad & self.good
        if not new.any():
            return
        row = int(np.argmax(new))
        lines = self.rows.lines()
        numbers = (
            None if lines is None else [lines[place] for place in np.flatnonzero(new).tolist() if place < len(lines)]
        )
        where = self.rows.where(row)
        self.problems.add(kind, where + describe(row), self.rows.path, self.rows.line(row), int(new.sum()), numbers)
        self.good &= ~bad

    def keep(self, column: pa.Array) -> pa.Array:
        """The good rows of a column."""
        return column if self.good.all() else column.filter(pa.array(self.good))

    def keep_numbers(self, values: Float64[np.ndarray, " rows"] | Int64[np.ndarray, " rows"]) -> Numbers:
        """The good rows' values."""
        return values if self.good.all() else values[self.good]


def require_columns(rows: Rows, needed: Sequence[tuple[str, str]]) -> None:
    """Check that a file has its columns.

    Args:
        rows: the file.
        needed: pairs of an option and the column that it names.

    Raises:
        DataError: says which columns were found and which option names the missing one.
    """
    for option, name in needed:
        if name not in rows.names:
            hint = ""
            if len(rows.names) == 1:
                marks = [mark for mark in (";", ",", "\t", "|", "::") if mark in rows.names[0]]
                hint = (
                    f" The one column looks like several; set delimiter (--delimiter) to {marks[0]!r}." if marks else ""
                )
            elif any(NUMBER.fullmatch(found) for found in rows.names) and not rows.headerless:
                hint = " If the first line is no header, say header=False (--no-header)."
            given = "item_in_items (--items-item)" if option == "item_in_items" else f"{option} (--{option})"
            raise DataError(
                f"no column {name!r}; found {shown_all(rows.names)}. Name the right one with {given}.{hint}", rows.path
            )


def number_column(checks: Checks, name: str, word: str) -> Float64[np.ndarray, " rows"]:
    """Finite numbers; anything else is refused (and NaN here)."""
    column = checks.rows.columns[name]
    if pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        texts = column.to_pylist()
        try:
            # Faster than reading one by one, but Arrow reads more than numbers, such as "nan".
            plain = pc.all(pc.match_substring_regex(column, rf"^{NUMBER.pattern}$")).as_py()
            values = column.cast(pa.float64()) if plain and not column.null_count else None
        except pa.ArrowException:
            values = None
        numbers = (
            values.to_numpy() if values is not None else np.array([parsed_number(text) for text in texts], dtype=float)
        )
    else:
        numbers = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(zero_copy_only=False)
    checks.reject(
        ~np.isfinite(numbers),
        f"{word} is no number",
        lambda row: f"column {name!r} holds {shown(column[row].as_py())}; expected a number as the {word}",
    )
    return numbers


def text_column(checks: Checks, name: str | None) -> list[str | None]:
    """Texts of the good rows, None where there is none. A list of texts is joined by blanks.

    Where several rows hold the same word for a missing value, such as nan, it is none. One alone may be a title.
    """
    if name is None:
        return [None] * int(checks.good.sum())
    values = checks.keep(checks.rows.columns[name]).to_pylist()
    joined = (" ".join(part for part in value if part) if isinstance(value, list) else value for value in values)
    texts = [text if text else None for text in joined]
    words = Counter(text for text in texts if text and len(text) < 10 and text.strip().lower() in MISSING)
    missing = {word for word, count in words.items() if count > 1}
    for word in sorted(missing):
        checks.problems.note(
            f"{checks.rows.path.name}: {words[word]:,} rows hold {shown(word)} in column {name!r}; read as missing"
        )
    return [None if text in missing else text for text in texts]


def list_column(checks: Checks, name: str | None, separator: str | None) -> list[tuple[str, ...]]:
    """Lists of texts of the good rows. One text is split at the separator, if any; several are taken as they are."""
    if name is None:
        return [()] * int(checks.good.sum())
    values = checks.keep(checks.rows.columns[name]).to_pylist()
    lists = (value if isinstance(value, list) else [value] for value in values)
    split = (texts[0].split(separator) if separator and len(texts) == 1 and texts[0] else texts for texts in lists)
    return [tuple(text for text in texts if text) for texts in split]


def parsed_number(text: str | None) -> float:
    """A number, or NaN. Python's float reads more than numbers: underscores, "nan", other scripts' digits."""
    if text is None or not NUMBER.fullmatch(text):
        return float("nan")
    return float(text)
