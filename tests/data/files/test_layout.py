from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from allmrec.core.errors import ConfigError
from allmrec.data.files import FileLayout, Problems, read_rows


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.csv", "csv"),
        ("x.TSV", "tsv"),
        ("x.csv.gz", "csv"),
        ("x.json.gz", "jsonl"),
        ("x.txt", "plain"),
        ("x.pq", "parquet"),
    ],
)
def test_the_ending_names_the_format(name: str, kind: str) -> None:
    assert FileLayout().resolved_format(Path(name)) == kind
    assert FileLayout(format="tsv").resolved_format(Path(name)) == "tsv"


def test_an_ending_that_says_nothing_lists_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"the ending '\.dat' names no format; expected \.csv, .* or set format"):
        FileLayout().resolved_format(Path("ratings.dat"))


@pytest.mark.parametrize("field", [{"encoding": "utf-9"}, {"encoding": "hex"}, {"delimiter": "\n"}, {"delimiter": ""}])
def test_what_cannot_be_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        FileLayout(**field)


def test_quotes_need_a_short_delimiter(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one character"):
        read_rows(tmp_path / "x.csv", FileLayout(delimiter="::", quoting=True), {}, Problems())


def test_tabs_do_not_quote_unless_told(tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    file.write_text('a\tb\n1\t"x"\n')
    assert read_rows(file, FileLayout(), {"b": "text"}, Problems()).columns["b"].to_pylist() == ['"x"']
    assert read_rows(file, FileLayout(quoting=True), {"b": "text"}, Problems()).columns["b"].to_pylist() == ["x"]
