"""What every source gives: raw interactions and items, checked value by value.

A source turns the columns of its files into these with `id_column`, `number_column`, `time_column` and `text_column`,
and drops with `Checks` the rows that they refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from allmrec.core.errors import DataError
from allmrec.data.files import Problems, Rows, shown, shown_all

__all__ = [
    "Checks",
    "Numbers",
    "RawData",
    "RawInteractions",
    "RawItems",
    "id_column",
    "list_column",
    "number_column",
    "require_columns",
    "text_column",
    "time_column",
]

_INTEGER = r"^[+-]?[0-9]{1,18}$"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 2.0**62

Numbers = Float64[np.ndarray, " interactions"] | Int64[np.ndarray, " interactions"]


@dataclass(frozen=True, eq=False)
class RawInteractions:
    """Interactions in the order of their file.

    Attributes:
        user_ids, item_ids: Arrow arrays of text, dictionary-encoded or plain.
        ratings: how much the user liked it, or None where the source has none.
        times: Unix seconds, possibly with fractions, or None.
        positions: the place in the user's order, or None. It decides between equal times; file order decides the rest.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    ratings: Float64[np.ndarray, " interactions"] | None = None
    times: Numbers | None = None
    positions: Numbers | None = None


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
    """

    interactions: RawInteractions
    items: RawItems | None
    files: tuple[Path, ...]
    skipped: dict[str, int]


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
        where = "" if self.problems.on_error == "skip" else self.rows.where(row)
        line = None if self.problems.on_error == "skip" else self.rows.line(row)
        self.problems.add(kind, where + describe(row), self.rows.path, line, int(new.sum()))
        self.good &= ~bad

    def keep(self, column: pa.Array) -> pa.Array:
        """The good rows of a column."""
        return column if self.good.all() else column.filter(pa.array(self.good))


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
                hint = f" The one column looks like several; set delimiter to {marks[0]!r}." if marks else ""
            raise DataError(
                f"no column {name!r}; found {shown_all(rows.names)}. Name the right one with {option}.{hint}", rows.path
            )


def id_column(checks: Checks, name: str, word: str) -> pa.DictionaryArray:
    """Ids without white space around them, each kept once; empty ids and control characters are refused."""
    ids = _encoded(checks.rows.columns[name])
    known = ids.dictionary
    trimmed = pc.utf8_trim_whitespace(known)
    if not trimmed.equals(known):
        ids = _encoded(trimmed.take(ids.indices))
        known = ids.dictionary
    # What holds for an id holds for all its rows, and there are far fewer ids than rows.
    for bad, kind, describe in (
        (
            pc.equal(known, ""),
            f"empty {word} id",
            lambda row: f"column {name!r} is empty; expected the id of the {word}",
        ),
        (
            pc.match_substring_regex(known, r"[\x00-\x1f\x7f]"),
            f"control character in {word} id",
            lambda row: f"column {name!r} holds {shown(ids[row].as_py())}; expected an id without control characters",
        ),
    ):
        if _mask(bad).any():
            checks.reject(_mask(bad)[ids.indices.to_numpy()], kind, describe)
    return ids


def _encoded(ids: pa.Array) -> pa.DictionaryArray:
    """Each id once, and which one each row has; a missing id is an empty one."""
    if pa.types.is_dictionary(ids.type):
        if not ids.null_count:
            return ids
        ids = ids.dictionary_decode()
    return pc.fill_null(ids, "").dictionary_encode()


def number_column(checks: Checks, name: str, word: str) -> Float64[np.ndarray, " rows"]:
    """Finite numbers; anything else is refused (and NaN here)."""
    column = checks.rows.columns[name]
    if pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        texts = column.to_pylist()
        try:
            # Faster than reading one by one, but Arrow reads more than numbers, such as "nan".
            plain = pc.all(pc.match_substring_regex(column, rf"^{_NUMBER.pattern}$")).as_py()
            values = column.cast(pa.float64()) if plain and not column.null_count else None
        except pa.ArrowException:
            values = None
        numbers = values.to_numpy() if values is not None else np.array([_number(text) for text in texts], dtype=float)
    else:
        numbers = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    checks.reject(
        ~np.isfinite(numbers),
        f"{word} is no number",
        lambda row: f"column {name!r} holds {shown(column[row].as_py())}; expected a number as the {word}",
    )
    return numbers


def time_column(checks: Checks, name: str, word: str = "time") -> Numbers:
    """Unix seconds, from numbers or from dates and times in ISO 8601; whole numbers stay exact.

    A column holds one of the two: what fits most rows decides, and the others are refused. A time without a zone is
    taken as UTC.
    """
    column = checks.rows.columns[name]
    if not pa.types.is_large_string(column.type):
        if pa.types.is_integer(column.type) and not column.null_count:
            exact: Numbers = column.cast(pa.int64()).to_numpy()
            return exact
        return number_column(checks, name, word)
    column = pc.fill_null(pc.utf8_trim_whitespace(column), "")
    if _mask(pc.match_substring_regex(column, _INTEGER)).all():
        whole: Numbers = pc.replace_substring_regex(column, r"^\+", "").cast(pa.int64()).to_numpy()
        return whole
    texts = column.to_pylist()
    exactly = [int(text) if re.fullmatch(_INTEGER, text) else None for text in texts]
    numbers = np.array([_number(text) for text in texts], dtype=np.float64)
    dates = np.array([_seconds(text) for text in texts], dtype=np.float64)
    use_dates = np.isfinite(dates).sum() > np.isfinite(numbers).sum()
    values = dates if use_dates else numbers
    bad = ~np.isfinite(values)
    bad[~bad] |= np.abs(values[~bad]) >= _LATEST
    expected = "a date or time such as 2018-06-17 or 2018-06-17T12:30:00Z" if use_dates else "a number"
    checks.reject(
        bad,
        f"{word} is no {'date' if use_dates else 'number'}",
        lambda row: f"column {name!r} holds {shown(column[row].as_py())}; expected {expected} as the {word}",
    )
    values = np.where(bad, 0.0, values)
    if all(number is not None for number, refused in zip(exactly, bad, strict=True) if not refused) and not use_dates:
        return np.array([number or 0 for number in exactly], dtype=np.int64)
    return values


def text_column(checks: Checks, name: str | None) -> list[str | None]:
    """Texts of the good rows, None where there is none. A list of texts is joined by blanks."""
    if name is None:
        return [None] * int(checks.good.sum())
    values = checks.keep(checks.rows.columns[name]).to_pylist()
    joined = (" ".join(part for part in value if part) if isinstance(value, list) else value for value in values)
    return [text if text else None for text in joined]


def list_column(checks: Checks, name: str | None, separator: str | None) -> list[tuple[str, ...]]:
    """Lists of texts of the good rows. One text is split at the separator, if any; several are taken as they are."""
    if name is None:
        return [()] * int(checks.good.sum())
    values = checks.keep(checks.rows.columns[name]).to_pylist()
    lists = (value if isinstance(value, list) else [value] for value in values)
    split = (texts[0].split(separator) if separator and len(texts) == 1 and texts[0] else texts for texts in lists)
    return [tuple(text for text in texts if text) for texts in split]


def _mask(array: pa.Array) -> Bool[np.ndarray, " rows"]:
    mask: Bool[np.ndarray, " rows"] = array.to_numpy(zero_copy_only=False).astype(bool)
    return mask


def _number(text: str | None) -> float:
    """A number, or NaN. Python's float reads more than numbers: underscores, "nan", other scripts' digits."""
    if text is None or not _NUMBER.fullmatch(text):
        return float("nan")
    return float(text)


def _seconds(text: str) -> float:
    """Unix seconds of an ISO 8601 date or time, or NaN."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - _EPOCH) / timedelta(seconds=1)
    except (ValueError, OverflowError):
        return float("nan")
