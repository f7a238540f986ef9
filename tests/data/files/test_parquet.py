from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allmrec.core.errors import DataError
from allmrec.data.files.parquet import read_parquet


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.parquet"


@pytest.mark.parametrize(
    ("column", "role", "expected"),
    [
        (pa.array([1, 2]), "id", ["1", "2"]),
        (pa.array([12.0, None, float("nan")]), "id", ["12.0", None, None]),
        (pa.array(["a", None]).dictionary_encode(), "id", ["a", None]),
        (pa.array(["a", "b"], pa.large_string()), "text", ["a", "b"]),
        (pa.array([None, None]), "text", [None, None]),
        (pa.array([1.5, None]), "number", [1.5, None]),
        (pa.array([7, None]), "number", [7, None]),
        (pa.array([datetime(1970, 1, 2, microsecond=5, tzinfo=UTC), None]), "number", [86400, None]),
        (pa.array([date(1970, 1, 3)]), "number", [2 * 86400]),
        (pa.array([datetime(9999, 1, 1)], pa.timestamp("s")), "number", [253370764800]),
        (pa.array([["a", "b"], None]), "texts", [["a", "b"], None]),
    ],
)
def test_types_by_role(file: Path, column: pa.Array, role: str, expected: list[object]) -> None:
    pq.write_table(pa.table({"other": column, "x": column}), file)
    rows = read_parquet(file, {"x": role, "absent": "id"})
    assert rows.names == ("other", "x")
    assert rows.columns["x"].to_pylist() == expected
    assert (rows.line(0), rows.where(1)) == (None, "row 2: ")


@pytest.mark.parametrize(
    ("column", "role", "message"),
    [
        (pa.array([1.5]), "id", "type double; expected text or whole numbers"),
        (pa.array([1.0, float("inf")]), "id", "type double; expected text or whole numbers"),
        (pa.array([2.0**53]), "id", "ids in floating point up to 9007199254740992, which has lost the last digits"),
        (pa.array([b"x"]), "text", "type binary; expected text"),
        (pa.array([["x"]]), "text", "type list.*expected text"),
        (pa.array([{"y": 1}]), "texts", "type struct.*expected text or lists of texts"),
        (pa.array([[{"y": 1}]]), "texts", "cannot be read"),
        (pa.array([True]), "number", "type bool; expected numbers or times"),
        (pa.array([2**63], pa.uint64()), "number", "cannot be read"),
    ],
)
def test_a_type_that_does_not_suit_is_refused(file: Path, column: pa.Array, role: str, message: str) -> None:
    pq.write_table(pa.table({"x": column}), file)
    with pytest.raises(DataError, match=rf"file\.parquet: column 'x' .*{message}"):
        read_parquet(file, {"x": role})


def test_damaged_and_missing(file: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_parquet(file, {})
    pq.write_table(pa.table({"x": ["a"] * 1000}), file)
    whole = file.read_bytes()
    for content in (b"", b"text", whole[:-30], whole[:200] + whole[260:]):
        file.write_bytes(content)
        with pytest.raises(DataError, match="no Parquet file, or a damaged one"):
            read_parquet(file, {"x": "id"})
