"""Data sets from memory: the same as from a file, whatever holds the table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from allmrec import dataset, read_table
from allmrec.core.errors import ConfigError, DataError
from allmrec.data import InteractionDataset
from allmrec.data.build import PrepareConfig

ROWS = [
    {"user_id": 7, "item_id": 20, "rating": 5.0, "timestamp": 300},
    {"user_id": 7, "item_id": 10, "rating": 1.0, "timestamp": 100},
    {"user_id": 8, "item_id": 30, "rating": 4.0, "timestamp": 250},
    {"user_id": 8, "item_id": 10, "rating": 4.5, "timestamp": 200},
]
ITEMS = [
    {"item_id": 10, "title": "Ten", "genres": ["a", "b"]},
    {"item_id": 20, "title": None, "genres": None},
    {"item_id": 30, "title": "Thirty", "genres": ["b"]},
]


class Stream:
    """The least that a table has to offer: Arrow's PyCapsule interface."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class Interchange:
    """A table of an older library: the dataframe interchange protocol alone."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> object:
        return self._table.__dataframe__(nan_as_null, allow_copy)


@pytest.fixture(scope="module")
def from_files(tmp_path_factory: pytest.TempPathFactory) -> InteractionDataset:
    folder = tmp_path_factory.mktemp("files")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "log.parquet")
    pq.write_table(pa.Table.from_pylist(ITEMS), folder / "items.parquet")
    return read_table(folder / "log.parquet", folder / "items.parquet", PrepareConfig(min_rating=2))


def arrow(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("table", [arrow, lambda rows: Stream(arrow(rows)), columns, list, tuple, iter])
def test_tables_and_lists_give_what_a_file_gives(table: Any, from_files: InteractionDataset) -> None:
    data = dataset(table(ROWS), table(ITEMS), PrepareConfig(min_rating=2))
    assert data.content_hash == from_files.content_hash
    assert data.provenance.steps == from_files.provenance.steps
    assert (data.items.ids, data.catalogue.titles) == (("10", "20", "30"), (None, "Ten", None, "Thirty"))
    assert data.catalogue.categories[1] == ("a", "b")
    assert data.provenance.source == "memory"


def test_a_table_of_the_interchange_protocol() -> None:
    assert dataset(Interchange(arrow(ROWS))).content_hash == dataset(ROWS).content_hash


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_data_frames_give_what_a_file_gives(package: str, from_files: InteractionDataset) -> None:
    library = pytest.importorskip(package)
    data = dataset(library.DataFrame(ROWS), library.DataFrame(ITEMS), PrepareConfig(min_rating=2))
    assert data.content_hash == from_files.content_hash


@pytest.mark.parametrize(
    "rows",
    [
        [(7, 20, 300), (7, 10, 100), (8, 30, 250), (8, 10, 200)],
        np.array([[7, 20, 300], [7, 10, 100], [8, 30, 250], [8, 10, 200]]),
        torch.tensor([[7, 20, 300], [7, 10, 100], [8, 30, 250], [8, 10, 200]]),
        [("7", np.int64(20), 300), (7, "10", 100), (8, 30, np.int32(250)), [8, 10, 200]],
    ],
)
def test_columns_of_tuples_go_by_their_places(rows: Any) -> None:
    assert dataset(rows, time="3").content_hash == dataset(ROWS, rating=None).content_hash


def test_a_mapping_of_histories_keeps_their_order() -> None:
    data = dataset({7: [20, 10, 20], "8": np.array([10, 30])}, {10: "Ten", "20": None, 30: {"title": "Thirty"}})
    assert [[data.items.id(int(i)) for i in data.sequence(u)] for u in range(2)] == [["20", "10", "20"], ["10", "30"]]
    assert (data.users.ids, data.times) == (("7", "8"), None)
    assert data.catalogue.titles == (None, "Ten", None, "Thirty")


@pytest.mark.parametrize(
    "times",
    [
        [datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)],
        np.array(["2020-01-02T03:04:05", "2020-01-01"], dtype="datetime64[ns]"),
        ["2020-01-02T03:04:05Z", "2020-01-01"],
        [1577934245, 1577836800],
    ],
)
def test_times_of_any_kind_are_seconds(times: Any) -> None:
    rows = [{"user": "u", "item": item, "time": time} for item, time in zip("ab", times, strict=True)]
    for source in (rows, arrow(rows)):
        found = dataset(source).times
        assert found is not None
        assert found.tolist() == [1577836800, 1577934245]


def test_a_missing_title_as_data_frames_write_it_is_missing() -> None:
    assert dataset([("u", "a")], [{"item_id": "a", "title": float("nan")}]).catalogue.titles == (None, None)


def test_bad_rows_are_named_or_counted() -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": 1, "item_id": 2},
        {"user_id": 1.5, "item_id": 2},
        {"user_id": None, "item_id": 2},
    ]
    with pytest.raises(DataError, match=r"interactions:2: user_id is 1.5; expected text or a whole number"):
        dataset(rows)
    with pytest.raises(DataError, match=r"2 of 3 lines \(66.7%\) would be left out, more than the 50.0% that may be"):
        dataset(rows, on_error="skip", max_skipped=0.5)
    data = dataset(rows, on_error="skip", time=None)
    assert data.n_interactions == 1
    assert data.provenance.skipped == {"interactions: unexpected value": 1, "interactions: empty user id": 1}
    with pytest.raises(DataError, match=r"interactions: row 2: column 'user_id' is empty"):
        dataset(pa.table({"user_id": ["1", None], "item_id": [2, 2]}))
    with pytest.raises(DataError, match=r"column 'user_id' has type double; expected text or whole numbers"):
        dataset(pa.table({"user_id": [1.5], "item_id": [2]}))


@pytest.mark.parametrize(
    ("interactions", "options", "message"),
    [
        ("buys.csv", {}, "'buys.csv' is no table in memory; allmrec.read_table reads files"),
        (Path("buys.csv"), {}, "read_table reads files"),
        (5, {}, "What is given as interactions is no list: found 5"),
        (pa.array([1, 2]), {}, "cannot be read as an Arrow table"),
        ([], {}, "interactions: there is nothing in it"),
        (["ab"], {}, "interactions:1: found 'ab'; expected a tuple of a user and an item"),
        ([{"user_id": 1, "item_id": 2}, (1, 2)], {}, r"interactions:2: found \(1, 2\); expected a dict of columns"),
        ([(1, 2, 3)], {}, "have 3 values; the first two are user and item. Say what the others are"),
        ({"u": "a,b"}, {}, "The history of user 'u' is no list: found the text 'a,b'"),
        ({"u": [1.0]}, {}, "1.0 is no item id"),
        ({"user": [1, 2], "item": [1]}, {}, "different lengths"),
        (pa.table({"who": [1], "item_id": [1]}), {}, "interactions: no column 'user_id'; found 'who', 'item_id'"),
        ([(1, 2)], {"tiem": "3"}, "tiem: no such field; did you mean time?"),
    ],
)
def test_what_cannot_be_read_is_refused(interactions: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        dataset(interactions, **options)
