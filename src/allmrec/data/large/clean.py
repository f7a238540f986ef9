"""The stored rows checked value by value, with the result and the report of `sources.table.interactions_of`.

A column in which nothing is out of the usual is looked at by DuckDB, or by Arrow a batch at a time, and stays where it is.
Any other is read into memory, alone, and goes through the functions that check columns in memory; what comes of it is stored
beside the rows. So both ways agree, and memory is needed for one unusual column at a time: text dates, a missing id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from allmrec.data.files import Problems, Rows
from allmrec.data.large.store import Store, StoredColumns
from allmrec.data.sources.base import Checks, number_column
from allmrec.data.sources.id_columns import id_column
from allmrec.data.sources.patterns import CONTROL, INTEGRAL, MISSING, NUMBER, SCIENTIFIC
from allmrec.data.sources.table import in_seconds, note_columns, require_some
from allmrec.data.sources.times import TICKS, DateOrder, time_column, usual_unit

__all__ = ["StoredLog", "take_stored"]

# Up to here floating point holds every whole number.
_EXACT = 2**53
# Far from where whole numbers of 64 bits end.
_LARGEST = 10**18 - 1
_WHOLE = "-?[0-9]{1,18}"
_ROWS = 1 << 18
# Most ids: letters and digits, at least one of these, which `_all_usual` need not look at.
_PLAIN_ID = "[0-9A-Za-z_-]*[0-9][0-9A-Za-z_-]*"


@dataclass(frozen=True)
class StoredLog:
    """Interactions that lie in a store.

    Attributes:
        store: where the view `clean` has, in the order of the file, `row`, `good` (whether no check refused it), `user`,
            `item` and, where there are such columns, `rating`, `time` and `position`.
        n_rows: how many there are, the refused ones included.
        n_good: how many were not refused.
        has_rating, has_time, has_position: whether there are such columns.
        ticks: how many units of `time` make a second.
        names: tables with each id once and its number of rows, by "user" and "item", where there are such already.
        tables: where the rows are kept.
    """

    store: Store
    n_rows: int
    n_good: int
    has_rating: bool
    has_time: bool
    has_position: bool
    ticks: int
    names: Mapping[str, str]
    tables: Sequence[str]

    def drop(self) -> None:
        """Remove the rows, and what was made of them for a time."""
        self.store.sql.execute("DROP VIEW clean")
        for table in ("names_user", "names_item", *self.tables):
            self.store.sql.execute(f"DROP TABLE IF EXISTS {table}")


class _Cleaner:
    """Collects, for each column, the expression that gives its checked values."""

    def __init__(self, rows: Rows, problems: Problems) -> None:
        assert isinstance(rows.columns, StoredColumns)  # noqa: S101  # made by this package only
        self.checks = Checks(rows, problems)
        self.stored = rows.columns
        self.store = rows.columns.store
        self.names: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.beside: list[str] = []

    def ids(self, name: str, word: str) -> None:
        """A column of ids."""
        (field,) = self.stored.fields(name)
        if self._usual_ids(field, f"names_{word}"):
            self.values[word], self.names[word] = f"log.{field}", f"names_{word}"
            return
        self._beside(word, id_column(self.checks, name, word).dictionary_decode())

    def numbers(self, name: str, word: str) -> None:
        """A column of numbers."""
        usual = self._usual_number(name)
        if usual is not None:
            self.values[word] = usual
            return
        self._beside(word, pa.array(number_column(self.checks, name, word)))

    def times(self, name: str, word: str, date_order: DateOrder | None, unit: str | None, units: int) -> int:
        """A column of times, or of positions; gives the units that make a second."""
        usual = self._usual_whole(name)
        stamp = next((kind for kind in self.stored.kinds[name] if pa.types.is_timestamp(kind)), None)
        if usual is not None and stamp is not None:
            return self._stamps(word, usual, TICKS[stamp.unit])
        ticks = None if usual is None else self._ticks(name, usual, unit)
        if usual is not None and ticks is not None:
            self.values[word] = usual if units == 1 else f"({usual})::DOUBLE / {units}"
            return ticks
        times = time_column(self.checks, name, word, date_order=date_order, unit=unit)
        self._beside(word, pa.array(in_seconds(times.values, units)))
        return times.ticks

    def _stamps(self, word: str, value: str, ticks: int) -> int:
        """Arrow's own times: in seconds where none has a fraction, else in their unit."""
        if self.store.one(f"SELECT bool_or({value} % {ticks} != 0) FROM log")[0]:
            self.values[word] = value
            return ticks
        self.values[word] = f"({value} // {ticks})"
        return 1

    def finish(self) -> None:
        """Make the view `clean`."""
        good = self.checks.good
        if not good.all():
            self._beside("good", pa.array(good))
        else:
            self.values["good"] = "true"
        joins = "".join(f" JOIN {table} ON {table}.row = log.rowid" for table in self.beside)
        values = ", ".join(f"{value} AS {word}" for word, value in self.values.items())
        self.store.sql.execute(f"CREATE VIEW clean AS SELECT log.rowid AS row, {values} FROM log{joins}")

    def _beside(self, word: str, values: pa.Array) -> None:
        """Store checked values in a table of their own."""
        table = f"checked_{word}"
        for start in range(0, len(values), _ROWS):
            part = values.slice(start, _ROWS)
            self.store.insert(table, pa.table({"row": pa.array(np.arange(start, start + len(part))), "value": part}))
        self.beside.append(table)
        self.values[word] = f"{table}.value"

    def _usual_ids(self, field: str, name: str) -> bool:
        """Whether `id_column` would give a column back as it is; makes a table with that name of its ids and their rows."""
        self.store.sql.execute(
            f"CREATE TABLE {name} AS SELECT {field} AS name, count(*) AS n FROM log GROUP BY {field}"
        )
        query = f"SELECT name FROM {name} WHERE NOT coalesce(regexp_full_match(name, '{_PLAIN_ID}'), false)"
        return all(_all_usual(batch.column(0)) for batch in self.store.batches(query))

    def _usual_number(self, name: str) -> str | None:
        """The expression of a column in which every row has a finite number; None where one may not."""
        whole, floating, text = self.stored.fields(name)
        kinds = self.stored.kinds[name]
        if kinds == {pa.large_string()}:
            value = f"TRY_CAST({text} AS DOUBLE)"
            fits = f"regexp_full_match({text}, '{NUMBER.pattern}')"
        elif kinds and kinds <= {pa.int64(), pa.float64()}:
            value = f"coalesce({floating}, {whole}::DOUBLE)"
            fits = f"coalesce(abs({whole}) <= {_EXACT}, true)"
        else:
            return None
        usual = f"coalesce({fits} AND isfinite({value}), false)"
        return value if self.store.one(f"SELECT coalesce(bool_and({usual}), false) FROM log")[0] else None

    def _usual_whole(self, name: str) -> str | None:
        """The expression of a column in which every row has a whole number; None where one may not."""
        whole, _, text = self.stored.fields(name)
        kinds = self.stored.kinds[name]
        if kinds == {pa.large_string()}:
            value, fits = f"TRY_CAST({text} AS BIGINT)", f"regexp_full_match({text}, '{_WHOLE}')"
        elif kinds == {pa.int64()} or (len(kinds) == 1 and pa.types.is_timestamp(next(iter(kinds)))):
            value, fits = whole, f"{whole} BETWEEN -{_LARGEST} AND {_LARGEST}"
        else:
            return None
        return (
            value if self.store.one(f"SELECT coalesce(bool_and(coalesce({fits}, false)), false) FROM log")[0] else None
        )

    def _ticks(self, name: str, value: str, unit: str | None) -> int | None:
        """How many units make a second where all whole numbers are in the same; None where that takes a closer look."""
        if unit is not None:
            return 1
        if not self.checks.good.all():
            return None
        size = f"abs({value})"
        least, most, smallest, largest = self.store.one(
            f"SELECT min({value}), max({value}), min({size}) FILTER ({size} >= 100000000), max({size}) FROM log"
        )
        return usual_unit(self.checks, name, least, most, smallest, largest)


def take_stored(
    rows: Rows,
    problems: Problems,
    *,
    user: str,
    item: str,
    rating: str | None = None,
    time: str | None = None,
    position: str | None = None,
    date_order: DateOrder | None = None,
    unit: str | None = None,
    units_a_second: int = 1,
) -> StoredLog:
    """Interactions from the named columns of stored rows; arguments and errors as in `interactions_of`."""
    note_columns(rows, problems, user=user, item=item, rating=rating, time=time, position=position)
    cleaner = _Cleaner(rows, problems)
    cleaner.ids(user, "user")
    cleaner.ids(item, "item")
    if rating is not None:
        cleaner.numbers(rating, "rating")
    ticks = 1 if time is None else cleaner.times(time, "time", date_order, unit, units_a_second)
    if position is not None:
        cleaner.times(position, "position", None, "any", 1)
    n_good = int(np.count_nonzero(cleaner.checks.good))
    require_some(n_good, rows.path, problems)
    cleaner.finish()
    return StoredLog(
        store=cleaner.store,
        n_rows=rows.n_rows,
        n_good=n_good,
        has_rating=rating is not None,
        has_time=time is not None,
        has_position=position is not None,
        ticks=ticks,
        names=cleaner.names,
        tables=("log", *cleaner.beside),
    )


def _all_usual(names: pa.Array) -> bool:
    """Whether none of some ids is missing, has blanks around it, or is written as a number that was cut."""
    if names.null_count:
        return False
    odd = (
        pc.not_equal(pc.utf8_trim_whitespace(names), names),
        pc.equal(names, ""),
        pc.is_in(pc.utf8_lower(names), value_set=pa.array(MISSING, names.type)),
        pc.equal(names, "NA"),
        *(pc.match_substring_regex(names, pattern) for pattern in (CONTROL, INTEGRAL, SCIENTIFIC)),
    )
    return not any(pc.any(found).as_py() for found in odd)
