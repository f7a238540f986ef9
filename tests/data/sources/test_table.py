from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allmrec.core.errors import DataError
from allmrec.data import SOURCES, RawData, TableConfig
from allmrec.data.sources.table import read_table_files

pytestmark = pytest.mark.filterwarnings("ignore:.*no time column found")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("item_id,title\na,Alpha\nb,\n")
    return tmp_path


def read(folder: Path, content: str, name: str = "log.csv", **options: object) -> RawData:
    (folder / name).write_text(content)
    return read_table_files(TableConfig(interactions=folder / name, **options))


def failure(folder: Path, content: str, **options: object) -> str:
    with pytest.raises(DataError) as error:
        read(folder, content, **options)
    return str(error.value).replace(str(folder) + "/", "")


def test_well_known_columns_are_found(folder: Path) -> None:
    raw = read(
        folder,
        "item_id,user_id,rating,timestamp,position,other\nb,u,4.5,10,2,x\na, v ,1,-5,1,\n",
        items=folder / "items.csv",
    )
    log = raw.interactions
    assert log.user_ids.to_pylist() == ["u", "v"]
    assert log.item_ids.to_pylist() == ["b", "a"]
    assert log.ratings is not None
    assert log.ratings.tolist() == [4.5, 1]
    assert log.times is not None
    assert (log.times.tolist(), log.times.dtype.kind) == ([10, -5], "i")
    assert log.positions is not None
    assert log.positions.tolist() == [2, 1]
    assert raw.items is not None
    assert (raw.items.ids, raw.items.titles) == (("a", "b"), ("Alpha", None))
    assert [path.name for path in raw.files] == ["log.csv", "items.csv"]


def test_none_leaves_a_column_out(folder: Path) -> None:
    log = read(folder, "user_id,item_id,rating,time\nu,a,bad,bad\n", rating=None, time=None).interactions
    assert (log.ratings, log.times, log.positions) == (None, None, None)


def test_the_same_table_in_every_format(folder: Path) -> None:
    rows = [{"u": "1", "i": "a", "r": 2.0, "t": 30}, {"u": "2", "i": "b", "r": 3.5, "t": 20}]
    files = {
        "x.csv": "u,i,r,t\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows),
        "x.tsv": "u\ti\tr\tt\n" + "".join("\t".join(map(str, row.values())) + "\n" for row in rows),
        "x.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "y.jsonl": "".join(json.dumps({**row, "u": int(str(row["u"]))}) + "\n" for row in rows),
    }
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    options = {"user": "u", "item": "i", "rating": "r", "time": "t"}
    raws = [read(folder, content, name, **options) for name, content in files.items()]
    raws.append(read_table_files(TableConfig(interactions=folder / "x.parquet", **options)))
    plain = "".join(" ".join(map(str, row.values())) + "\n" for row in rows)
    raws.append(read(folder, plain, "x.txt", rating="3", time="4"))
    for raw in raws:
        log = raw.interactions
        assert log.ratings is not None
        assert log.times is not None
        assert (log.user_ids.to_pylist(), log.item_ids.to_pylist()) == (["1", "2"], ["a", "b"])
        assert (log.ratings.tolist(), log.times.tolist()) == ([2.0, 3.5], [30, 20])


def test_categories_and_descriptions_as_lists_or_text(folder: Path) -> None:
    log = "user_id,item_id\nu,a\n"
    (folder / "meta.jsonl").write_text(
        '{"item_id": "a", "title": "A", "description": ["One.", "", "Two."], "categories": [["x", "y|z"], ["w"]]}\n'
        '{"item_id": "b", "title": "", "description": "Text.", "genres": "p|q"}\n'
        '{"item_id": "c", "title": null, "description": [], "categories": "p|q"}\n'
    )
    items = read(folder, log, items=folder / "meta.jsonl").items
    assert items is not None
    assert items.titles == ("A", None, None)
    assert items.descriptions == ("One. Two.", "Text.", None)
    assert items.categories == (("x", "y|z", "w"), (), ("p", "q"))
    items = read(folder, log, items=folder / "meta.jsonl", description=None, categories="genres").items
    assert items is not None
    assert items.descriptions == (None, None, None)
    assert items.categories == ((), ("p", "q"), ())


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2018-06-17", "1970-01-02"], [1529193600, 86400]),
        (["2018-06-17T00:00:01Z", "2018-06-17 02:00:00+02:00"], [1529193601, 1529193600]),
        (["881250949.0", "881250949.5"], [881250949.0, 881250949.5]),
        (["1e3", "+5"], [1000, 5]),
        (["9007199254740993", "0"], [9007199254740993, 0]),
        (["-62135596800", " 7 "], [-62135596800, 7]),
    ],
)
def test_times_in_many_ways(folder: Path, times: list[str], expected: list[float]) -> None:
    log = read(folder, "user_id,item_id,time\n" + "".join(f"u,a,{time}\n" for time in times)).interactions
    assert log.times is not None
    assert log.times.tolist() == expected


HEAD = "user_id,item_id,rating,time\nu,a,1,1\n"


@pytest.mark.parametrize(
    ("bad", "message", "kind"),
    [
        ("u,a,x,1", "log.csv:3: column 'rating' holds 'x'; expected a number as the rating", "rating is no number"),
        ("u,a,,1", "log.csv:3: column 'rating' holds ''", "rating is no number"),
        ("u,a,nan,1", "log.csv:3: column 'rating' holds 'nan'", "rating is no number"),
        ("u,a,1e999,1", "log.csv:3: column 'rating' holds '1e999'", "rating is no number"),
        ("u,a,1_0,1", "log.csv:3: column 'rating' holds '1_0'", "rating is no number"),
        ("u,a,1,x", "log.csv:3: column 'time' holds 'x'; expected a number as the time", "time is no number"),
        ("u,a,1,", "log.csv:3: column 'time' holds ''", "time is no number"),
        ("u,a,1," + "9" * 30, "log.csv:3: column 'time' holds '999", "time is no number"),
        ("u,a,1,0x10", "log.csv:3: column 'time' holds '0x10'", "time is no number"),
        (" ,a,1,1", "log.csv:3: column 'user_id' is empty; expected the id of the user", "empty user id"),
        ("u,,1,1", "log.csv:3: column 'item_id' is empty; expected the id of the item", "empty item id"),
        ("u,a\0,1,1", "log.csv:3: column 'item_id' holds 'a\\x00'", "control character in item id"),
        ("u,a,1,1,1", "log.csv:3: found 5 columns, expected 4", "wrong number of columns"),
    ],
)
def test_a_bad_line_is_named_or_left_out_and_counted(folder: Path, bad: str, message: str, kind: str) -> None:
    content = HEAD + bad + "\nv,b,2,2\n"
    assert failure(folder, content).startswith(message)
    assert failure(folder, content).endswith("Correct it, or leave out such lines: --on-error skip (on_error='skip').")
    raw = read(folder, content, on_error="skip")
    assert raw.skipped == {f"log.csv: {kind}": 1}
    assert raw.interactions.user_ids.to_pylist() == ["u", "v"]
    assert raw.interactions.times is not None
    assert raw.interactions.times.tolist() == [1, 2]


def test_the_line_is_right_behind_quoted_line_ends(folder: Path) -> None:
    content = 'user_id,item_id,note,rating\nu,a,"one\ntwo",1\n\nu,b,"three",bad\n'
    assert failure(folder, content).startswith("log.csv:5: column 'rating' holds 'bad'")


def test_dates_and_numbers_in_one_column_are_decided_by_most(folder: Path) -> None:
    content = "user_id,item_id,time\nu,a,2018-06-17\nu,b,12\nu,c,2018-06-18\n"
    assert failure(folder, content).startswith("log.csv:3: column 'time' holds '12'; expected a date or time such as")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "who,what\nu,a\n",
            {},
            "log.csv: no column 'user_id'; found 'who', 'what'. Name the right one with user (--user).",
        ),
        ("user_id,item_id\nu,a\n", {"rating": "stars"}, "log.csv: no column 'stars'; found 'user_id', 'item_id'. Name"),
        (
            "user_id;item_id\nu;a\n",
            {"layout": {"delimiter": ","}},
            "log.csv: no column 'user_id'; found 'user_id;item_id'. Name the right one with user (--user). The one column looks",
        ),
        ("user_id,item_id\n", {}, "log.csv: no interactions; expected at least one record"),
        ("", {}, "log.csv: the file is empty"),
        ("user_id,item_id\n,\n", {"on_error": "skip"}, "log.csv: no interactions; expected at least one record (1 bad"),
    ],
)
def test_what_is_missing_says_what_was_found(
    folder: Path, content: str, options: dict[str, object], message: str
) -> None:
    assert failure(folder, content, **options).startswith(message)


def test_another_delimiter_is_hinted_at(folder: Path) -> None:
    assert failure(folder, "user_id;item_id\nu;a\n", layout={"delimiter": ","}).endswith(
        "looks like several; set delimiter (--delimiter) to ';'."
    )


def test_duplicate_items(folder: Path) -> None:
    log = "user_id,item_id\nu,a\n"
    meta = folder / "meta.csv"
    meta.write_text("item_id,title\na,one\nb,B\na,two\na,three\n")
    assert failure(folder, log, items=meta).startswith("meta.csv:4: item 'a' has a row already; expected one row")
    for options, titles, skipped in (
        ({"duplicate_items": "first"}, ("one", "B"), {}),
        ({"duplicate_items": "last"}, ("B", "three"), {}),
        ({"on_error": "skip"}, ("one", "B"), {"meta.csv: duplicate item": 2}),
    ):
        raw = read(folder, log, items=meta, **options)
        assert raw.items is not None
        assert (raw.items.titles, raw.skipped) == (titles, skipped)


def test_an_items_file_needs_a_title_unless_told(folder: Path) -> None:
    log = "user_id,item_id\nu,a\n"
    (folder / "meta.csv").write_text("asin,label\na,one\n")
    options = {"items": folder / "meta.csv", "item_in_items": "asin"}
    assert "no column 'title'; found 'asin', 'label'. Name the right one with title (--title)." in failure(
        folder, log, **options
    )
    for title, expected in (("label", ("one",)), (None, (None,))):
        items = read(folder, log, **options, title=title).items
        assert items is not None
        assert items.titles == expected


def test_other_formats_for_items_need_no_option(folder: Path) -> None:
    (folder / "meta.jsonl").write_text('{"item_id": "1", "title": "One"}\n')
    raw = read(folder, "u 1\n", "log.txt", items=folder / "meta.jsonl")
    assert raw.items is not None
    assert raw.items.titles == ("One",)


def test_a_parquet_row_has_no_line(folder: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u", None], "item_id": [1, 2]}), folder / "log.parquet")
    with pytest.raises(DataError, match=r"log\.parquet: row 2: column 'user_id' is empty"):
        read_table_files(TableConfig(interactions=folder / "log.parquet"))


def test_every_source_is_registered_and_its_options_are_described() -> None:
    assert list(SOURCES) == ["table", "movielens", "amazon", "movietweetings", "recbole"]
    for source in SOURCES.values():
        assert all(field.description for field in source.config.model_fields.values())
