from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.core.errors import DataError
from allmrec.data import PrepareConfig, RawData, prepare_source
from allmrec.data.sources.movietweetings import MovieTweetingsConfig, read_movietweetings_folder

RATINGS = b"1::0000001::7::1365029107\n1::0000002::10::1366576639\n2::0000001::8::5\n"
MOVIES = "0000001::Fantômas: À l'ombre (1913)::Crime|Drama\n0000002::Odd, The (Part (2)) (2001)::\n".encode()


def read(folder: Path, ratings: bytes = RATINGS, movies: bytes = MOVIES, **options: object) -> RawData:
    (folder / "ratings.dat").write_bytes(ratings)
    (folder / "movies.dat").write_bytes(movies)
    return read_movietweetings_folder(MovieTweetingsConfig(directory=folder, **options))


def test_a_snapshot_is_read(tmp_path: Path) -> None:
    raw = read(tmp_path)
    log, items = raw.interactions, raw.items
    assert (log.user_ids.to_pylist(), log.item_ids.to_pylist()) == (["1", "1", "2"], ["0000001", "0000002", "0000001"])
    assert log.ratings is not None
    assert log.ratings.tolist() == [7, 10, 8]
    assert log.times is not None
    assert log.times.tolist() == [1365029107, 1366576639, 5]
    assert items is not None
    assert items.ids == ("0000001", "0000002")
    assert items.titles == ("Fantômas: À l'ombre (1913)", "Odd, The (Part (2)) (2001)")
    assert items.descriptions == (None, None)
    assert items.categories == (("Crime", "Drama"), ())


def test_titles_without_the_year(tmp_path: Path) -> None:
    items = read(tmp_path, with_year=False, movies=MOVIES + b"0000003::(1999)::x\n").items
    assert items is not None
    assert items.titles == ("Fantômas: À l'ombre", "Odd, The (Part (2))", "(1999)")


@pytest.mark.parametrize(
    ("changes", "message", "kind"),
    [
        ({"ratings": RATINGS + b"3::0000001::x::5\n"}, r"ratings\.dat:4: column '3' holds 'x'", "rating is no number"),
        ({"ratings": RATINGS + b"3::0000001::5\n"}, r"ratings\.dat:4: found 3 columns", "wrong number of columns"),
        ({"ratings": RATINGS + b"::0000001::5::5\n"}, r"ratings\.dat:4: column '1' is empty", "empty user id"),
        ({"movies": MOVIES + b"0000009::\xff::x\n"}, r"movies\.dat:3: found bytes", "wrong encoding"),
        ({"movies": MOVIES + b"0000001::again::x\n"}, r"movies\.dat:3: item '0000001' has a row", "duplicate item"),
    ],
)
def test_a_bad_line_is_named_or_counted(tmp_path: Path, changes: dict[str, bytes], message: str, kind: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, **changes)
    raw = read(tmp_path, **changes, on_error="skip")
    assert [key.split(": ", 1)[1] for key in raw.skipped] == [kind]
    assert raw.interactions.user_ids.to_pylist() == ["1", "1", "2"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ratings\.dat: there is no such file"):
        read_movietweetings_folder(MovieTweetingsConfig(directory=tmp_path))


def test_shared_movietweetings_has_its_iterated_5_core(shared_data: Path) -> None:
    folder = shared_data / "movietweetings"
    dataset = prepare_source("movietweetings", {"directory": folder}, PrepareConfig(core=5, core_passes="all"))
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (4_333, 2_414, 68_055)
    assert dataset.catalogue.missing_titles == 0
    assert dataset.catalogue.item_text(1).startswith("Title: ")
