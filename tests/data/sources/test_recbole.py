from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.core.errors import DataError
from allmrec.data import RawData, prepare_source, read_movielens
from allmrec.data.sources.recbole import RecBoleConfig, read_recbole_folder

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ta\t3\t20\nu1\tb\t4.5\t10.5\nu2\ta\t1\t7\n"
ITEM = (
    "item_id:token\ttitle:token_seq\tclass:token_seq\tprice:float\tvector:float_seq\n"
    'a\tThe "One" Thing\tAction Drama\t1.5\t0.1 0.2\nb\t\t\t\t\n'
)


pytestmark = pytest.mark.filterwarnings("ignore:.*no time column found")


def read(folder: Path, inter: str = INTER, items: str | None = ITEM, **options: object) -> RawData:
    (folder / "x.inter").write_text(inter)
    if items is not None:
        (folder / "x.item").write_text(items)
    return read_recbole_folder(RecBoleConfig(directory=folder, **options))


def test_types_are_read_from_the_header(tmp_path: Path) -> None:
    raw = read(tmp_path)
    log, items = raw.interactions, raw.items
    assert (log.user_ids.to_pylist(), log.item_ids.to_pylist()) == (["u1", "u1", "u2"], ["a", "b", "a"])
    assert log.ratings is not None
    assert log.ratings.tolist() == [3, 4.5, 1]
    assert log.times is not None
    assert log.times.tolist() == [20, 10.5, 7]
    assert items is not None
    assert items.titles == ('The "One" Thing', None)
    assert items.categories == (("Action", "Drama"), ())
    assert [path.name for path in raw.files] == ["x.inter", "x.item"]


def test_one_token_is_one_category(tmp_path: Path) -> None:
    items = read(tmp_path, items="item_id:token\tcategory:token\na\tSci Fi\n").items
    assert items is not None
    assert items.categories == (("Sci Fi",),)


def test_interactions_alone_are_enough(tmp_path: Path) -> None:
    raw = read(tmp_path, "user_id:token\titem_id:token\nu\ta\n", None)
    assert (raw.items, raw.interactions.ratings, raw.interactions.times) == (None, None, None)


def test_columns_by_option(tmp_path: Path) -> None:
    inter = "uid:token\tiid:token\tstars:float\twhen:float\nu\ta\t2\t1\n"
    item = "iid:token\tlabel:token\ttext:token_seq\tkind:token_seq\na\tOne\tall of it\tx;y z\n"
    raw = read(
        tmp_path, inter, item, user="uid", item="iid", rating="stars", time=None, title="label", description="text",
        categories="kind", sequence_separator=";",
    )  # fmt: skip
    assert raw.interactions.ratings is not None
    assert raw.interactions.times is None
    assert raw.items is not None
    assert (raw.items.titles, raw.items.descriptions, raw.items.categories) == (
        ("One",),
        ("all of it",),
        (("x", "y z"),),
    )


def test_several_data_sets_in_a_folder_are_told_apart_by_name(tmp_path: Path) -> None:
    (tmp_path / "y.inter").write_text(INTER)
    with pytest.raises(DataError, match=r"several data sets \(x, y\); say which with name"):
        read(tmp_path)
    assert read(tmp_path, name="x").items is not None
    assert read(tmp_path, name="y").items is None
    with pytest.raises(DataError, match=r"found x\.inter, x\.item, y\.inter; expected z\.inter"):
        read(tmp_path, name="z")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inter": "user_id\titem_id\nu\ta\n"},
            r"x\.inter: column 'user_id' has no type; expected a header of name:type",
        ),
        ({"inter": "user_id:text\titem_id:token\nu\ta\n"}, "column 'user_id:text' has no type"),
        ({"inter": "user_id:float\titem_id:token\n1\ta\n"}, "column 'user_id' has type float; expected token"),
        ({"inter": "user_id:token\tuser_id:float\nu\t1\n"}, "two columns are called 'user_id'"),
        ({"inter": "user_id:token\tthing:token\nu\ta\n"}, "no column 'item_id'; found 'user_id', 'thing'"),
        ({"inter": INTER + "u\ta\tx\t1\n"}, r"x\.inter:5: column 'rating' holds 'x'"),
        ({"inter": INTER + "u\ta\n"}, r"x\.inter:5: found 2 columns, expected 4"),
        ({"inter": ""}, "the file is empty"),
        ({"items": "item_id:token\ttitle:float_seq\na\t1 2\n"}, "column 'title' has type float_seq; expected token"),
        ({"items": ITEM + "a\tx\ty\t1\t1\n"}, r"x\.item:4: item 'a' has a row already"),
        ({"title": "name"}, r"x\.item: no column 'name'"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, **changes)


def test_bad_lines_are_left_out_on_request(tmp_path: Path) -> None:
    raw = read(tmp_path, INTER + "u\ta\tx\t1\nu\ta\n", ITEM + "a\tx\ty\t1\t1\n", on_error="skip")
    assert len(raw.interactions.user_ids) == 3
    assert raw.skipped == {
        "x.inter: rating is no number": 1,
        "x.inter: wrong number of columns": 1,
        "x.item: duplicate item": 1,
    }


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_recbole_folder(RecBoleConfig(directory=tmp_path / "gone"))
    with pytest.raises(DataError, match=r"found nothing; expected NAME\.inter"):
        read_recbole_folder(RecBoleConfig(directory=tmp_path))


def test_movielens_in_this_form_is_what_the_source_movielens_reads(ml_100k: Path) -> None:
    ours = prepare_source("recbole", {"directory": ml_100k, "encoding": "utf-8"})
    theirs = read_movielens(ml_100k, files="recbole", with_year=False, move_article=False, missing_titles=())
    assert (ours.n_users, ours.n_items, ours.n_interactions) == (943, 1_682, 100_000)
    assert ours.item_numbers.tolist() == theirs.item_numbers.tolist()
    same = sum(a == b for a, b in zip(ours.catalogue.titles, theirs.catalogue.titles, strict=True))
    # One film has its year in the title, and "movielens" takes "unknown" for no genre.
    assert same >= 1_680
    assert [c for c in ours.catalogue.categories if c != ("unknown",) and c] == [
        c for c in theirs.catalogue.categories if c
    ]
