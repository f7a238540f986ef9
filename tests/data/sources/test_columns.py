"""Usual names of columns, ids that pandas has changed, and files that do not belong together."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from allmrec import dataset, read_table
from allmrec.core.errors import AllmrecWarning, DataError


def write(folder: Path, name: str, *lines: str) -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


@pytest.mark.parametrize(
    "names",
    [
        ("userId", "movieId", "rating", "timestamp"),
        ("USER_ID", "Item-ID", "Stars", "Date"),
        ("reviewerID", "asin", "overall", "unixReviewTime"),
        ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
        ("CustomerID", "StockCode", "Score", "InvoiceDate"),
        ("user", "item", "rating", "time"),
        ("user_id", "parent_asin", "rating", "created at"),
    ],
)
def test_usual_names_are_found_whatever_their_case(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = read_table(write(tmp_path, "log.csv", ",".join(names), "u,b,4,2", "u,a,5,1"))
    found = dict(zip(("user", "item", "rating", "time"), names, strict=True))
    assert data.provenance.columns == {"log.csv": found}
    assert data.items.ids == ("a", "b")
    assert data.item_numbers.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "user_id,userId,item_id,time",
            r"2 columns may be the user: 'user_id', 'userId'. Say which with user \(--user\)",
        ),
        ("user_id,item_id,movieId,time", r"the item: 'item_id', 'movieId'. Say which with item \(--item\)"),
        ("user_id,item_id,date,timestamp", r"the time: 'date', 'timestamp'. Say which with time \(--time\)"),
        ("user_id,item_id,stars,rating", r"the rating: 'stars', 'rating'. Say which with rating \(--rating\)"),
    ],
)
def test_two_columns_for_one_meaning_are_an_error(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path, "log.csv", header, "1,2,3,4")
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_each_file_has_its_own_columns(tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", "who,what,time", "u,a,1", "u,b,2")
    items = write(tmp_path, "items.csv", "id,name,genre", "a,Alpha,x|y", "b,Beta,")
    data = read_table(log, items, user="who", item="what")
    assert data.catalogue.titles == (None, "Alpha", "Beta")
    assert data.catalogue.categories[1] == ("x", "y")
    assert data.provenance.columns["items.csv"] == {"item": "id", "title": "name", "categories": "genre"}
    other = write(tmp_path, "other.csv", "code,title", "a,Alpha", "b,Beta")
    assert read_table(log, other, user="who", item="what", item_in_items="code").catalogue.titles[1] == "Alpha"
    with pytest.raises(
        DataError, match=r"no column 'what'; found 'code', 'title'. Name .* item_in_items \(--items-item\)"
    ):
        read_table(log, other, user="who", item="what")


@pytest.mark.parametrize("missing", ["NaN", "nan", "None", "null", "NULL", "<NA>", "NA", "N/A", "NaT", ""])
def test_a_missing_id_is_a_bad_line(tmp_path: Path, missing: str) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", "u,a,1", f"{missing},b,2", f"v,{missing},3", "v,c,4")
    with pytest.raises(DataError, match=r"log\.csv:3: column 'user_id' (holds|is empty).*expected the id of the user"):
        read_table(log)
    data = read_table(log, on_error="skip")
    assert (data.users.ids, data.items.ids) == (("u", "v"), ("a", "c"))
    assert sorted(data.provenance.skipped_lines.values()) == ["3", "4"]


def test_whole_numbers_in_floating_point_are_the_numbers(tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", "1.0,12.0,1", "2.0,7.0,2", ",7.0,3")
    items = write(tmp_path, "items.csv", "item_id,title", "7,Seven", "12,Twelve")
    data = read_table(log, items, on_error="skip")
    assert (data.users.ids, data.items.ids) == (("1", "2"), ("12", "7"))
    assert data.catalogue.titles == (None, "Twelve", "Seven")
    assert "log.csv: column 'item_id' holds whole numbers written as 12.0; read as 12" in data.provenance.notes
    frame = pa.table({"user_id": [1, 2, 2], "item_id": pa.array([12.0, 7.0, None]), "time": [1, 2, 3]})
    assert dataset(frame, on_error="skip").items.ids == ("12", "7")


def test_other_numbers_stay_texts_and_lost_digits_are_an_error(tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", "u,1.0,1", "u,1.1,2")
    assert read_table(log).items.ids == ("1.0", "1.1")
    log = write(tmp_path, "log.csv", "user_id,item_id,time", "u,12345678901234567000.0,1")
    with pytest.raises(DataError, match="floating point has lost the last digits"):
        read_table(log)


@pytest.mark.parametrize(
    ("here", "there", "reason"),
    [
        ("AB{}", "ab{}", "upper and lower case"),
        ("00{}", "{}", "leading zeros"),
        ("{}", "i{}", "a prefix of letters"),
        ("x {}", "x{}", "blanks within"),
        ("'{}'", "{}", "a mark or quotes around"),
        ("q{}", "r-x-{}", None),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, here: str, there: str, reason: str | None) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", *(f"u,{here.format(n)},{n}" for n in range(5, 9)))
    items = write(tmp_path, "items.csv", "item_id,title", *(f"{there.format(n)},T{n}" for n in range(5, 9)))
    with pytest.raises(DataError, match="none of the 4 items of the interactions has a row in the items file") as error:
        read_table(log, items)
    assert (f"4 would join but for {reason}" in str(error.value)) == (reason is not None)
    write(tmp_path, "items.csv", "item_id,title", f"{here.format(5)},T", *(f"{there.format(n)},T{n}" for n in (6, 7)))
    with pytest.warns(AllmrecWarning, match=r"only 1 of the 4 items of the interactions \(25.0%, with 25.0%"):
        data = read_table(log, items)
    assert data.catalogue.missing_titles == 3
    assert len(data.provenance.warnings) == 1


@pytest.mark.parametrize("shortened", ["1.2E+12", "1e+05", "1.23457E+11"])
def test_numbers_that_a_spreadsheet_has_shortened_are_no_ids(tmp_path: Path, shortened: str) -> None:
    path = write(tmp_path, "log.csv", "user_id,item_id,time", f"{shortened},5,1", "77,6,2")
    with pytest.raises(DataError, match="different ids may have become one"):
        read_table(path)
    # Among ids that are no numbers it is a name like any other, wherever these stand.
    many = [f"{number},6,2" for number in range(1000, 1200)]
    for others in (["ab,6,2"], ["ab,6,2", *many], [*many, "ab,6,2"]):
        path = write(tmp_path, "log.csv", "user_id,item_id,time", f"{shortened},5,1", *others)
        assert shortened in read_table(path).users
    path = write(tmp_path, "log.csv", "user_id,item_id,time", *many, f"{shortened},5,1")
    with pytest.raises(DataError, match="different ids may have become one"):
        read_table(path)


def test_whole_numbers_with_a_point_are_found_wherever_they_stand(tmp_path: Path) -> None:
    many = [f"{number},6,2" for number in range(1000, 1200)]
    for rows, has in (([*many, "7.0,5,1"], "7"), (["7.0,5,1", *many], "7"), ([*many, "7.0,5,1", "ab,5,1"], "7.0")):
        assert has in read_table(write(tmp_path, "log.csv", "user_id,item_id,time", *rows)).users


@pytest.mark.parametrize("character", ["\x01", "\x7f", "\x80", "\x9f"])
@pytest.mark.parametrize("name", ["a{}", "\xe9{}"])
def test_control_characters_are_found_among_ids_of_any_script(tmp_path: Path, character: str, name: str) -> None:
    path = write(tmp_path, "log.csv", "user_id,item_id,time", "\xe9t\xe9,5,1", f"{name.format(character)},6,2")
    with pytest.raises(DataError, match="expected an id without control characters"):
        read_table(path)


def test_words_for_a_missing_value_in_titles(tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", *(f"u,{item},{item}" for item in range(1, 5)))
    items = write(tmp_path, "items.csv", "item_id,title", "1,nan", "2,nan", "3,Null", "4,Four")
    data = read_table(log, items)
    assert [data.catalogue.title(item) for item in range(1, 5)] == [None, None, "Null", "Four"]
    assert "items.csv: 2 rows hold 'nan' in column 'title'; read as missing" in data.provenance.notes


def test_ids_with_accents_written_in_two_ways_are_told(tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", "u,Jose\u0301,1")
    items = write(tmp_path, "items.csv", "item_id,title", "Jos\u00e9,T")
    with pytest.raises(DataError, match="1 would join but for accents written in two ways"):
        read_table(log, items)


def test_a_missing_column_of_items_names_one_option(tmp_path: Path) -> None:
    log = write(tmp_path, "log.csv", "user_id,item_id,time", "u,a,1")
    with pytest.raises(DataError, match=r"Name the right one with item_in_items \(--items-item\)\.$"):
        read_table(log, write(tmp_path, "items.csv", "code,title", "a,T"))
