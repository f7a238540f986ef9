from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data.files import Problems, Rows, delimited
from allmrec.data.files.delimited import WHITE_SPACE, read_delimited

WANTED = {"a": "id", "b": "text", "1": "id", "2": "id"}


def read(path: Path, content: str | bytes, on_error: str = "fail", **options: object) -> tuple[Rows, Problems]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems = Problems(on_error)
    return read_delimited(path, WANTED, problems, **{"delimiter": ",", "quoting": True, **options}), problems


def values(rows: Rows) -> dict[str, list[str]]:
    return {name: column.to_pylist() for name, column in rows.columns.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.csv"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("a,b,c\n1,x,.\n2,y,.\n", {}),
        ("\ufeffa,b,c\r\n1,x,.\r\n2,y,.", {}),
        ("\n\n a , b,c\n\n1,x,.\n\n2,y,.\n\n", {}),
        ('"a","b",c\n"1",x,""\n2,"y",.\n', {}),
        ('"a","b","c\nd"\n"1",x,""\n2,"y",.\n', {}),
        ("a\tb\tc\n1\tx\t.\n2\ty\t.\n", {"delimiter": "\t", "quoting": False}),
        ("a::b::c\n1::x::.\n2::y::.\n", {"delimiter": "::", "quoting": False}),
        ("a::b::c\n1::x::\x1f\n2::y::.\n", {"delimiter": "::", "quoting": False}),
        ("a§b§c\n1§x§.\n2§y§.\n", {"delimiter": "§"}),
        ("a  b\tc\n 1 x .\n2\t y . \n", {"delimiter": WHITE_SPACE, "quoting": False}),
        (gzip.compress(b"a,b,c\n1,x,.\n2,y,.\n", mtime=0), {}),
        ("a,b,c\n1,x,.\n2,y,.\n".encode("utf-16"), {"encoding": "utf-16"}),
    ],
)
def test_the_same_table_in_many_ways(file: Path, content: str | bytes, options: dict[str, object]) -> None:
    rows, _ = read(file, content, **options)
    assert values(rows) == {"a": ["1", "2"], "b": ["x", "y"]}
    assert rows.n_rows == 2


def test_without_a_header_columns_are_numbered(file: Path) -> None:
    rows, _ = read(file, "1,x\n2,y\n", header=False)
    assert rows.names == ("1", "2")
    assert values(rows) == {"1": ["1", "2"], "2": ["x", "y"]}
    assert rows.line(1) == 2


def test_fields_may_hold_delimiters_line_ends_and_quotes(file: Path) -> None:
    rows, _ = read(file, 'a,b\n1,"x, ""y""\nz"\n\n2,\n')
    assert values(rows) == {"a": ["1", "2"], "b": ['x, "y"\nz', ""]}
    assert [rows.line(0), rows.line(1)] == [2, 5]


def test_latin_1_and_its_absence(file: Path) -> None:
    content = "a,b\n1,x\n2,Misérables\n".encode("latin-1")
    assert values(read(file, content, encoding="latin-1")[0])["b"] == ["x", "Misérables"]
    with pytest.raises(DataError, match=r"file\.csv:3: found bytes that the encoding does not allow; set encoding"):
        read(file, content)
    rows, problems = read(file, content, "skip")
    assert values(rows)["a"] == ["1"]
    assert problems.skipped == {"file.csv: wrong encoding": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"file\.csv: the file is empty"),
        ("\n\n", r"file\.csv: the file is empty"),
        ("a,b,a\n1,2,3\n", r"file\.csv:1: two columns are called 'a'"),
        ('"a,b\n1,2\n', r"file\.csv:1: a double quote opens here"),
        (b"a,\xff\n1,2\n", r"file\.csv:1: found bytes"),
        ('a,b\n1,"x\ny"\n\n2,x,y\n', r"file\.csv:5: found 3 columns, expected 2 \('a', 'b'\)"),
        ("a,b\n1,x\n2\n", r"file\.csv:3: found 1 column, expected 2"),
        ('a,b\n1,x\n2,"y\n3,z\n', r"file\.csv:3: a double quote opens here and is never closed"),
        ('a,b\n1,x"\n2,"y\n3,z\n', r"file\.csv:3: a double quote opens here and is never closed"),
        ("a,b\n1,2\n".encode("utf-16"), r"file\.csv: begins with the mark of UTF-16"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-4], r"file\.csv: the gzip data is damaged"),
    ],
)
def test_what_is_wrong_names_file_and_line(file: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(file, content)


def test_bad_records_are_left_out_and_counted(file: Path) -> None:
    rows, problems = read(file, b'a,b\n1,x\n2\n3,\xff\n4,y\n5,y,z\n6,"w\n', "skip")
    assert values(rows) == {"a": ["1", "4"], "b": ["x", "y"]}
    assert [rows.line(0), rows.line(1)] == [2, 5]
    assert problems.skipped == {
        "file.csv: wrong number of columns": 2,
        "file.csv: wrong encoding": 1,
        "file.csv: quote never closed": 1,
    }


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: there is no such file"):
        read_delimited(tmp_path / "nothing.csv", WANTED, Problems(), delimiter=",")
    with pytest.raises(DataError, match="this is a folder"):
        read_delimited(tmp_path, WANTED, Problems(), delimiter=",")


def test_a_long_field_is_no_problem_on_either_path(file: Path) -> None:
    long = "x" * 300_000
    limit = csv.field_size_limit()
    assert values(read(file, f"a,b\n1,{long}\n")[0])["b"] == [long]
    assert values(read(file, f"a,b\n1,{long}\n2\n", "skip")[0])["b"] == [long]
    assert csv.field_size_limit() == limit


cells = st.text(st.sampled_from(['"', ",", "\n", "\r", " ", "x", "é", "\0", "'", "\\", ":"]), max_size=5).filter(
    # What looks like whole records within a field is taken for two stray quotes.
    lambda cell: "," not in cell or not set("\r\n") & set(cell)
)


@given(st.lists(st.tuples(cells, cells), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_what_was_written_comes_back(file: Path, table: list[tuple[str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b"), *table])
    file.write_bytes(buffer.getvalue().encode())
    rows = read_delimited(file, {"a": "text", "b": "text"}, Problems(), delimiter=",", quoting=True)
    assert list(zip(*values(rows).values(), strict=True)) == table


@given(st.text(st.sampled_from(['"', ",", "\n", "\r", " ", "x", "é", "\0"]), max_size=30), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
def test_the_fast_path_equals_the_plain_one(file: Path, body: str, quoting: bool) -> None:
    file.write_bytes(b"a,b\n" + body.encode())
    table = delimited.TextTable(file.read_bytes(), file, delimited.Syntax(",", True, quoting, "utf-8"))
    table.recognise(WANTED, sniff=False, header=True, quoting=quoting)
    fast = table.fast()
    if fast is None:
        return
    plain = table.slow(Problems())
    assert values(fast) == values(plain)
    assert fast.lines() == plain.lines()


def test_bytes_given_to_arrow_are_a_copy_of_its_own() -> None:
    # Arrow's threads may release them while Python shuts down, and Python's own would then abort the process.
    data = b"a,b\n1,2\n"
    owned = delimited._owned(data)
    assert owned.to_pybytes() == data
    assert owned.address != pa.py_buffer(data).address
    assert delimited._owned(b"").size == 0
