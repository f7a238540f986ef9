"""Encodings, delimiters and headers that are found without being told; files that unpack to too much."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, Problems, Rows, read_rows
from allmrec.data.files.encodings import guessed_delimiter, guessed_encoding

WANTED = {"user_id": "id", "item_id": "id", "title": "text", "1": "id", "2": "id"}
TITLES = ["Café à la crème", "Plain", "Zoë & Ångström", "O’Hara – “quoted”"]


def read(path: Path, content: bytes, **layout: object) -> tuple[Rows, Problems]:
    path.write_bytes(content)
    problems = Problems()
    return read_rows(path, FileLayout(**layout), WANTED, problems), problems


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
@pytest.mark.parametrize("far", [0, 5000])
def test_the_encoding_is_found_and_said(tmp_path: Path, encoding: str, said: str | None, far: int) -> None:
    # Far behind the beginning a letter is as good as within it.
    titles = ["Plain"] * far + TITLES
    text = "item_id,title\n" + "".join(f"i{n},{title}\n" for n, title in enumerate(titles))
    rows, problems = read(tmp_path / "items.csv", text.encode(encoding))
    assert rows.columns["title"].to_pylist() == titles
    assert problems.notes == ([] if said is None else [f"items.csv: read as {said} (--encoding if letters look wrong)"])


@pytest.mark.parametrize(
    "data",
    [
        "Фильм о войне".encode("cp1251"),
        "電影和書".encode("gbk"),
        "映画と本".encode("shift-jis"),
        "a,Café\nb,\xff\n".encode() + b"\xff\n",
        b"a,\xff\n",
    ],
)
def test_what_is_not_western_or_damaged_is_not_guessed(data: bytes) -> None:
    assert guessed_encoding(data) == "utf-8"


@pytest.mark.parametrize("mark", [",", ";", "\t", "|", "::"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_the_delimiter_is_found_and_said(tmp_path: Path, mark: str, ending: str) -> None:
    lines = [["user_id", "item_id", "note"], ["u 1", "a", "x y"], ["v", "b", ""], ["w", "c", "z"]]
    rows, problems = read(tmp_path / f"log.{ending}", "".join(mark.join(line) + "\n" for line in lines).encode())
    assert rows.columns["user_id"].to_pylist() == ["u 1", "v", "w"]
    assert rows.columns["item_id"].to_pylist() == ["a", "b", "c"]
    assert rows.names == ("user_id", "item_id", "note")
    usual = {"csv": ",", "tsv": "\t"}.get(ending)
    assert any("columns are separated by" in note for note in problems.notes) == (mark != usual)


def test_a_decimal_comma_does_not_make_a_delimiter() -> None:
    assert guessed_delimiter("user;item;rating\nu;a;4,5\nv;b;3,5\n", ",", True) == ";"
    assert guessed_delimiter("only\nx\n", ",", True) == ","
    assert guessed_delimiter('a,b\n"x;y",1\n', ",", True) == ","


def test_a_text_table_has_a_header_where_it_holds_a_usual_name(tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "log.txt", b"user_id item_id\nu a\n")
    assert (rows.headerless, rows.columns["item_id"].to_pylist()) == (False, ["a"])
    assert problems.notes == ["log.txt: the first line names the columns (--no-header if it does not)"]
    rows, _ = read(tmp_path / "log.txt", b"196 242 3\n186 302 3\n")
    assert (rows.headerless, rows.columns["2"].to_pylist()) == (True, ["242", "302"])


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_json_array_is_read_as_lines_are(tmp_path: Path, indent: int | None, encoding: str) -> None:
    records = [{"user_id": "u", "item_id": n, "title": f'[{n}], "x" }}'} for n in range(3)]
    rows, problems = read(tmp_path / "log.json", json.dumps(records, indent=indent).encode(encoding))
    assert rows.columns["item_id"].to_pylist() == ["0", "1", "2"]
    assert rows.columns["title"].to_pylist() == [record["title"] for record in records]
    assert rows.lines() == ([2, 7, 12] if indent else [1, 1, 1])
    assert problems.notes == ["log.json: read as one JSON array of 3 records"]


def test_a_bad_element_of_an_array_is_one_bad_record(tmp_path: Path) -> None:
    deep = '{"item_id": 2, "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    for bad in (deep, "[1]", '{"item_id": [1]}', '{"item_id"}', "5", '{"item_id": {}}'):
        path = tmp_path / "log.json"
        path.write_text('[{"item_id": 1},\n' + bad + ',\n{"item_id": 3}]')
        problems = Problems("skip")
        rows = read_rows(path, FileLayout(), WANTED, problems)
        assert (rows.columns["item_id"].to_pylist(), rows.lines()) == (["1", "3"], [1, 3])
        assert list(problems.skipped_lines().values()) == ["2"]
        with pytest.raises(DataError, match=r"log\.json:2: "):
            read_rows(path, FileLayout(), WANTED, Problems())
    for cut in ('[{"item_id": 1},', '[{"item_id": 1}] x', '[{"item_id": "1]'):
        with pytest.raises(DataError, match="found an array that is no JSON"):
            read(tmp_path / "log.json", cut.encode())


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [60, 900, 5000, 200_000])
def test_deep_json_is_a_counted_bad_line(tmp_path: Path, opening: str, closing: str, depth: int) -> None:
    deep = opening * depth + "1" + closing * depth
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a", "c": []}\n{"item_id": "b", "c": ' + deep + '}\n{"item_id": "d"}\n')
    problems = Problems("skip")
    rows = read_rows(path, FileLayout(), {"item_id": "id", "c": "texts"}, problems)
    assert rows.columns["item_id"].to_pylist() == ["a", "d"]
    assert list(problems.skipped_lines().values()) == ["2"]


def _in_two_gigabytes(path: Path) -> str:
    """What reading a file ends with, in a process that may take no more than 2 GB."""
    code = (
        "import sys; from pathlib import Path; from allmrec.core.errors import DataError\n"
        "from allmrec.data.files import FileLayout, Problems, read_rows\n"
        "roles = {'user_id': 'id', 'item_id': 'id', 'x': 'number'}\n"
        "try: read_rows(Path(sys.argv[1]), FileLayout(), roles, Problems())\n"
        "except DataError as error: print(error)\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120, check=True)
    message, _, peak = done.stdout.strip().rpartition("\n")
    assert int(peak) << 10 < 2 << 30
    return message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("log.csv.gz", b"u1,i1,5\n"),
        ("log.csv.gz", b"0"),
        ("log.jsonl.gz", b"\0"),
    ],
)
def test_a_gzip_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, name: str, part: bytes) -> None:
    path = tmp_path / name
    # Members behind one another are one gzip file.
    member = gzip.compress(part * ((1 << 23) // len(part)))
    path.write_bytes(gzip.compress(b"user_id,item_id,x\n") + member * 100)
    assert "unpacks to more than 512 MiB and more than 100 times its size" in _in_two_gigabytes(path)


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int8()), pa.array(["a"]))
    table = pa.table({"user_id": one, "item_id": one})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(20):
            writer.write_table(table)
    assert path.stat().st_size < 1 << 20
    assert "unpacks to more than 512 MiB" in _in_two_gigabytes(path)


def test_a_limit_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"user_id,item_id\n" + b"u,a\n" * 600_000))
    with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
        read_rows(path, FileLayout(), WANTED, Problems(max_unpacked=1))
    assert read_rows(path, FileLayout(), WANTED, Problems(max_unpacked=3)).n_rows == 600_000


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_quotes_behind_blanks_enclose_fields(tmp_path: Path, delimiter: str) -> None:
    lines = ["user_id, item_id, title", '1, "a, b", "The ""Ten"", part 1"', "2, c, Plain"]
    text = "\n".join(line.replace(", ", f"{delimiter} ") for line in lines) if delimiter != "," else "\n".join(lines)
    rows, _ = read(tmp_path / "a.csv", text.encode())
    inside = f"a{delimiter} b"
    assert rows.columns["item_id"].to_pylist() == [inside, "c"]
    assert rows.columns["title"].to_pylist() == [f'The "Ten"{delimiter} part 1', "Plain"]


def test_a_quote_within_a_field_behind_a_blank_is_text(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "a.csv", b'user_id,item_id,title\n1,a, "The" title\n')
    assert rows.columns["title"].to_pylist() == [' "The" title']


def test_the_first_line_of_spreadsheets_says_the_delimiter(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "a.csv", b"sep=;\r\nuser_id;item_id\r\n1;2,5\r\n")
    assert rows.columns["item_id"].to_pylist() == ["2,5"]
    assert rows.line(0) == 3


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv"])
@pytest.mark.parametrize("text", ['{"user_id": 1, "item_id": 2}\n', '[{"user_id": 1,\n', " [\n {'user_id': 1}]"])
def test_json_under_the_ending_of_a_table_is_told(tmp_path: Path, ending: str, text: str) -> None:
    with pytest.raises(DataError, match="begins as JSON does; expected a table"):
        read(tmp_path / f"a.{ending}", text.encode())


@pytest.mark.parametrize("kind", ["text", "list"])
def test_a_long_text_that_comes_again_and_again_is_refused_before_it_is_written_out(tmp_path: Path, kind: str) -> None:
    # In the file it stands once: 1 MB that would become 1 GB.
    text = "x" * 1_000_000
    titles = pa.array([text] * 1000) if kind == "text" else pa.array([[text]] * 1000, pa.list_(pa.string()))
    pq.write_table(pa.table({"item_id": range(1000), "x": titles}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(DataError, match="unpacks to more than 512 MiB"):
        read_rows(tmp_path / "a.parquet", FileLayout(), {"x": "texts"}, Problems())


def test_records_of_what_unpacks_to_too_much_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(60):
            file.write(b"no JSON\n" * (1 << 17))
    seen = Problems("skip", max_unpacked=50)
    with pytest.raises(DataError, match="unpacks to more than 50 MiB"):
        read_rows(path, FileLayout(), WANTED, seen)
    assert not seen.skipped
