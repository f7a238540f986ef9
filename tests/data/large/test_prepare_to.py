"""DuckDB against memory: the same data set, counts, notes and errors, whatever the files hold."""

from __future__ import annotations

import gzip
import json
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allmrec.core.errors import AllmrecError, ConfigError, MissingExtraError
from allmrec.data import InteractionDataset, PrepareConfig
from allmrec.data.files import delimited_parts, lines, records
from allmrec.data.large import prepare_to
from allmrec.data.large import store as store_module
from allmrec.data.large.choice import Engine

LIMIT = 256 << 20


def outcome(
    folder: Path, engine: str, source: str, options: Mapping[str, Any], config: PrepareConfig
) -> dict[str, Any]:
    """All there is to say of one way: what was made and warned of, or the error."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            done = prepare_to(folder / engine, source, options, config, engine, LIMIT, threads=1)  # type: ignore[arg-type]  # the engine is one of the two
        except AllmrecError as error:
            return {"error": f"{type(error).__name__}: {error}", "warned": [str(one.message) for one in warned]}
    dataset = InteractionDataset.load(done.folder)
    manifest = json.loads((done.folder / "manifest.json").read_text())
    return {
        "users": dataset.users.ids,
        "items": dataset.items.ids,
        "offsets": dataset.offsets.tolist(),
        "item_numbers": dataset.item_numbers.tolist(),
        "times": None if dataset.times is None else dataset.times.tolist(),
        "catalogue": dataset.catalogue,
        "summary": done.summary,
        "manifest": manifest,
        "files": sorted(path.name for path in done.folder.iterdir()),
        "warned": [str(one.message) for one in warned],
    }


def assert_same(
    folder: Path, source: str, options: Mapping[str, Any], config: PrepareConfig | None = None
) -> dict[str, Any]:
    """Prepare in both ways, hold them against each other, and give what both said."""
    config = config or PrepareConfig()
    memory, duckdb = (outcome(folder, engine, source, options, config) for engine in ("memory", "duckdb"))
    assert duckdb == memory
    return memory


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few lines, so that small files have several."""
    monkeypatch.setattr(delimited_parts, "_PART", 1 << 17)
    monkeypatch.setattr(store_module, "_ROWS", 3000)


def small_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Blocks of a few lines of JSON, some of which the fast reader takes, and inserts of a few rows."""
    monkeypatch.setattr(
        records,
        "line_blocks",
        lambda path, problems, size=size, encoding=None: lines.line_blocks(path, problems, size, encoding),
    )
    monkeypatch.setattr(store_module, "_ROWS", 7)


REVIEWS = [
    *(
        json.dumps(
            {
                "reviewerID": f"u{n % 5}",
                "asin": f"i{n * 7 % 6}",
                "overall": n % 5 + 1.0,
                "unixReviewTime": 1400000000 + n % 4,
            }
        )
        for n in range(40)
    ),
    "",
    "   ",
    '{"reviewerID": "ü😀", "asin": "i1", "overall": 5, "unixReviewTime": "1400000000"}',
    '{"reviewerID": " u1 ", "asin": "i2", "overall": "4.5", "unixReviewTime": 1400000001.5}',
]
BAD = [
    "{",
    "[1]",
    '{"reviewerID": "u1", "asin": "i1", "overall": NaN, "unixReviewTime": 1}',
    '{"reviewerID": "u1", "asin": "i1", "overall": 1, "unixReviewTime": 1,}',
    '{"asin": "i1", "overall": 3, "unixReviewTime": 1400000000}',
    '{"reviewerID": "", "asin": "i1", "overall": 3, "unixReviewTime": 1400000000}',
    '{"reviewerID": "nan", "asin": "i\\u00011", "overall": 3, "unixReviewTime": 1400000000}',
    '{"reviewerID": "u1", "asin": "i1", "overall": "five", "unixReviewTime": 1400000000}',
    '{"reviewerID": "u1", "asin": "i1", "overall": 1e999, "unixReviewTime": 1400000000}',
    '{"reviewerID": "u1", "asin": "i1", "overall": 3}',
    '{"reviewerID": "u1", "asin": "i1", "overall": 3, "unixReviewTime": "soon"}',
    '{"reviewerID": true, "asin": "i1", "overall": 3, "unixReviewTime": 1400000000}',
    '{"reviewerID": "u1", "reviewerID": "u2", "asin": "i1", "overall": 3, "unixReviewTime": 1400000000}',
    '{"reviewerID": "cut \\ud83d", "asin": "i1", "overall": 3, "unixReviewTime": 1400000000}',
]
METADATA = [
    '{"asin": "i1", "title": "One &amp; only", "description": ["a", "b"], "category": ["x", "y"]}',
    '{"asin": "i2", "title": null}',
    '{"asin": "i2", "title": "Two again"}',
    '{"asin": "i9", "title": "Nobody\'s", "description": "text"}',
]
FILTERS = [
    PrepareConfig(),
    PrepareConfig(min_rating=3, repeats="first", core=2),
    PrepareConfig(min_rating=3, rating_scope="counts", core=3, repeats="last"),
    PrepareConfig(core=3, core_passes="all", keep_items_without_interactions=True),
    PrepareConfig(user_core=4, item_core=0, clean_texts=False),
    PrepareConfig(min_rating=2, core=2, core_passes="all"),
    PrepareConfig(repeats="last", item_core=3),
    PrepareConfig(core=1000),
]


@pytest.mark.parametrize("config", FILTERS)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_amazon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: PrepareConfig, on_error: str) -> None:
    small_blocks(monkeypatch, 256)
    mixed = [*REVIEWS]
    if on_error == "skip":
        random.Random(0).shuffle(mixed := [*REVIEWS, *BAD])  # noqa: S311  # no secret
    (tmp_path / "reviews.json").write_text("\n".join(mixed))
    (tmp_path / "meta.json").write_text("\n".join(METADATA))
    options = {"reviews": tmp_path / "reviews.json", "metadata": tmp_path / "meta.json"}
    found = assert_same(tmp_path, "amazon", {**options, "on_error": on_error, "max_skipped": 1}, config)
    if config.core < 1000:
        assert "error" not in found, found
        assert bool(found["manifest"]["provenance"]["skipped"]) == (on_error == "skip")


@pytest.mark.parametrize("bad", BAD)
def test_the_first_bad_line_is_named_alike(tmp_path: Path, bad: str) -> None:
    (tmp_path / "reviews.json").write_text("\n".join([*REVIEWS[:20], "", bad, *REVIEWS[20:], bad]))
    assert_same(tmp_path, "amazon", {"reviews": tmp_path / "reviews.json"})


def test_forms_and_packing(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "new.jsonl.gz", "wt") as file:
        for n in range(30):
            record = {"user_id": f"u{n % 3}", "parent_asin": f"i{n % 4}", "rating": 4.0, "timestamp": 1588615855070 - n}
            print(json.dumps(record), file=file)
    found = assert_same(tmp_path, "amazon", {"reviews": tmp_path / "new.jsonl.gz"})
    assert found["times"][0] == 1588615855
    (tmp_path / "old.json").write_text("\n".join(str(json.loads(line)) for line in REVIEWS if line.strip()))
    assert "error" not in assert_same(tmp_path, "amazon", {"reviews": tmp_path / "old.json"})
    data = (tmp_path / "new.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(data[: len(data) // 2])
    assert "error" in assert_same(tmp_path, "amazon", {"reviews": tmp_path / "cut.jsonl.gz"})


def csv(*rows: str, header: str = "user_id,item_id,rating,timestamp") -> bytes:
    return "\n".join([header, *rows]).encode()


GOOD = [f"u{n % 4},i{n % 5},{n % 5 + 1},{1_500_000_000 + n % 3}" for n in range(8000)]
TABLES = {
    "plain.csv": csv(*GOOD),
    "blank_lines.csv": csv(*GOOD[:9], "", "", *GOOD[9:]),
    "crlf.csv": csv(*GOOD).replace(b"\n", b"\r\n"),
    "mac.csv": csv(*GOOD).replace(b"\n", b"\r"),
    "mark.csv": b"\xef\xbb\xbf" + csv(*GOOD),
    "sep.csv": b"sep=;\n" + csv(*GOOD).replace(b",", b";"),
    "semicolon.csv": csv(*GOOD).replace(b",", b";"),
    "quoted.csv": csv(*GOOD, '"u,1","i""1",3,1500000000', 'u2,"i,2",4,1500000000'),
    "stray.csv": csv(*GOOD, '"u1,i1,3,1500000000', *GOOD),
    "short.csv": csv(*GOOD, "u1,i1,3", *GOOD),
    "bad_rating.csv": csv(*GOOD, "u1,i1,five,1500000000", "u1,i1,,1500000000", *GOOD),
    "bad_time.csv": csv(*GOOD, "u1,i1,5,soon", *GOOD),
    "dates.csv": csv(*(f"u{n % 4},i{n % 5},3,2020-01-{n + 1:02} 10:00:00.{n}" for n in range(25))),
    "day_first.csv": csv(*(f"u{n % 4},i{n % 5},3,{n + 1:02}/02/2020" for n in range(25))),
    "undecided.csv": csv("u,i,3,01/02/2020"),
    "compact.csv": csv(*(f"u{n % 4},i{n % 5},3,202001{n + 1:02}" for n in range(25))),
    "millis.csv": csv(*(f"u{n % 4},i{n % 5},3,{1_500_000_000_000 + n * 7}" for n in range(25))),
    "units.csv": csv(*GOOD, "u1,i1,3,1500000000000"),
    "small_times.csv": csv(*(f"u{n % 4},i{n % 5},3,{n * 5 % 11}" for n in range(25))),
    "negative.csv": csv(*GOOD, "u1,i1,-0.5,-5", "u1,i2,+3,+5"),
    "float_times.csv": csv(*(f"u{n % 4},i{n % 5},3,{1_500_000_000 + n / 4}" for n in range(25))),
    "huge.csv": csv(*GOOD, "u1,i1,3,99999999999999999999"),
    "pandas.csv": csv(*(f"{n % 4}.0,{n % 5},3.,15000000{n:02}" for n in range(25))),
    "shortened.csv": csv("1.2E+12,i1,3,1500000000", "3,i1,3,1500000000"),
    "missing.csv": csv(
        *GOOD, "nan,i1,3,1500000000", "NA,i1,3,1500000000", "u1,,3,1500000000", " u1 , i1 ,3,1500000000"
    ),
    "control.csv": csv(*GOOD, "u\x07,i1,3,1500000000"),
    "unicode.csv": csv(*GOOD, "ü😀,ÿ,3,1500000000", "e\u0301,\u00a0i1,3,1500000000", "\uffff,i,3,1500000000"),
    "latin.csv": csv(*GOOD, *["Jürgen,café,3,1500000000"] * 3).decode().encode("cp1252"),
    "broken.csv": csv(*GOOD) + b"\nu\xff\xfe\x80,i1,3,1500000000",
    "utf16.csv": csv(*GOOD).decode().encode("utf-16"),
    "no_time.csv": csv("a,b", "b,c", "a,c", header="user_id,item_id"),
    "twice.csv": csv("a,b,c", header="user_id,user_id,item_id"),
    "two_users.csv": csv("a,b,c", header="user_id,customer_id,item_id"),
    "position.csv": csv("a,x,3", "a,y,1", "a,z,2", header="user_id,item_id,position"),
    "no_item.csv": csv("a,b", header="user_id,something"),
    "only_header.csv": csv(),
    "empty.csv": b"",
    "json.csv": b'{"user_id": 1}\n',
    "tabs.tsv": csv(*GOOD).replace(b",", b"\t"),
    "white.txt": csv(*GOOD).replace(b",", b" "),
    "array.json": json.dumps([{"user_id": n % 3, "item_id": n % 4, "timestamp": n} for n in range(20)]).encode(),
    "mixed.jsonl": b"\n".join(
        json.dumps({"user_id": user, "item_id": item, "rating": rating, "timestamp": time}).encode()
        for user, item, rating, time in [(1, "a", 3, 5), ("1", 2.0, 4.5, 6.5), (2**70, "b", "3", 7), ("2", "c", 1, "8")]
    ),
}


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str, on_error: str) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    assert_same(
        tmp_path, "table", {"interactions": tmp_path / name, "on_error": on_error}, PrepareConfig(repeats="first")
    )


def test_one_column_as_user_and_item(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(TABLES["plain.csv"])
    assert "error" not in assert_same(tmp_path, "table", {"interactions": tmp_path / "log.csv", "item": "user_id"})


def test_a_table_with_items(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(TABLES["plain.csv"])
    (tmp_path / "items.csv").write_text("item_id,title,genres\ni4,Four,a|b\ni1,One,\ni8,Eight,c\n")
    options = {"interactions": tmp_path / "log.csv", "items": tmp_path / "items.csv"}
    found = assert_same(tmp_path, "table", options)
    assert found["warned"]
    (tmp_path / "items.csv").write_text("item_id,title,genres\nI4,Four,a|b\n")
    assert "error" in assert_same(tmp_path, "table", options)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([5, 3, 9, 1], pa.int64()),
        pa.array([5.5, 3, 9, 1]),
        pa.array([5.5, None, 9, 1]),
        pa.array([1_500_000_000_000_000 + n * 10**6 for n in range(4)], pa.timestamp("us")),
        pa.array([1_500_000_000_000_000 + n for n in range(4)], pa.timestamp("us")),
        pa.array([-1_500_000_000_123, 0, 1, None], pa.timestamp("ms")),
        pa.array([18000, 18001, 18002, 18003], pa.date32()),
        pa.array(["2020-01-01", "2020-01-02", "x", "2020-01-04"]),
        pa.array([True, False, True, True]),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "users", [pa.array([1, 2, 1, 2]), pa.array([1.0, 2.0, None, 1.0]), pa.array(list("abca"))], ids=str
)
def test_parquet(tmp_path: Path, column: pa.Array, users: pa.Array) -> None:
    items = pa.array(["x", "y", "x", "z"]).dictionary_encode()
    table = pa.table(
        {"user_id": users, "item_id": items, "timestamp": column, "rating": pa.array([1, 2, 3, 4], pa.int8())}
    )
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=3)
    assert_same(tmp_path, "table", {"interactions": tmp_path / "log.parquet", "on_error": "skip"})


FIELDS = {
    "user_id": st.sampled_from(["a", "b", " a", "", "nan", "1", "1.0", "ü", None, 1, 1.0, 1.5, True, "\x00", []]),
    "item_id": st.sampled_from(["x", "y", "z", 7, 7.0, "7", "x "]),
    "rating": st.one_of(
        st.none(), st.integers(-5, 5), st.floats(allow_nan=True), st.sampled_from(["3", "x", "1e5", " 4"])
    ),
    "timestamp": st.one_of(
        st.integers(0, 3), st.integers(10**9, 10**9 + 3), st.sampled_from([10**12, "5", "2020-01-01", 1.5, None, 2**63])
    ),
}
RECORDS = st.lists(
    st.one_of(
        st.fixed_dictionaries(FIELDS).map(json.dumps),
        st.fixed_dictionaries({"user_id": FIELDS["user_id"], "item_id": FIELDS["item_id"]}).map(json.dumps),
        st.sampled_from(["", " ", "{", "null", '{"user_id": "a", "item_id": "x", "timestamp": 3}']),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=RECORDS,
    repeats=st.sampled_from(["keep", "first", "last"]),
    core=st.integers(0, 3),
    passes=st.sampled_from(["one", "all"]),
    max_skipped=st.sampled_from([None, 1.0]),
)
def test_drawn_records(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    drawn: list[str],
    repeats: Any,
    core: int,
    passes: Any,
    max_skipped: float | None,
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    small_blocks(monkeypatch, 64)
    (folder / "log.jsonl").write_text("\n".join(drawn))
    options = {"interactions": folder / "log.jsonl", "on_error": "skip", "max_skipped": max_skipped}
    assert_same(folder, "table", options, PrepareConfig(repeats=repeats, core=core, core_passes=passes))


def test_a_small_memory_limit_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_ROWS", 1 << 18)
    rng = np.random.default_rng(0)
    n = 600_000
    table = pa.table(
        {
            "user_id": pa.array([f"user-{number:030}" for number in rng.integers(0, n, n)]),
            "item_id": pa.array(rng.integers(0, 1000, n)),
            "timestamp": pa.array(rng.integers(10**9, 2 * 10**9, n)),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    options = {"interactions": tmp_path / "log.parquet"}
    small = prepare_to(tmp_path / "small", "table", options, engine="duckdb", memory_limit=64 << 20, threads=1)
    assert not list(tmp_path.glob(".*"))
    assert InteractionDataset.load(small.folder).content_hash == (
        prepare_to(tmp_path / "memory", "table", options, engine="memory")
        and InteractionDataset.load(tmp_path / "memory").content_hash
    )


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_whole_numbers_beyond_what_floating_point_holds_are_rounded(tmp_path: Path, engine: Engine, form: str) -> None:
    path, ratings = tmp_path / f"log.{form}", [5, 2**53 + 1, -(2**62) - 1]
    rows = [{"user_id": f"u{n}", "item_id": "i", "rating": rating, "timestamp": n} for n, rating in enumerate(ratings)]
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    made = prepare_to(tmp_path / "data", "table", {"interactions": path}, PrepareConfig(min_rating=5), engine)
    assert made.summary.interactions == 2


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(TABLES["bad_time.csv"])
    with pytest.raises(AllmrecError, match="soon"):
        prepare_to(tmp_path / "out", "table", {"interactions": tmp_path / "log.csv"}, engine="duckdb")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_what_duckdb_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="movielens"):
        prepare_to(tmp_path / "out", "movielens", {"directory": tmp_path}, engine="duckdb")
    with pytest.raises(ConfigError, match="memory limit"):
        prepare_to(tmp_path / "out", "table", {"interactions": tmp_path / "x.csv"}, engine="duckdb", memory_limit=1000)


def test_a_missing_duckdb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"allmrec\[duckdb\]"):
        prepare_to(tmp_path / "out", "table", {"interactions": tmp_path / "x.csv"}, engine="duckdb")
