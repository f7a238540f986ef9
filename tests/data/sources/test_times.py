"""Times as logs write them: units, fractions, dates in other orders."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec import dataset, read_table
from allmrec.core.errors import DataError
from allmrec.data import InteractionDataset
from allmrec.data.files import Problems, Rows
from allmrec.data.sources.base import Checks
from allmrec.data.sources.times import Times, time_column

_DAY = 1_614_729_600  # 2021-03-03


def order(data: InteractionDataset) -> list[str]:
    return [data.items.id(int(item)) for item in data.sequence(0)]


def log(folder: Path, times: list[str], name: str = "time", **options: object) -> InteractionDataset:
    path = folder / "log.csv"
    path.write_text(f"user_id;item_id;{name}\n" + "".join(f"u;{n};{time}\n" for n, time in enumerate(times)))
    return read_table(path, **options)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_parquet_times_below_a_second_keep_their_order(tmp_path: Path, unit: str, zone: str | None) -> None:
    ticks = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = pa.array([_DAY * ticks + n for n in (3, 1, 2)], pa.timestamp(unit, tz=zone))
    table = pa.table({"user_id": ["u"] * 3, "item_id": ["C", "A", "B"], "timestamp": times})
    pq.write_table(table, tmp_path / "log.parquet")
    for data in (read_table(tmp_path / "log.parquet"), dataset(table)):
        assert order(data) == ["A", "B", "C"]
        assert data.times is not None
        assert data.times.tolist() == [_DAY] * 3


@pytest.mark.parametrize("digits", [1, 3, 6, 9])
@pytest.mark.parametrize("ending", ["", "Z", "+02:00", " UTC"])
def test_fractions_of_iso_times_keep_their_order(tmp_path: Path, digits: int, ending: str) -> None:
    data = log(tmp_path, [f"2021-03-03T12:00:00.{n:0{digits}}{ending}" for n in (3, 1, 2)])
    assert order(data) == ["1", "2", "0"]
    assert data.times is not None
    assert data.times.tolist() == [_DAY + 12 * 3600 - (7200 if ending == "+02:00" else 0)] * 3


@given(st.lists(st.one_of(*(st.integers(-(10**n), 10**n) for n in (3, 8, 9, 12, 15, 18))), min_size=1, max_size=8))
def test_one_refused_row_changes_nothing_of_the_others(numbers: list[int]) -> None:
    """The unit of all rows follows from their extremes, that of rows with a gap from each of them."""

    def found(values: list[int], refused: int) -> tuple[Checks, Times]:
        column = pa.array(values, pa.int64())
        problems = Problems("skip", max_skipped=1)
        checks = Checks(Rows(Path("log.csv"), ("t",), {"t": column}, len(values), lambda: None), problems)
        checks.good[len(values) - refused :] = False
        return checks, time_column(checks, "t")

    (whole, times), (gap, others) = found(numbers, 0), found([*numbers, 0], 1)
    assert times.ticks == others.ticks
    assert times.values.tolist() == others.values[:-1].tolist()
    assert whole.good.tolist() == gap.good[:-1].tolist()
    assert whole.problems.notes == gap.problems.notes
    assert whole.problems.skipped == gap.problems.skipped


@pytest.mark.parametrize(("factor", "called"), [(10**3, "milli"), (10**6, "micro"), (10**9, "nano")])
@pytest.mark.parametrize("point", ["", ".0"])
def test_the_unit_of_unix_times_follows_from_their_size(tmp_path: Path, factor: int, called: str, point: str) -> None:
    data = log(tmp_path, [f"{(_DAY + n) * factor}{point}" for n in (3, 1, 2)])
    assert order(data) == ["1", "2", "0"]
    assert data.times is not None
    assert data.times.tolist() == [_DAY + 1, _DAY + 2, _DAY + 3]
    assert f"log.csv: column 'time' holds Unix times in {called}seconds" in data.provenance.notes


def test_units_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log\.csv:4: column 'time' holds 1614729600000, which is a time in millisec"):
        log(tmp_path, [str(_DAY), str(_DAY + 1), str(_DAY * 1000)])


@pytest.mark.parametrize(
    "written",
    [
        "%m/%d/%Y",
        "%d/%m/%Y",
        "%d.%m.%Y",
        "%m-%d-%Y",
        "%Y/%m/%d",
        "%d %b %Y",
        "%d-%b-%Y",
        "%B %d, %Y",
        "%m %d, %Y",
        "%m/%d/%Y %H:%M",
        "%m/%d/%Y %I:%M:%S %p",
        "%d/%m/%Y %H:%M:%S",
        "%Y-%m-%d %H:%M:%S UTC",
        "%a %b %d %H:%M:%S +0000 %Y",
        "%a, %d %b %Y %H:%M:%S GMT",
    ],
)
def test_dates_are_read_as_they_are_written(tmp_path: Path, written: str) -> None:
    days = [datetime(2020, 12, 30, 13) + timedelta(days=n) for n in (40, 0, 7, 3)]
    if "%H" not in written and "%I" not in written:
        days = [day.replace(hour=0) for day in days]
    data = log(tmp_path, [day.strftime(written) for day in days])
    assert order(data) == ["1", "3", "2", "0"]
    assert data.times is not None
    assert data.times.tolist() == sorted(int((day - datetime(1970, 1, 1)).total_seconds()) for day in days)


def test_day_and_month_are_not_guessed(tmp_path: Path) -> None:
    times = ["03/04/2021", "05/01/2021"]
    with pytest.raises(DataError, match=r"none tells the day from the month; say which comes first with date_order"):
        log(tmp_path, times)
    assert order(log(tmp_path, times, date_order="day-first")) == ["1", "0"]
    assert order(log(tmp_path, times, date_order="month-first")) == ["0", "1"]
    with pytest.raises(DataError, match=r"log\.csv:4: column 'time' holds '03/13/2021'; expected a date"):
        log(tmp_path, ["13/03/2021", "14/03/2021", "03/13/2021"])
    with pytest.raises(DataError, match=r"log\.csv:3: column 'time' holds '31/02/2021'"):
        log(tmp_path, ["13/03/2021", "31/02/2021"])


@pytest.mark.parametrize(
    "name", ["date", "ts", "bought_at", "reviewTime", "unixReviewTime", "Created At", "event-time"]
)
def test_a_time_column_is_found_by_its_usual_names(tmp_path: Path, name: str) -> None:
    data = log(tmp_path, ["3", "1", "2"], name)
    assert order(data) == ["1", "2", "0"]
    assert data.provenance.columns == {"log.csv": {"user": "user_id", "item": "item_id", "time": name}}


@pytest.mark.parametrize(
    ("name", "time", "hint"),
    [
        ("lastSeenAt", "3", "'lastSeenAt' may be one (--time lastSeenAt); "),
        ("pickup_datetime_local", "3", "'pickup_datetime_local' may be one"),
        ("x", "2021-03-03", "'x' may be one"),
        ("x", "03/13/2021 10:00", "'x' may be one"),
        ("x", "1614729600", "'x' may be one"),
        ("sentiment", "3", "as the order of time; name it"),
    ],
)
def test_file_order_is_not_taken_for_time_in_silence(tmp_path: Path, name: str, time: str, hint: str) -> None:
    with pytest.warns(UserWarning, match="no time column found, so the order of lines is taken") as warned:
        data = log(tmp_path, [time] * 2, name)
    assert hint in str(warned[0].message)
    assert data.provenance.warnings == (str(warned[0].message),)
    data = log(tmp_path, [time] * 2, name, time=None)
    assert "log.csv: no time; the order of lines is the order of each user's interactions" in data.provenance.notes


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["20210303", "20191231", "20210302"], [1577750400, _DAY - 86400, _DAY]),
        (["20210303000001", "20210303000000"], [_DAY, _DAY + 1]),
        (["2021-3-3", "2021-3-2", "2020-12-31"], [1609372800, _DAY - 86400, _DAY]),
    ],
)
def test_dates_without_marks_or_zeros_are_dates(tmp_path: Path, texts: list[str], expected: list[int]) -> None:
    data = log(tmp_path, texts)
    assert data.times is not None
    assert data.times.tolist() == expected


@pytest.mark.parametrize("texts", [["20210303", "20211303"], ["20210303", "20210230"], ["20210303", "5"]])
def test_numbers_that_are_not_all_dates_are_numbers(tmp_path: Path, texts: list[str]) -> None:
    data = log(tmp_path, texts)
    assert data.times is not None
    assert data.times.tolist() == sorted(map(int, texts))


def test_a_column_that_is_neither_asks_for_either(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds '12/31/19'; expected a Unix time, or a date or time such as 2018-06-17"):
        log(tmp_path, ["12/31/19", "01/02/20"])
