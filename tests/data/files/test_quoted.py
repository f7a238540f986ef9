"""A stray quote costs its own line, and nothing is swallowed without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.core.errors import DataError
from allmrec.data.files import Problems
from allmrec.data.files.delimited import read_delimited

WANTED = {"user_id": "id", "item_id": "id", "rating": "number", "title": "text"}


def read(path: Path, content: str, on_error: str = "skip") -> tuple[list[str], Problems, list[int] | None]:
    path.write_text(content)
    problems = Problems(on_error)
    rows = read_delimited(path, WANTED, problems, delimiter=",", quoting=True)
    return rows.columns["item_id"].to_pylist(), problems, rows.lines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.csv"


# Stray quotes by the line (counted from 1, the header) on which they stand, and what that line becomes.
@pytest.mark.parametrize(
    "bad",
    [
        {100: 'u,i98,",'},
        {100: 'u,"i98,5'},
        {100: '"u,i98,5'},
        {100: 'u,i98,"5', 700: 'u,i698,"5'},
        {100: 'u,i98,"5', 101: 'u,i99,5"'},
        {100: 'u,"i98,5', 102: 'u,i100",5'},
        {100: 'u,i98,"5', 110: 'u,i108,5"'},
        {5001: 'u,i4999,"5'},
        {k: f'u,"i{k - 2},5' for k in range(100, 200)},
    ],
)
def test_every_line_but_the_bad_ones_is_kept(file: Path, bad: dict[int, str]) -> None:
    lines = ["user_id,item_id,rating", *(f"u,i{n},5" for n in range(5000))]
    for line, text in bad.items():
        lines[line - 1] = text
    ids, problems, numbers = read(file, "\n".join(lines) + "\n")
    # A quote within a field that does not begin with one is a character, and its value is looked at later.
    lost = [line for line, text in bad.items() if '"u' in text or '"i' in text or ',"' in text]
    assert ids == [
        line.split(",")[1] for number, line in enumerate(lines, start=1) if number > 1 and number not in lost
    ]
    assert sum(problems.skipped.values()) == len(lost)
    assert numbers == [number for number in range(2, 5002) if number not in lost]
    first = min(lost)
    assert str(first) in next(iter(problems.skipped_lines().values()))
    with pytest.raises(DataError, match=rf"log\.csv:{first}: a double quote opens here"):
        read(file, "\n".join(lines) + "\n", "fail")


def test_titles_that_swallow_rows_are_seen_on_the_fast_path_too(file: Path) -> None:
    content = 'item_id,title,year\na,"One\nb,Two,2001\nc,Three",2002\nd,Four,2003\n'
    ids, problems, _ = read(file, content)
    assert (ids, problems.skipped) == (["b", "c", "d"], {"log.csv: stray quote": 1})
    with pytest.raises(DataError, match="closes 2 lines below, and those lines are whole records"):
        read(file, content, "fail")


def test_texts_of_several_lines_stay_what_they_are(file: Path) -> None:
    text = "A long text,\nwith commas, and lines\n\nand quotes."
    content = f'item_id,title,year\na,"{text}",2001\nb,"x",2002\n'
    ids, problems, lines = read(file, content, "fail")
    assert (ids, lines, dict(problems.skipped)) == (["a", "b"], [2, 6], {})


def test_a_field_is_not_longer_than_a_thousand_lines(file: Path) -> None:
    content = 'item_id,title,year\na,"' + "x\n" * 1200 + '",1\nb,y,2\n'
    with pytest.raises(
        DataError, match=r"log\.csv:2: a double quote opens here and is never closed within 1,000 lines"
    ):
        read(file, content, "fail")


def test_ranges_of_lines_are_told_and_a_share_is_an_error(file: Path) -> None:
    problems = Problems("skip")
    for line in (3, 4, 5, 9, *range(20, 60, 2)):
        problems.add("bad", "found something", file, line)
    assert problems.skipped_lines() == {"log.csv: bad": "3-5, 9, 20, 22, 24, 26, 28, 30, and 14 ranges more"}
    problems.require_share(file, 240)
    with pytest.raises(
        DataError, match=r"24 of 124 lines \(19.4%\) would be left out, more than the 10.0% that may be"
    ):
        problems.require_share(file, 100)
