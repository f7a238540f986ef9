from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from allmrec.core.errors import DataError
from allmrec.data.files import Problems
from allmrec.data.files.json_lines import read_json_lines

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
        (b'{"i": {"x": 1}}', "i is a JSON dict; expected text or a number"),
        (b'{"i": [1]}', "i is a JSON list"),
        (b'{"i": true}', "i is a JSON bool"),
        (b'{"i": 1.5}', "i is 1.5; expected text or a whole number"),
        (b'{"l": [{"x": 1}]}', "l holds a JSON dict; expected text or a list of texts"),
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
