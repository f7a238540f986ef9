from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data.files import Problems
from allmrec.data.files.json_lines import fast_json_reader, parse_json, read_json_lines
from allmrec.data.files.lines import Block
from allmrec.data.files.records import read_records

WANTED = {"i": "id", "n": "number", "t": "text", "l": "texts"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.jsonl"


def test_values_become_text(file: Path) -> None:
    rows = [
        {"i": 12, "n": 1.5, "t": "x", "l": ["p", ["q", None]], "other": {"nested": 1}},
        {"i": "a", "n": "2", "t": None, "l": "p"},
        {},
    ]
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    read = read_json_lines(file, WANTED, Problems())
    assert {name: column.to_pylist() for name, column in read.columns.items()} == {
        "i": ["12", "a", None],
        "n": ["1.5", "2", None],
        "t": ["x", None, None],
        "l": [["p", "q"], ["p"], None],
    }
    assert read.names == ("i", "n", "t", "l", "other")
    assert [read.line(row) for row in range(3)] == [1, 3, 5]


def test_half_a_character_becomes_a_replacement(file: Path) -> None:
    file.write_text('{"t": "cut \\ud83d", "i": "\\ud83d\\ude00"}')
    read = read_json_lines(file, WANTED, Problems())
    assert read.columns["t"].to_pylist() == ["cut \ufffd"]
    assert read.columns["i"].to_pylist() == ["😀"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"i": 1', "found no JSON"),
        (b"[1]", "found a JSON list; expected one JSON object"),
        (b'{"i": NaN}', "NaN is no JSON number"),
        (b'{"i": "\xff"}', "not UTF-8"),
        (b'{"i": {"x": 1}}', "i is a dict; expected text or a number"),
        (b'{"i": [1]}', "i is a list"),
        (b'{"i": true}', "i is a bool"),
        (b'{"i": 1.5}', "i is 1.5; expected text or a whole number"),
        (b'{"l": [{"x": 1}]}', "l holds a dict; expected text or a list of texts"),
        (b"[" * 100_000, "nested too deeply|found no JSON"),
        (b'{"i": ' + b"9" * 10_000 + b"}", "found no JSON"),
    ],
)
def test_a_bad_line_fails_with_its_number_or_is_counted(file: Path, line: bytes, message: str) -> None:
    file.write_bytes(b'{"i": "a"}\n\n' + line + b'\n{"i": "b"}\n')
    with pytest.raises(DataError, match=rf"file\.jsonl:3: .*({message})"):
        read_json_lines(file, WANTED, Problems())
    problems = Problems("skip")
    assert read_json_lines(file, WANTED, problems).columns["i"].to_pylist() == ["a", "b"]
    assert sum(problems.skipped.values()) == 1


def test_a_cut_gzip_file_keeps_what_it_has_when_skipping(file: Path) -> None:
    lines = b"".join(b'{"i": "%d"}\n' % number for number in range(10_000))
    file.write_bytes(gzip.compress(lines, mtime=0)[:-2000])
    with pytest.raises(DataError, match="gzip data is damaged or cut off"):
        read_json_lines(file, WANTED, Problems())
    problems = Problems("skip")
    ids = read_json_lines(file, WANTED, problems).columns["i"].to_pylist()
    assert ids == [str(number) for number in range(len(ids))]
    assert len(ids) > 100
    assert problems.skipped["file.jsonl: damaged gzip"] == 1


def test_empty_and_missing(file: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_json_lines(file, WANTED, Problems())
    file.write_text("\n \n")
    with pytest.raises(DataError, match="the file is empty"):
        read_json_lines(file, WANTED, Problems())


# The fast reader against the plain parser, on lines that are right, damaged, or right in an unusual way.

_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.sampled_from(["5", "1.5", "x\x00", "\U0001f600", "}\\n{"]),
    st.lists(st.one_of(st.text(max_size=2), st.none(), st.lists(st.text(max_size=2), max_size=2)), max_size=3),
    st.dictionaries(st.sampled_from(["i", "z"]), st.integers(0, 3), max_size=2),
)
_records = st.dictionaries(st.sampled_from(["i", "n", "t", "l", "other"]), _values, max_size=5)
_good = st.builds(
    lambda record, ascii_only: json.dumps(record, ensure_ascii=ascii_only).encode(), _records, st.booleans()
)
_odd = st.sampled_from(
    [
        b"",
        b"  ",
        b"{}",
        b"{}{}",
        b'{"i": "a"}{"i": "b"}',
        b'{"t": "\\ud83d"}',
        b'{"other": "\\ude00"}',
        b'{"t": "\xff"}',
        b'{"other": "\xff"}',
        b'{"i": 1, "i": 2}',
        b'{"n": 1e999}',
        b'{"n": -0}',
        b'{"other": NaN}',
        b'{"t": "a\tb"}',
        b'{"other": "\0"}',
        b'{"other": "\\q"}',
        b'{"i":',
        b"1}",
        b'{"n": 01}',
        b'{"\\u0069": "x"}',
        b'{"other": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'\xef\xbb\xbf{"i": "x"}',
        b'{"i": "a"}\r',
        b' {"i": "a"} ',
    ]
)


@given(st.lists(_good | _odd, min_size=1, max_size=6))
@example([b'{"i":', b"1}", b"{}{}"])  # an object over two lines and two on one: as many objects as lines
@example([b'{"n": 5}', b'{"n": 4.5}'])
@example([b'{"n": 5}', b'{"n": "4.5"}'])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_the_fast_reader_gives_what_the_plain_parser_gives(file: Path, lines: list[bytes]) -> None:
    file.write_bytes(b"\n".join(lines))
    results = []
    for fast in (fast_json_reader, None):
        problems = Problems("skip")
        try:
            rows = read_records(file, WANTED, problems, parse_json, fast=fast, expected="an object")
            columns = {
                name: [float(v) if name == "n" and _is_number(v) else v for v in column.to_pylist()]
                for name, column in rows.columns.items()
            }
            results.append((columns, set(rows.names) & set(WANTED), rows.lines(), dict(problems.skipped)))
        except DataError as error:
            results.append(str(error))
    assert results[0] == results[1]


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return "_" not in str(value)


def test_the_fast_reader_takes_ordinary_lines_and_keeps_numbers_exact(file: Path) -> None:
    big = 2**53 + 1
    data = b'{"i": "a", "n": %d, "t": "x"}\n{"t": null, "i": "b", "n": 3, "z": {"i": [1]}}\n' % big
    found = fast_json_reader(WANTED)(Block(file, 1, data))
    assert found is not None
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "i": ["a", "b"],
        "n": [big, 3],
        "t": ["x", None],
    }
    assert found["n"].type == pa.int64()


def test_blocks_of_different_kinds_are_joined(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allmrec.data.files.lines.line_blocks.__defaults__", (1,))
    for numbers, expected in (
        (["1", "2"], [1, 2]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "2.0", '"x"'], ["1", "2.0", "x"]),
    ):
        file.write_text("".join(f'{{"n": {number}}}\n' for number in numbers))
        assert read_json_lines(file, {"n": "number"}, Problems()).columns["n"].to_pylist() == expected
