from __future__ import annotations

import importlib
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import allmrec.data
from allmrec.core.errors import AllmrecError, ConfigError, DataError
from allmrec.data import (
    InteractionDataset,
    PrepareConfig,
    RawData,
    build_dataset,
    prepare,
    prepare_source,
    read_movielens,
    read_table,
)
from allmrec.data.build import by_number
from allmrec.data.provenance import Step
from allmrec.data.sources.base import RawInteractions

pytestmark = pytest.mark.filterwarnings("ignore:.*no time column found")


LOG = """user_id,item_id,rating,time
bob,b,5,30
ann,c,2,20
ann,a,4,10
bob,a,3,30
ann,a,5,30
cyd,z,1,5
"""
ITEMS = """item_id,title,description
c,Game &amp; Watch,<b>Fun</b>
b,,
a,  Alpha ,
cold,Cold,Never met
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def read(folder: Path, **options: object) -> InteractionDataset:
    return read_table(folder / "log.csv", folder / "items.csv", PrepareConfig(**options))


def by_id(dataset: InteractionDataset) -> dict[str, list[str]]:
    return {
        user: [dataset.items.id(item) for item in dataset.sequence(number).tolist()]
        for number, user in enumerate(dataset.users)
    }


def test_order_numbers_and_texts_by_hand(folder: Path) -> None:
    dataset = read(folder)
    assert dataset.users.ids == ("ann", "bob", "cyd")
    assert dataset.items.ids == ("a", "b", "c", "z")
    # Bob's two are tied in time and stay in the order of the file.
    assert by_id(dataset) == {"ann": ["a", "c", "a"], "bob": ["b", "a"], "cyd": ["z"]}
    assert dataset.times is not None
    assert dataset.times.tolist() == [10, 20, 30, 30, 30, 5]
    assert dataset.catalogue.titles == (None, "Alpha", None, "Game & Watch", None)
    assert dataset.catalogue.descriptions == (None, None, None, "Fun", None)
    assert dataset.provenance.items_without_row == 1
    assert dataset.provenance.items_without_interactions == 1
    assert dataset.provenance.steps == (Step(name="read", users=3, items=4, interactions=6),)


def test_cold_items_get_numbers_behind_the_others_on_request(folder: Path) -> None:
    dataset = read(folder, keep_items_without_interactions=True)
    assert dataset.items.ids == ("a", "b", "c", "z", "cold")
    assert dataset.catalogue.title(5) == "Cold"
    assert dataset.provenance.kept_items_without_interactions
    assert dataset.content_hash != read(folder).content_hash


def test_texts_can_stay_as_they_are(folder: Path) -> None:
    assert read(folder, clean_texts=False).catalogue.titles[1:4] == ("  Alpha ", None, "Game &amp; Watch")


def test_a_rating_threshold_includes_itself(folder: Path) -> None:
    dataset = read(folder, min_rating=4)
    assert by_id(dataset) == {"ann": ["a", "a"], "bob": ["b"]}
    assert dataset.provenance.steps[1] == Step(
        name="rating at least 4",
        users=2,
        items=2,
        interactions=3,
        dropped_users=1,
        dropped_items=2,
        dropped_interactions=3,
    )


def test_low_ratings_may_only_not_count(folder: Path) -> None:
    # Ann has two ratings from 3 on, bob two, cyd none; a has three, b one, c and z none.
    dataset = read(folder, min_rating=3, rating_scope="counts", user_core=2, item_core=0)
    assert by_id(dataset) == {"ann": ["a", "c", "a"], "bob": ["b", "a"]}
    with pytest.raises(ConfigError, match="does nothing without"):
        prepare_source("table", {"interactions": "x.csv"}, _config({"rating_scope": "counts"}))


def _config(values: dict[str, object]) -> PrepareConfig:
    from allmrec.core.config import parse_config

    return parse_config(PrepareConfig, values, "test")


@pytest.mark.parametrize(
    ("repeats", "expected"), [("first", ["a", "c"]), ("last", ["c", "a"]), ("keep", ["a", "c", "a"])]
)
def test_repeats_are_evaluated_in_time_order(folder: Path, repeats: str, expected: list[str]) -> None:
    assert by_id(read(folder, repeats=repeats))["ann"] == expected


def test_core_passes_and_their_steps(folder: Path) -> None:
    one, every = read(folder, core=2), read(folder, core=2, core_passes="all")
    assert by_id(one) == {"ann": ["a", "a"], "bob": ["a"]}
    assert by_id(every) == {"ann": ["a", "a"]}
    assert [str(step).split(":")[0] for step in every.provenance.steps] == ["read", "2-core, all passes"]
    assert every.provenance.steps[1].dropped_users == 2


def test_nothing_left_says_what_each_step_dropped(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"nothing remains after the filters \(read: 3 users.*9-core, one pass: 0 users"
    ):
        read(folder, core=9)


def test_a_threshold_needs_ratings(folder: Path) -> None:
    (folder / "log.csv").write_text("user_id,item_id\nu,a\n")
    with pytest.raises(DataError, match="min_rating is 3 and there are no ratings; name their column with rating"):
        read(folder, min_rating=3)


def test_position_decides_between_equal_times_and_alone(folder: Path) -> None:
    (folder / "log.csv").write_text("user_id,item_id,time,position\nu,a,5,2\nu,b,5,1\nu,c,1,9\n")
    assert by_id(read(folder)) == {"u": ["c", "b", "a"]}
    only = read_table(folder / "log.csv", time=None)
    assert by_id(only) == {"u": ["b", "a", "c"]}
    assert only.times is None
    assert by_id(read_table(folder / "log.csv", time=None, position=None)) == {"u": ["a", "b", "c"]}


def test_fractions_of_seconds_order_and_are_not_kept(folder: Path) -> None:
    (folder / "log.csv").write_text("user_id,item_id,time\nu,a,1.75\nu,b,1.5\nu,c,-0.5\n")
    dataset = read(folder)
    assert by_id(dataset) == {"u": ["c", "b", "a"]}
    assert dataset.times is not None
    assert dataset.times.tolist() == [-1, 1, 1]


def test_the_hash_knows_content_and_not_the_path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "log.csv").write_text(LOG)
    (elsewhere / "items.csv").write_text(ITEMS)
    assert read(elsewhere).content_hash == read(folder).content_hash
    assert read(elsewhere).provenance == read(folder).provenance
    (elsewhere / "items.csv").write_text(ITEMS.replace("Alpha", "Alpha!"))
    assert read(elsewhere).content_hash != read(folder).content_hash


@given(st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_the_order_of_lines_decides_ties_only(folder: Path, shuffle: random.Random) -> None:
    lines = [f"u{n % 3},{'abcde'[n % 5]},{n}" for n in range(25)]
    log = folder / "log.csv"
    log.write_text("\n".join(["user_id,item_id,time", *lines]))
    before = read(folder).content_hash
    shuffle.shuffle(lines)
    log.write_text("\n".join(["user_id,item_id,time", *lines]))
    assert read(folder).content_hash == before


_logs = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "B", "é", "\U0001f600", "\uffff", "10", "9"]),
        st.sampled_from(["x", "y", "z", "ż", "2"]),
        st.integers(1, 5),
        st.integers(-2, 2) | st.floats(-2, 2).map(lambda time: round(time, 1)),
    ),
    min_size=1,
    max_size=25,
)


@given(
    log=_logs,
    min_rating=st.sampled_from([None, 3]),
    repeats=st.sampled_from(["keep", "first", "last"]),
    core=st.integers(0, 3),
)
@settings(max_examples=150)
def test_a_data_set_equals_one_made_step_by_step(
    log: list[tuple[str, str, int, float]], min_rating: int | None, repeats: str, core: int
) -> None:
    users, items, ratings, times = map(list, zip(*log, strict=True))
    interactions = RawInteractions(
        pa.array(users, pa.large_string()),
        pa.array(items, pa.large_string()).dictionary_encode(),
        np.array(ratings, dtype=np.float64),
        np.array(times, dtype=np.int64 if all(isinstance(time, int) for time in times) else np.float64),
    )
    rows = [row for row in log if min_rating is None or row[2] >= min_rating]
    rows.sort(key=lambda row: row[3])
    pairs = [(user, item) for user, item, _, _ in rows]
    if repeats == "first":
        rows = [row for place, row in enumerate(rows) if pairs[place] not in pairs[:place]]
    elif repeats == "last":
        rows = [row for place, row in enumerate(rows) if pairs[place] not in pairs[place + 1 :]]
    per_user, per_item = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    rows = [row for row in rows if per_user[row[0]] >= core and per_item[row[1]] >= core]
    raw = RawData(interactions, None, (), {})
    config = PrepareConfig(min_rating=min_rating, repeats=repeats, core=core)
    if not rows:
        with pytest.raises(DataError, match="nothing remains"):
            build_dataset(raw, config)
        return
    expected = {user: [row for row in rows if row[0] == user] for user in sorted({row[0] for row in rows})}
    dataset = build_dataset(raw, config)
    assert dataset.users.ids == tuple(expected)
    assert dataset.items.ids == tuple(sorted({row[1] for row in rows}))
    assert by_id(dataset) == {user: [item for _, item, _, _ in mine] for user, mine in expected.items()}
    assert dataset.times is not None
    assert dataset.times.tolist() == [math.floor(row[3]) for mine in expected.values() for row in mine]
    last = dataset.provenance.steps[-1]
    assert (last.users, last.items, last.interactions) == (dataset.n_users, dataset.n_items, dataset.n_interactions)


@pytest.mark.parametrize("repeats", ["keep", "last"])
@pytest.mark.parametrize("unit", [1, 2**40, 2**60])
def test_order_by_any_size_of_time(repeats: str, unit: int) -> None:
    times = np.array([3, 1, 2, 0, 3], dtype=np.int64) * unit
    log = RawInteractions(pa.array(list("uvuvu")), pa.array(list("abcde")), None, times)
    dataset = build_dataset(RawData(log, None, (), {}), PrepareConfig(repeats=repeats))
    assert by_id(dataset) == {"u": ["c", "a", "e"], "v": ["d", "b"]}


def test_provenance_says_how(folder: Path) -> None:
    (folder / "log.csv").write_text(LOG + "broken\n")
    dataset = read_table(folder / "log.csv", folder / "items.csv", PrepareConfig(core=1), on_error="skip")
    provenance = dataset.provenance
    assert provenance.source == "table"
    assert provenance.skipped == {"log.csv: wrong number of columns": 1}
    assert [file.name for file in provenance.files] == ["log.csv", "items.csv"]
    source, made = provenance.options["source"], provenance.options["prepare"]
    assert isinstance(source, dict)
    assert isinstance(made, dict)
    assert (source["interactions"], source["items"], made["core"]) == ("log.csv", "items.csv", 1)
    assert str(folder) not in json.dumps(provenance.model_dump(mode="json"))


def test_unknown_sources_and_options_are_config_errors(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no source 'tabel'; sources are table, movielens"):
        prepare_source("tabel", {})
    with pytest.raises(ConfigError, match=r"(?s)source table.*tiem: no such field; did you mean time\?"):
        read_table(folder / "log.csv", tiem="t")
    with pytest.raises(ConfigError, match="PrepareConfig is no source's config"):
        prepare(PrepareConfig())


def test_the_public_surface_is_what_is_exported() -> None:
    assert dir(allmrec.data) == sorted(allmrec.data.__all__)
    for name in allmrec.data.__all__:
        home = importlib.import_module(allmrec.data._HOMES[name])
        assert getattr(allmrec.data, name) is getattr(home, name)
        assert name in home.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        allmrec.data.nothing  # noqa: B018  # to read it is the test


def test_a_process_that_reads_files_loads_no_torch() -> None:
    words = "import sys, allmrec.data.files.records; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Damaged files: whatever happens to the bytes, there is a data set or an error of ours.

_FILES = {
    "csv": ("log.csv", "items.csv", LOG, ITEMS),
    "jsonl": (
        "log.jsonl",
        "items.jsonl",
        "".join(
            json.dumps({"user_id": f"u{n % 2}", "item_id": n % 3, "rating": 2.5, "time": n}) + "\n" for n in range(6)
        ),
        '{"item_id": 0, "title": "Zero", "categories": ["x"]}\n{"item_id": "1", "title": null, "description": ["d"]}\n',
    ),
    "plain": ("log.txt", "items.csv", "u a\nu b\nv a\n", ITEMS),
}
_damages = st.lists(
    st.one_of(
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
        st.tuples(
            st.just("put"),
            st.floats(0, 1),
            st.sampled_from(
                [b"\0", b"\xff", b'"', b"\n", b"\r", b",", b"{", b"]", b"\xef\xbb\xbf", b"9" * 30, b"NaN", b"x", b" "]
            )
            | st.binary(max_size=4),
        ),
        st.tuples(st.just("lose"), st.floats(0, 1), st.just(b"")),
        st.tuples(
            st.just("swap"), st.floats(0, 1), st.sampled_from([b"item_id", b"user_id", b"rating", b"time", b"a", b"1"])
        ),
        st.tuples(st.just("again"), st.floats(0, 1), st.just(b"")),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, damages: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, what in damages:
        place = int(share * len(content))
        if kind == "cut":
            content = content[:place]
        elif kind == "put":
            content = content[:place] + what + content[place:]
        elif kind == "lose":
            content = content[:place] + content[place + 3 :]
        elif kind == "swap":
            content = content.replace(what, b"text", 1 if share < 0.5 else -1)
        else:
            content = content[:place] + content
    return content


@pytest.mark.filterwarnings("ignore:only .* of the:allmrec.core.errors.AllmrecWarning")
@pytest.mark.parametrize("kind", list(_FILES))
@given(
    log=_damages,
    items=_damages | st.just([]),
    on_error=st.sampled_from(["fail", "skip"]),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16"]),
)
@example(log=[("put", 0.5, b"\xff")], items=[], on_error="fail", encoding="utf-8")
@example(log=[("cut", 0.0, b"")], items=[], on_error="skip", encoding="utf-8")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_a_damaged_file_gives_a_data_set_or_an_error_of_ours(
    tmp_path: Path,
    kind: str,
    log: list[tuple[str, float, bytes]],
    items: list[tuple[str, float, bytes]],
    on_error: str,
    encoding: str,
) -> None:
    log_name, items_name, log_content, items_content = _FILES[kind]
    (tmp_path / log_name).write_bytes(damaged(log_content.encode(), log))
    (tmp_path / items_name).write_bytes(damaged(items_content.encode(), items))
    try:
        dataset = read_table(
            tmp_path / log_name, tmp_path / items_name, on_error=on_error, layout={"encoding": encoding}
        )
        dataset.save(tmp_path / "set")
        assert InteractionDataset.load(tmp_path / "set").content_hash == dataset.content_hash
    except AllmrecError as error:
        assert str(error)  # noqa: PT017 - either outcome is right


@given(place=st.floats(0, 1), what=st.binary(max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_a_damaged_parquet_file_too(tmp_path: Path, place: float, what: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user_id": ["u", "v"], "item_id": [1, 2], "time": [1, 2]}), file)
    whole = file.read_bytes()
    start = int(place * len(whole))
    file.write_bytes(whole[:start] + what + whole[start + len(what) :] if what else whole[:start])
    try:
        assert read_table(file).n_interactions >= 1
    except AllmrecError as error:
        assert str(error)  # noqa: PT017 - either outcome is right


# Real data.


def test_movielens_100k(ml_100k: Path) -> None:
    dataset = read_movielens(ml_100k)
    summary = dataset.summary()
    assert (summary.users, summary.items, summary.interactions) == (943, 1682, 100_000)
    assert (summary.items_without_title, summary.items_without_description) == (1, 1682)
    titles = {name: dataset.catalogue.title(number) for number, name in enumerate(dataset.items.ids, start=1)}
    assert titles["1"] == "Toy Story (1995)"
    assert titles["114"] == "Wallace & Gromit: The Best of Aardman Animation (1996)"
    assert titles["543"] == "Les Misérables (1995)"
    assert titles["1412"] == "Land Before Time III: The Time of the Great Giving (1995)"
    assert titles["267"] is None
    assert dataset.catalogue.categories[dataset.items.number("1")] == ("Animation", "Children's", "Comedy")
    times = dataset.times
    assert times is not None
    ends = dataset.offsets[1:-1]
    assert np.delete(np.diff(times), ends - 1).min() >= 0


@pytest.mark.parametrize(
    ("name", "sizes", "missing"),
    [("games", (50_546, 16_859, 440_264), 0), ("beauty", (22_363, 12_101, 198_502), 7)],
)
def test_shared_tables(shared_data: Path, name: str, sizes: tuple[int, int, int], missing: int) -> None:
    start = time.perf_counter()
    dataset = read_table(shared_data / name / "interactions.csv", shared_data / name / "items.csv")
    seconds = time.perf_counter() - start
    summary = dataset.summary()
    assert (summary.users, summary.items, summary.interactions) == sizes
    assert summary.items_without_title == missing
    titles = [title for title in dataset.catalogue.titles if title]
    assert "Phantasy Star Online, Episode I & II" in titles or name != "games"
    assert not [title for title in titles if "&amp;" in title or "&quot;" in title or "&reg;" in title]
    assert seconds < 5, "reading takes about a second on one core"


def test_shared_movietweetings_has_its_iterated_5_core(shared_data: Path) -> None:
    dataset = read_table(
        shared_data / "movietweetings" / "ratings.dat",
        shared_data / "movietweetings" / "movies.dat",
        PrepareConfig(core=5, core_passes="all"),
        layout={"format": "csv", "delimiter": "::", "header": False},
        rating="3",
        time="4",
        title="2",
        categories="3",
    )
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (4_333, 2_414, 68_055)
    first = dataset.provenance.steps[0]
    assert (first.users, first.items, first.interactions) == (16_554, 10_506, 100_000)


def test_shared_gift_cards_equal_the_released_preprocessing(shared_data: Path) -> None:
    counts = json.loads((shared_data.parent / "golden" / "gift_cards_counts.json").read_text())
    dataset = read_table(
        shared_data / "gift_cards_raw" / "Gift_Cards_5.json.gz",
        shared_data / "gift_cards_raw" / "meta_Gift_Cards.json.gz",
        PrepareConfig(core=5),
        user="reviewerID",
        item="asin",
        rating="overall",
        time="unixReviewTime",
        categories="category",
        duplicate_items="first",
    )
    summary = dataset.summary()
    assert {"users": summary.users, "items": summary.items, "interactions": summary.interactions} == {
        name: counts[name] for name in ("users", "items", "interactions")
    }


@given(
    st.lists(
        st.one_of(st.integers(0, 5), st.integers(0, 1 << 40), st.sampled_from([65_535, 65_536, (1 << 32) - 1, 1 << 32]))
    )
)
def test_rows_by_number_are_those_of_a_stable_sort(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.int64)
    assert by_number(values).tolist() == np.argsort(values, kind="stable").tolist()
    small = (values % 1000).astype(np.int32)
    assert by_number(small).tolist() == np.argsort(small, kind="stable").tolist()
