"""Columns of times: Unix times in any unit, ISO 8601, and the other ways in which logs write dates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from allmrec.core.errors import DataError
from allmrec.data.files import shown
from allmrec.data.sources.base import Checks, Numbers, number_column, parsed_number

__all__ = ["TICKS", "DateOrder", "Times", "time_column", "usual_unit"]

DateOrder: TypeAlias = Literal["day-first", "month-first"]

_INTEGER = r"^[+-]?[0-9]{1,18}$"
_LATEST = 2.0**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANO = 10**9
TICKS = {"s": 1, "ms": 1000, "us": 10**6, "ns": _NANO}

# Unix times from 1973 to 5138, by the size of the number; what is smaller fits any unit.
_SMALLEST = 1e8
_UNITS = (
    (1e11, "s", "seconds"),
    (1e14, "ms", "milliseconds"),
    (1e17, "us", "microseconds"),
    (float("inf"), "ns", "nanoseconds"),
)

_FRACTION = re.compile(r"(.*:\d\d)[.,](\d+)(.*)")
_ZONE = re.compile(r"\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
_CLOCK = (
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp])?(?:\.?[Mm]\.?)?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
)
_WEEKDAY = r"(?:[A-Za-z]{3,9},? )?"
_EITHER_WAY = re.compile(rf"(?P<first>\d{{1,2}})(?P<mark>[/.\-])(?P<other>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}){_CLOCK}")
_OTHERS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<year>\d{{4}})[/.\-](?P<month>\d{{1,2}})[/.\-](?P<day>\d{{1,2}}){_CLOCK}",
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})[ \-](?P<name>[A-Za-z]{{3,9}})\.?[ \-,]+(?P<year>\d{{4}}){_CLOCK}",
        rf"{_WEEKDAY}(?P<name>[A-Za-z]{{3,9}})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}}){_CLOCK}",
        # As in the Amazon reviews of 2014 and 2018.
        rf"(?P<month>\d{{1,2}}) (?P<day>\d{{1,2}}), (?P<year>\d{{4}}){_CLOCK}",
        # As in tweets.
        (
            r"[A-Za-z]{3} (?P<name>[A-Za-z]{3}) (?P<day>\d{1,2}) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) "
            r"(?P<zone>[+-]\d{4}) (?P<year>\d{4})"
        ),
    )
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

# Seconds and nanoseconds.
_Moment: TypeAlias = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Times:
    """Times of every row.

    Attributes:
        values: Unix time; 0 where a row was refused.
        ticks: how many units of it make a second.
    """

    values: Numbers
    ticks: int = 1


def time_column(
    checks: Checks, name: str, word: str = "time", *, date_order: DateOrder | None = None, unit: str | None = None
) -> Times:
    """Unix times, from numbers or from dates and times; whole numbers and fractions of a second stay exact.

    A column holds numbers or dates: what fits most rows decides, and the others are refused. A time without a zone is
    taken as UTC. The unit of Unix times follows from their size, and is noted where it is not seconds.

    Args:
        checks: the rows.
        name: the column.
        word: what it is called in messages.
        date_order: which of day and month comes first in 03/04/2021; None: what the other dates tell.
        unit: the unit of numbers where it is known: "s" or "any" for numbers that are no times.

    Raises:
        DataError: a row has no time, where that fails; or nothing tells day from month.
    """
    column = checks.rows.columns[name]
    if pa.types.is_timestamp(column.type):
        return _stamps(checks, column, name, word)
    if not pa.types.is_large_string(column.type):
        if pa.types.is_integer(column.type) and not column.null_count:
            exact: Numbers = column.cast(pa.int64()).to_numpy()
            return _in_unit(checks, exact, name, word, unit)
        return _in_unit(checks, number_column(checks, name, word), name, word, unit)
    column = pc.fill_null(pc.utf8_trim_whitespace(column), "")
    if pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
        whole: Numbers = pc.replace_substring_regex(column, r"^\+", "").cast(pa.int64()).to_numpy()
        return _in_unit(checks, whole, name, word, unit)
    # Days come again and again, so that each text is read once.
    encoded = column.dictionary_encode()
    codes, texts = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    often = np.bincount(codes, minlength=len(texts))
    numbers = np.array([parsed_number(text) for text in texts], dtype=np.float64)
    moments = _moments(checks, name, texts, often, date_order)
    is_date = np.array([moment is not None for moment in moments], dtype=bool)
    if often[is_date].sum() > often[np.isfinite(numbers)].sum():
        _refuse(checks, column, ~is_date[codes], name, f"{word} is no date", _DATES.format(word))
        return _of_moments(moments, codes)
    bad = ~np.isfinite(numbers)
    bad[~bad] |= np.abs(numbers[~bad]) >= _LATEST
    expected = f"a number as the {word}" if np.isfinite(numbers).any() else f"a Unix time, or {_DATES.format(word)}"
    _refuse(checks, column, bad[codes], name, f"{word} is no number", expected)
    exactly = [int(text) if re.fullmatch(_INTEGER, text) else None for text in texts]
    if all(number is not None for number, refused in zip(exactly, bad, strict=True) if not refused):
        values: Numbers = np.array([number or 0 for number in exactly], dtype=np.int64)[codes]
    else:
        values = np.where(bad, 0.0, numbers)[codes]
    return _in_unit(checks, values, name, word, unit)


_DATES = "a date or time such as 2018-06-17 or 2018-06-17T12:30:00Z as the {}"


def _refuse(
    checks: Checks, column: pa.Array, bad: Bool[np.ndarray, " rows"], name: str, kind: str, expected: str
) -> None:
    checks.reject(bad, kind, lambda row: f"column {name!r} holds {shown(column[row].as_py())}; expected {expected}")


def _stamps(checks: Checks, column: pa.Array, name: str, word: str) -> Times:
    """Times of Arrow's own type, in their unit."""
    missing = pc.is_null(column).to_numpy(zero_copy_only=False)
    _refuse(checks, column, missing, name, f"{word} is no date", _DATES.format(word))
    values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    ticks = TICKS[column.type.unit]
    # Seconds are what most logs have, however fine their type is.
    return Times(values // ticks) if not (values % ticks).any() else Times(values, ticks)


def _in_unit(checks: Checks, values: Numbers, name: str, word: str, unit: str | None) -> Times:
    """Numbers with the unit that their size tells; rows in another unit are refused."""
    if unit is not None:
        return Times(values)
    if values.dtype == np.int64 and len(values) and checks.good.all():
        size = np.abs(values)
        telling = size[size >= _SMALLEST]
        ticks = usual_unit(
            checks,
            name,
            int(values.min()),
            int(values.max()),
            int(telling.min()) if len(telling) else None,
            int(size.max()),
        )
        if ticks is not None:
            return Times(values, ticks)
    dates = _compact(values[checks.good])
    if dates is not None:
        checks.problems.note(f"{checks.rows.path.name}: column {name!r} holds dates such as {values[checks.good][0]}")
        seconds = np.zeros(len(values), dtype=np.int64)
        seconds[checks.good] = dates
        return Times(seconds)
    size = np.abs(np.where(checks.good, values, 0)).astype(np.float64)
    found = np.searchsorted([most for most, _, _ in _UNITS[:-1]], size, side="right")
    decisive = (size >= _SMALLEST) & np.isfinite(size)
    if not decisive.any():
        return Times(values)
    most = int(np.bincount(found[decisive]).argmax())
    _, short, called = _UNITS[most]
    checks.reject(
        decisive & (found != most),
        f"{word} in another unit",
        lambda row: (
            f"column {name!r} holds {values[row]}, which is a time in {_UNITS[int(found[row])][2]}, and most are in "
            f"{called}; expected one unit"
        ),
    )
    if short != "s":
        checks.problems.note(f"{checks.rows.path.name}: column {name!r} holds Unix times in {called}")
    return Times(values, TICKS[short])


def usual_unit(checks: Checks, name: str, least: int, most: int, smallest: int | None, largest: int) -> int | None:
    """The units that make a second where whole numbers are Unix times in one unit, as `time_column` finds it.

    Args:
        checks: takes the note of a unit that is not seconds.
        name: the column.
        least, most: the extremes of all values.
        smallest: the smallest size of those that are large enough to tell a unit; None where none is.
        largest: the largest size.

    Returns:
        None where they may be dates such as 20180617, or in several units.
    """
    clock = 10**6 if least >= 10**13 else 1
    if least >= 19000101 * clock and most < 21010101 * clock:
        return None
    if smallest is None:
        return 1
    first, last = (
        int(np.searchsorted([most for most, _, _ in _UNITS[:-1]], float(size), side="right"))
        for size in (smallest, largest)
    )
    if first != last:
        return None
    _, short, called = _UNITS[first]
    if short != "s":
        checks.problems.note(f"{checks.rows.path.name}: column {name!r} holds Unix times in {called}")
    return TICKS[short]


def _compact(values: Numbers) -> Int64[np.ndarray, " rows"] | None:
    """Unix seconds where every number is a date such as 20180617, or a date and time such as 20180617123000; else None."""
    known, places = np.unique(values, return_inverse=True)
    clock = 10**6 if len(known) and known[0] >= 10**13 else 1
    if not len(known) or known.dtype.kind != "i" or known[0] < 19000101 * clock or known[-1] >= 21010101 * clock:
        return None
    moments = [
        _iso(f"{number:0{8 if clock == 1 else 14}}"[:8] + _with_colons(number, clock)) for number in known.tolist()
    ]
    if any(moment is None for moment in moments):
        return None
    return np.array([moment[0] for moment in moments if moment is not None], dtype=np.int64)[places]


def _with_colons(number: int, clock: int) -> str:
    """The time of day in a number of 14 digits, as ISO 8601 writes it; nothing where it has none."""
    return "" if clock == 1 else f"T{number % clock:06}"


def _of_moments(moments: list[_Moment | None], codes: Int64[np.ndarray, " rows"] | np.ndarray) -> Times:
    """Moments as whole numbers in the coarsest unit that keeps their order."""
    known = [moment or (0, 0) for moment in moments]
    if not any(part for _, part in known):
        return Times(np.array([second for second, _ in known], dtype=np.int64)[codes])
    far = any(abs(second) >= 2**63 // _NANO - 1 for second, _ in known)
    ticks = 10**6 if far else _NANO
    values = [second * ticks + part // (_NANO // ticks) for second, part in known]
    return Times(np.array(values, dtype=np.int64)[codes], ticks)


def _moments(
    checks: Checks, name: str, texts: list[str], often: np.ndarray, order: DateOrder | None
) -> list[_Moment | None]:
    """The moment of each text, or None where it is none."""
    found = [_iso(text) for text in texts]
    rest = [place for place, moment in enumerate(found) if moment is None and texts[place]]
    either = {place: match for place in rest if (match := _EITHER_WAY.fullmatch(texts[place]))}
    # Dates in numbers only as the column's own way of writing: a single one among others is a mistake.
    if either and sum(often[place] for place in either) * 2 > sum(often):
        day_first = _day_first(checks, name, {texts[place]: match for place, match in either.items()}, order)
        for place, match in either.items():
            first, other = int(match["first"]), int(match["other"])
            day, month = (first, other) if day_first else (other, first)
            found[place] = _moment(match, month, day)
    for place in rest:
        if found[place] is None:
            matches = (pattern.fullmatch(texts[place]) for pattern in _OTHERS)
            match = next((match for match in matches if match), None)
            if match is not None:
                parts = match.groupdict()
                months = {month: number for number, month in enumerate(_MONTHS, start=1)}
                month = months.get(parts["name"][:3].lower(), 0) if parts.get("name") else int(parts["month"] or 0)
                found[place] = _moment(match, month, int(match["day"]))
    return found


def _day_first(checks: Checks, name: str, dates: dict[str, re.Match[str]], order: DateOrder | None) -> bool:
    """Whether the day comes before the month in dates in numbers.

    Raises:
        DataError: no date tells.
    """
    if order is not None:
        return order == "day-first"
    days = [text for text, match in dates.items() if int(match["first"]) > 12]
    months = [text for text, match in dates.items() if int(match["other"]) > 12]
    example = next(iter(dates))
    if not days and not months and all(match["mark"] == "." for match in dates.values()):
        days = [example]  # points stand in dates that begin with the day
    if not days and not months:
        raise DataError(
            f"column {name!r} holds dates such as {example}, and none tells the day from the month; say which comes "
            "first with date_order (--date-order day-first or month-first)",
            checks.rows.path,
        )
    day_first = len(days) > len(months)
    checks.problems.note(
        f"{checks.rows.path.name}: dates such as {(days if day_first else months)[0]} in column {name!r} are read as "
        f"{'day, month' if day_first else 'month, day'}, year (--date-order)"
    )
    return day_first


def _iso(text: str) -> _Moment | None:
    """Seconds and nanoseconds of an ISO 8601 date or time."""
    # Python would cut a fraction off behind the sixth digit.
    digits = _FRACTION.fullmatch(text) if ":" in text else None
    if digits is not None:
        text = digits[1] + digits[3]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(_ZONE.sub("+00:00", text))
        except ValueError:
            return None
    return _since(moment, 0 if digits is None else int(digits[2][:9].ljust(9, "0")))


def _moment(match: re.Match[str], month: int, day: int) -> _Moment | None:
    """Seconds and nanoseconds of a match of the patterns above; None where there is no such day or time."""
    parts = {name: value or "" for name, value in match.groupdict().items()}
    hour = int(parts["hour"] or 0)
    if half := parts.get("half", "").lower():
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    zone = parts["zone"] if parts["zone"] and parts["zone"][0] in "+-" else "+00:00"
    zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    clock = f"{hour:02}:{int(parts['minute'] or 0):02}:{int(parts['second'] or 0):02}"
    try:
        moment = datetime.fromisoformat(f"{parts['year']}-{month:02}-{day:02}T{clock}{zone}")
    except ValueError:
        return None
    return _since(moment, int(parts.get("part", "").ljust(9, "0") or 0))


def _since(moment: datetime, part: int) -> _Moment | None:
    """Whole seconds since 1970, and the nanoseconds beside them."""
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - _EPOCH) // timedelta(seconds=1), part
    except OverflowError:
        return None
