from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.core.errors import DataError
from allmrec.data import MovieLensConfig, RawData
from allmrec.data.sources.movielens import article_first, read_movielens_folder

# The same three films and three ratings, as each layout has them. Nothing of MovieLens itself is in here.
_FLAGS = ["0"] * 19
_LAYOUTS: dict[str, dict[str, bytes]] = {
    "100k": {
        "u.data": b"7\t1\t3\t881250949\n7\t2\t4\t881250950\n9\t1\t5\t5\n",
        "u.item": "\n".join(
            "|".join([*head, *("1" if place in genres else "0" for place, _ in enumerate(_FLAGS))])
            for head, genres in [
                (("1", "Story, The (1995)", "01-Jan-1995", "", "http://x"), (3, 5)),
                (("2", 'Misérable "One", Le (1996)', "", "", ""), (8,)),
                (("3", "unknown", "", "", ""), (0,)),
            ]
        ).encode("latin-1"),
        "u1.base": b"",
        "README": b"",
    },
    "1m": {
        "ratings.dat": b"7::1::3::881250949\n7::2::4::881250950\n9::1::5::5\n",
        "movies.dat": (
            '1::Story, The (1995)::Animation|Comedy\n2::Misérable "One", Le (1996)::Drama\n3::unknown::unknown\n'
        ).encode("latin-1"),
        "users.dat": b"",
    },
    "latest": {
        "ratings.csv": b"userId,movieId,rating,timestamp\n7,1,3.0,881250949\n7,2,4.0,881250950\n9,1,5.0,5\n",
        "movies.csv": (
            'movieId,title,genres\n1,"Story, The (1995)",Animation|Comedy\n'
            '2,"Misérable ""One"", Le (1996)",Drama\n3,unknown,(no genres listed)\n'
        ).encode(),
        "tags.csv": b"",
    },
    "recbole": {
        "x.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"7\t1\t3\t881250949\n7\t2\t4\t881250950\n9\t1\t5\t5\n",
        "x.item": (
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tStory, The\t1995\t"
            'Animation Comedy\n2\tMisérable "One", Le\t1996\tDrama\n3\tunkonwn\tunkonwn\tunknown\n'
        ).encode(),
        "x.user": b"",
    },
}


def write(folder: Path, kind: str, **changes: bytes) -> Path:
    for name, content in (_LAYOUTS[kind] | changes).items():
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path, **options: object) -> RawData:
    return read_movielens_folder(MovieLensConfig(directory=folder, **options))


@pytest.mark.parametrize("kind", list(_LAYOUTS))
def test_every_layout_says_the_same(tmp_path: Path, kind: str) -> None:
    raw = read(write(tmp_path, kind))
    log, items = raw.interactions, raw.items
    assert (log.user_ids.to_pylist(), log.item_ids.to_pylist()) == (["7", "7", "9"], ["1", "2", "1"])
    assert log.ratings is not None
    assert log.ratings.tolist() == [3, 4, 5]
    assert log.times is not None
    assert log.times.tolist() == [881250949, 881250950, 5]
    assert items is not None
    assert items.ids == ("1", "2", "3")
    assert items.titles == ("The Story (1995)", 'Le Misérable "One" (1996)', None)
    assert items.categories == (("Animation", "Comedy"), ("Drama",), ())


@pytest.mark.parametrize("kind", list(_LAYOUTS))
def test_titles_by_option(tmp_path: Path, kind: str) -> None:
    items = read(write(tmp_path, kind), move_article=False, with_year=False, missing_titles=()).items
    assert items is not None
    assert items.titles[:2] == ("Story, The", 'Misérable "One", Le')
    assert items.titles[2] in ("unknown", "unkonwn")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Matrix, The (1999)", "The Matrix (1999)"),
        ("Matrix, The", "The Matrix"),
        ("American in Paris, An (1951)", "An American in Paris (1951)"),
        ("Tin Drum, The (Blechtrommel, Die) (1979)", "The Tin Drum (Die Blechtrommel) (1979)"),
        ("America, L' (1994)", "L'America (1994)"),
        ("Murder, My Sweet (1944)", "Murder, My Sweet (1944)"),
        ("Cry, the Beloved Country (1995)", "Cry, the Beloved Country (1995)"),
        ("Bye Bye, Love (1995)", "Bye Bye, Love (1995)"),
        ("Good, The Bad, The (1966)", "The Good, The Bad (1966)"),
        (", The", ", The"),
        ("", ""),
    ],
)
def test_articles(before: str, after: str) -> None:
    assert article_first(before) == after


def test_an_unknown_folder_says_what_was_found_and_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"found nothing; expected u\.data and u\.item \(100k\); .*\*\.inter and \*\.it"
    ):
        read(tmp_path)
    (tmp_path / "u.data").touch()
    with pytest.raises(DataError, match=r"found u\.data; expected"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"found u\.data; expected ratings\.dat and movies\.dat \(1m\)$"):
        read(tmp_path, files="1m")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "nothing")


def test_two_layouts_in_one_folder_are_told_apart_by_option(tmp_path: Path) -> None:
    write(write(tmp_path, "1m"), "latest")
    with pytest.raises(DataError, match=r"several data sets \(ratings\.dat, ratings\.csv\); set files"):
        read(tmp_path)
    assert read(tmp_path, files="1m").files[1].name == "movies.dat"


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("100k", {"u.data": b"7 1 3 881250949\n"}, r"u\.data: no column '2'; found '1'; MovieLens has '1', '2'"),
        ("100k", {"u.item": b"1|x|y\n"}, r"u\.item: no column '4'; found '1', '2', '3'"),
        ("100k", {"u.data": b"7\t1\t3\t8\n7\t1\tx\t8\n"}, r"u\.data:2: column '3' holds 'x'"),
        ("1m", {"movies.dat": b"1::x::y\n2::x\n"}, r"movies\.dat:2: found 2 columns, expected 3"),
        ("latest", {"movies.csv": b"id,title\n1,x\n"}, r"movies\.csv: no column 'movieId'; found 'id', 'title'"),
        ("latest", {"ratings.csv": b""}, r"ratings\.csv: the file is empty"),
        ("recbole", {"x.inter": b"user_id\titem_id\n1\t2\n"}, r"x\.inter: column 'user_id' has no type; expected"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, kind: str, changes: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, kind, **changes))


def test_bad_lines_are_left_out_on_request(tmp_path: Path) -> None:
    changes = {"u.item": _LAYOUTS["100k"]["u.item"] + b"\n4|short\n1|again" + b"|0" * 22}
    raw = read(write(tmp_path, "100k", **changes), on_error="skip")
    assert raw.items is not None
    assert raw.items.ids == ("1", "2", "3")
    assert raw.items.categories[0] == ("Animation", "Comedy")
    assert raw.skipped == {"u.item: wrong number of columns": 1, "u.item: duplicate item": 1}


def test_wrong_bytes_fail_where_the_encoding_is_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"u\.item:2: found bytes that the encoding does not allow"):
        read(write(tmp_path, "100k"), encoding="utf-8")
