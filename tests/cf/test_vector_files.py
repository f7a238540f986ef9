"""Vectors from other systems' files: every format gives the same, and every mistake is counted and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from allmrec.cf import read_vectors
from allmrec.core.errors import DataError
from allmrec.data.vocabulary import Vocabulary

ITEMS = Vocabulary(("a", "b", "c"), first=1, kind="item")
USERS = Vocabulary(("u", "v"), first=0, kind="user")
VALUES = np.array([[5, 6], [1, 2], [3, 4]], dtype=np.float32)  # of c, a, b
WANTED = [[0, 0], [1, 2], [3, 4], [5, 6]]


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("c\na\nb\n")
    return path


def npy(folder: Path, values: np.ndarray) -> Path:
    np.save(folder / "vectors.npy", values)
    return folder / "vectors.npy"


def parquet(folder: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), folder / "vectors.parquet")
    return folder / "vectors.parquet"


def test_every_format_gives_the_vectors_by_number(tmp_path: Path, ids: Path) -> None:
    save_file({"whatever": VALUES}, tmp_path / "vectors.safetensors")
    lists = parquet(tmp_path, item_id=["c", "a", "b"], vector=VALUES.tolist())
    pq.write_table(
        pa.table({"item": ["c", "a", "b"], "d0": VALUES[:, 0], "d1": VALUES[:, 1]}), tmp_path / "columns.parquet"
    )
    cases = [
        (npy(tmp_path, VALUES), ids),
        (tmp_path / "vectors.safetensors", ids),
        (lists, None),
        (tmp_path / "columns.parquet", None),
    ]
    for path, beside in cases:
        vectors, has, unknown = read_vectors(path, beside, ITEMS, "item")
        assert vectors.tolist() == WANTED, path
        assert has.tolist() == [False, True, True, True]
        assert unknown == 0


def test_numbers_as_ids_are_read_as_text(tmp_path: Path) -> None:
    path = parquet(tmp_path, id=[20, 10], vector=[[1.0], [2.0]])
    vectors, _, _ = read_vectors(path, None, Vocabulary(("10", "20"), first=1), "item")
    assert vectors.tolist() == [[0], [2], [1]]


def test_without_ids_rows_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    ordered = np.array(WANTED, dtype=np.float64)
    for rows in (ordered, ordered[1:]):
        assert read_vectors(npy(tmp_path, rows), None, ITEMS, "item")[0].tolist() == WANTED
    assert read_vectors(npy(tmp_path, VALUES[:2]), None, USERS, "user")[0].tolist() == VALUES[:2].tolist()
    with pytest.raises(DataError, match="holds 2 vectors without ids; expected 3 or 4"):
        read_vectors(npy(tmp_path, ordered[:2]), None, ITEMS, "item")


def test_some_may_be_missing_or_unknown_where_that_is_wanted(tmp_path: Path) -> None:
    path = parquet(tmp_path, id=["v", "x", "y"], vector=[[1.0], [2.0], [3.0]])
    vectors, has, unknown = read_vectors(path, None, USERS, "user", unknown="leave_out", every=False)
    assert (vectors.tolist(), has.tolist(), unknown) == ([[0], [1]], [False, True], 2)


def test_mistakes_in_ids_are_counted_and_named(tmp_path: Path, ids: Path) -> None:
    path = npy(tmp_path, VALUES)
    many = tmp_path / "many.npy"
    np.save(many, np.ones((10, 2)))
    lines = {
        "c\na\na\n": "1 item ids stand twice: 'a'",
        "c\na\nz\n": r"1 item ids are not in the data set, which has 3: 'z'",
        "c\na\n": "holds 3 vectors and .*ids.txt 2 ids",
    }
    for text, message in lines.items():
        ids.write_text(text)
        with pytest.raises(DataError, match=message):
            read_vectors(path, ids, ITEMS, "item")
    ids.write_text("\n".join(f"x{n}" for n in range(10)))
    with pytest.raises(DataError, match=r"10 item ids are not in .*: 'x0', 'x1', 'x2', 'x3', 'x4', …; compare"):
        read_vectors(many, ids, ITEMS, "item")
    with pytest.raises(DataError, match=r"2 items of the data set have no vector: 'b', 'c'"):
        read_vectors(parquet(tmp_path, id=["a"], vector=[[1.0]]), None, ITEMS, "item")


def test_numbers_that_are_none_are_counted_and_named(tmp_path: Path, ids: Path) -> None:
    values = VALUES.copy()
    values[0, 1], values[2, 0] = np.nan, np.inf
    with pytest.raises(DataError, match="2 items have a NaN or infinite number: 'c', 'b'"):
        read_vectors(npy(tmp_path, values), ids, ITEMS, "item")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((3, 0)), r"shape \(3, 0\)"),
        (np.array([["a"], ["b"], ["c"]]), "type <U1"),
    ],
)
def test_other_shapes_are_errors(tmp_path: Path, ids: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_vectors(npy(tmp_path, values), ids, ITEMS, "item")


def test_damaged_or_foreign_files_are_errors(tmp_path: Path, ids: Path) -> None:
    for suffix in (".npy", ".safetensors", ".parquet"):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"no such thing")
        with pytest.raises(DataError, match="broken"):
            read_vectors(path, None if suffix == ".parquet" else ids, ITEMS, "item")
        with pytest.raises(DataError, match="no such file"):
            read_vectors(tmp_path / f"absent{suffix}", None, ITEMS, "item")
    np.save(tmp_path / "objects.npy", np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as a NumPy array"):
        read_vectors(tmp_path / "objects.npy", ids, ITEMS, "item")
    with pytest.raises(DataError, match=r"ending '.csv'; expected .npy"):
        read_vectors(tmp_path / "vectors.csv", None, ITEMS, "item")
    save_file({"x": VALUES, "y": VALUES}, tmp_path / "two.safetensors")
    with pytest.raises(DataError, match=r"holds the tensors \['x', 'y'\]"):
        read_vectors(tmp_path / "two.safetensors", ids, ITEMS, "item")


def test_parquet_columns_that_do_not_fit_are_named(tmp_path: Path, ids: Path) -> None:
    cases = [
        (parquet(tmp_path, name=["a"], vector=[[1.0]]), "has the columns 'name', 'vector'; expected just one of id"),
    ]
    for path, message in cases:
        with pytest.raises(DataError, match=message):
            read_vectors(path, None, ITEMS, "item")
    with pytest.raises(DataError, match="1 items have another number of dimensions than 2: 'b'"):
        read_vectors(parquet(tmp_path, id=["a", "b", "c"], v=[[1.0, 2], [1.0], [1.0, 2]]), None, ITEMS, "item")
    with pytest.raises(DataError, match=r"beside the ids there are 'title \(string\)', 'x \(double\)'"):
        read_vectors(parquet(tmp_path, id=["a"], title=["A"], x=[1.0]), None, ITEMS, "item")
    with pytest.raises(DataError, match="1 ids are missing"):
        read_vectors(parquet(tmp_path, id=["a", None], x=[1.0, 2.0]), None, ITEMS, "item")
    with pytest.raises(DataError, match="has its ids in a column"):
        read_vectors(parquet(tmp_path, id=["a"], x=[1.0]), ids, ITEMS, "item")
    with pytest.raises(DataError, match="NaN"):
        read_vectors(parquet(tmp_path, id=["a", "b", "c"], x=[1.0, None, 2.0]), None, ITEMS, "item")
