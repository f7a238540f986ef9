from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, Problems, read_rows
from allmrec.data.files.literal_lines import parse_literal, read_literal_lines
from allmrec.data.files.values import UnusableError

_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=4))
def test_every_dict_that_python_writes_is_read(record: dict[str, object]) -> None:
    line = repr(record).encode("utf-8", "backslashreplace")
    assert parse_literal(line) == ast.literal_eval(line.decode())


def test_columns_as_from_json(tmp_path: Path) -> None:
    file = tmp_path / "meta.txt"
    file.write_text(
        "{'asin': 'a', 'title': 'One', 'categories': [['x', 'y'], ['z']], 'price': 1.5}\n"
        "{'asin': 'b', 'title': \"It's\", 'salesRank': {'Books': 3}}\n"
        "{'asin': 'c', 'title': 'caf\\xe9 \\ud83d', 'price': None}\n"
    )
    wanted = {"asin": "id", "title": "text", "categories": "texts", "price": "number"}
    for rows in (
        read_literal_lines(file, wanted, Problems()),
        read_rows(file, FileLayout(format="literal"), wanted, Problems()),
    ):
        assert {name: column.to_pylist() for name, column in rows.columns.items()} == {
            "asin": ["a", "b", "c"],
            "title": ["One", "It's", "café \ufffd"],
            "categories": [["x", "y", "z"], None, None],
            "price": [1.5, None, None],
        }


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"{'a': 1", "no Python literal"),
        (b"[1]", "not an object"),
        (b"{1: 2}", "not an object"),
        (b"{'a': '\xff'}", "wrong encoding"),
        (b"{'a': '\0'}", "no Python literal"),
        (b"{[]: 1}", "no Python literal"),
        (b"{'a': __import__('os').getcwd()}", "no Python literal"),
        (b"{'a': open('x')}", "no Python literal"),
        (b"{'a': f'{1}'}", "no Python literal"),
        (b"{'a': '\\N{nobody}'}", "no Python literal"),
        (b"[" * 100_000, "no Python literal"),
        (b"-" * 100_000 + b"1", "no Python literal"),
        (b"1" + b"+1" * 20_000, "no Python literal"),
        (b"{'a':" * 10_000, "no Python literal"),
        (b"{'a': " + b"9" * 10_000 + b"}", "no Python literal"),
    ],
)
def test_a_bad_line_fails_with_its_number_or_is_counted(tmp_path: Path, line: bytes, kind: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{'a': 'x'}\n" + line + b"\n{'a': 'y'}\n")
    with pytest.raises(DataError, match=r"file:2: found "):
        read_literal_lines(file, {"a": "id"}, Problems())
    problems = Problems("skip")
    assert read_literal_lines(file, {"a": "id"}, problems).columns["a"].to_pylist() == ["x", "y"]
    assert problems.skipped == {f"file: {kind}": 1}


def test_an_unknown_escape_is_a_text_and_no_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(rb"{'a': 'x\d'}")
    assert read_literal_lines(tmp_path / "file", {"a": "id"}, Problems()).columns["a"].to_pylist() == [r"x\d"]


def test_nothing_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(UnusableError):
        parse_literal(f"{{'a': open({str(target)!r}, 'w')}}".encode())
    assert not target.exists()
