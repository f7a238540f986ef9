from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from allmrec.core.errors import DataError
from allmrec.data import InteractionDataset, ItemTextTemplate, PrepareConfig, RawData, prepare_source
from allmrec.data.sources.amazon import PRESETS, AmazonConfig, read_amazon_files

# The same three reviews and three items, as each year publishes them. Nobody wrote these.
_LOG = [("u1", "a", 5.0, 20), ("u1", "b", 2.0, 10), ("u2", "a", 4.0, 30)]
_ITEMS = [
    ("a", "It's One", ["First.", "Second."], ["Games", "Old & New"]),
    ("b", "Two", [], ["Games"]),
    ("c", None, ["Alone."], []),
]


def reviews(form: str) -> list[dict[str, object]]:
    if form == "2023":
        return [
            {
                "rating": r,
                "title": "x",
                "text": "y",
                "asin": "z",
                "parent_asin": i,
                "user_id": u,
                "timestamp": t * 1000 + 7,
            }
            for u, i, r, t in _LOG
        ]
    return [
        {"reviewerID": u, "asin": i, "helpful": [0, 1], "reviewText": "It's", "overall": r, "unixReviewTime": t}
        for u, i, r, t in _LOG
    ]


def metadata(form: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for item, title, description, categories in _ITEMS:
        row: dict[str, object] = {"parent_asin" if form == "2023" else "asin": item}
        if title is not None:
            row["title"] = title
        if form == "2014":
            # One text, and categories as paths.
            row |= {"description": " ".join(description)} if description else {}
            row["categories"] = [categories]
        else:
            row |= {"description": description, "category" if form == "2018" else "categories": categories}
        rows.append(row)
    return rows


def write(folder: Path, form: str, syntax: str = "json", zipped: bool = False) -> tuple[Path, Path]:
    paths = []
    for name, rows in (("reviews", reviews(form)), ("meta", metadata(form))):
        content = "".join((json.dumps(row) if syntax == "json" else repr(row)) + "\n" for row in rows).encode()
        path = folder / (f"{name}.json" + ".gz" * zipped)
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
        paths.append(path)
    return paths[0], paths[1]


def read(folder: Path, year: str, syntax: str = "json", zipped: bool = False, **options: object) -> RawData:
    log, meta = write(folder, year, syntax, zipped)
    return read_amazon_files(AmazonConfig(reviews=log, metadata=meta, **options))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("form", "syntax"), [("2014", "python"), ("2014", "json"), ("2018", "json"), ("2023", "json"), ("2018", "python")]
)
def test_every_form_says_the_same(tmp_path: Path, form: str, syntax: str, zipped: bool) -> None:
    for options in ({}, {"form": form}):
        raw = read(tmp_path, form, syntax, zipped, **options)
        log, items = raw.interactions, raw.items
        assert list(zip(log.user_ids.to_pylist(), log.item_ids.to_pylist(), strict=True)) == [
            (user, item) for user, item, _, _ in _LOG
        ]
        assert log.ratings is not None
        assert log.ratings.tolist() == [5, 2, 4]
        assert log.times is not None
        assert log.times.tolist() == ([20.007, 10.007, 30.007] if form == "2023" else [20, 10, 30])
        assert items is not None
        assert items.ids == ("a", "b", "c")
        assert items.titles == ("It's One", "Two", None)
        assert items.descriptions == ("First. Second.", None, "Alone.")
        assert items.categories == (("Games", "Old & New"), ("Games",), ())
        assert raw.skipped == {}


def test_reviews_and_metadata_may_be_of_different_years(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    log, _ = write(tmp_path, "2014")
    _, meta = write(tmp_path / "new", "2018")
    raw = read_amazon_files(AmazonConfig(reviews=log, metadata=meta))
    assert raw.items is not None
    assert raw.items.categories[0] == ("Games", "Old & New")


def test_only_the_first_part_of_a_description_by_option(tmp_path: Path) -> None:
    raw = read(tmp_path, "2018", description="first")
    assert raw.items is not None
    assert raw.items.descriptions == ("First.", None, "Alone.")


def test_what_is_missing_stays_missing_and_the_text_is_of_what_there_is(tmp_path: Path) -> None:
    log, meta = write(tmp_path, "2018")
    kept = PrepareConfig(keep_items_without_interactions=True)
    dataset = prepare_source("amazon", {"reviews": log, "metadata": meta}, kept)
    assert dataset.catalogue.titles == (None, "It's One", "Two", None)
    assert dataset.catalogue.descriptions == (None, "First. Second.", None, "Alone.")
    assert dataset.summary().items_without_title == 1
    assert dataset.catalogue.item_texts() == [
        "",
        "Title: It's One, Description: First. Second.",
        "Title: Two",
        "Description: Alone.",
    ]
    template = ItemTextTemplate(title_only="A thing called {title}")
    assert dataset.catalogue.item_text(2, template) == "A thing called Two"


def test_without_metadata_items_are_ids(tmp_path: Path) -> None:
    log, _ = write(tmp_path, "2023")
    dataset = prepare_source("amazon", {"reviews": log})
    assert dataset.items.ids == ("a", "b")
    assert dataset.catalogue.missing_titles == 2
    assert dataset.times is not None
    assert dataset.times.tolist() == [10, 20, 30]


def test_thousandths_of_a_second_order(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "parent_asin": i, "rating": 1.0, "timestamp": t} for i, t in (("a", 1999), ("b", 1001))]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = prepare_source("amazon", {"reviews": tmp_path / "r.jsonl"})
    assert dataset.item_numbers.tolist() == [2, 1]
    assert dataset.times is not None
    assert dataset.times.tolist() == [1, 1]


def test_bad_lines_are_left_out_and_counted_by_kind(tmp_path: Path) -> None:
    log, meta = write(tmp_path, "2018")
    good = log.read_bytes()
    bad = b"".join(
        [
            b'{"reviewerID": "u", "asin"\n',
            b'{"reviewerID": "u", "asin": "a", "overall": "good", "unixReviewTime": 1}\n',
            b'{"asin": "a", "overall": 1.0, "unixReviewTime": 1}\n',
            b'{"reviewerID": "u", "asin": "a", "overall": 1.0}\n',
            b'{"reviewerID": "\xff", "asin": "a", "overall": 1.0, "unixReviewTime": 1}\n',
            b"[1]\n",
        ]
    )
    log.write_bytes(bad + good)
    with pytest.raises(DataError, match=r"reviews\.json:1: found no JSON"):
        read_amazon_files(AmazonConfig(reviews=log, metadata=meta))
    raw = read_amazon_files(AmazonConfig(reviews=log, metadata=meta, on_error="skip"))
    assert raw.interactions.user_ids.to_pylist() == ["u1", "u1", "u2"]
    assert raw.skipped == {
        "reviews.json: not JSON": 1,
        "reviews.json: wrong encoding": 1,
        "reviews.json: not an object": 1,
        "reviews.json: empty user id": 1,
        "reviews.json: rating is no number": 1,
        "reviews.json: time is no number": 1,
    }


def test_an_item_may_have_several_records(tmp_path: Path) -> None:
    log, meta = write(tmp_path, "2018")
    meta.write_text(meta.read_text() + '{"asin": "a", "title": "Again", "category": []}\n')
    titles = {}
    for which in ("first", "last"):
        items = read_amazon_files(AmazonConfig(reviews=log, metadata=meta, duplicate_items=which)).items
        assert items is not None
        titles[which] = dict(zip(items.ids, items.titles, strict=True))["a"]
    assert titles == {"first": "It's One", "last": "Again"}
    with pytest.raises(DataError, match=r"meta\.json:4: item 'a' has a row already"):
        read_amazon_files(AmazonConfig(reviews=log, metadata=meta, duplicate_items="fail"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"no json", r"reviews\.json:1: found no JSON"),
        (b'{"user": 1}\n', "no field 'reviewerID'; found 'user'; reviews have 'reviewerID', 'asin'"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "reviews.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_amazon_files(AmazonConfig(reviews=tmp_path / "reviews.json"))
    with pytest.raises(DataError, match="no such file"):
        read_amazon_files(AmazonConfig(reviews=tmp_path / "gone.json"))


def test_metadata_in_place_of_reviews_says_so(tmp_path: Path) -> None:
    _, meta = write(tmp_path, "2018")
    with pytest.raises(DataError, match="no field 'reviewerID'; found 'asin'"):
        read_amazon_files(AmazonConfig(reviews=meta))


def test_the_presets_are_the_papers() -> None:
    assert {name: preset.words[1:] for name, preset in PRESETS.items() if "-" not in name} == {
        "movies": ("watched", "movie"),
        "games": ("played", "game"),
        "beauty": ("bought", "item"),
        "toys": ("bought", "item"),
    }
    made = {name: PrepareConfig(**preset.prepare) for name, preset in PRESETS.items()}
    for preset in PRESETS.values():
        AmazonConfig(reviews=Path("x"), **preset.source)
    assert {name: config.cores() for name, config in made.items()} == {
        name: (4, 4) if name.startswith(("beauty", "toys")) else (5, 5) for name in PRESETS
    }
    assert {name for name, config in made.items() if config.min_rating is not None} == {
        name for name in PRESETS if name.startswith(("beauty", "toys"))
    }
    # Above 3 counts; the released program counts from 3 on and keeps the others.
    assert (made["beauty"].min_rating, made["beauty"].rating_scope) == (4, "interactions")
    assert (made["beauty-released"].min_rating, made["beauty-released"].rating_scope) == (3, "counts")


def gift_cards(shared_data: Path, preset: str) -> InteractionDataset:
    folder = shared_data / "gift_cards_raw"
    files = {"reviews": folder / "Gift_Cards_5.json.gz", "metadata": folder / "meta_Gift_Cards.json.gz"}
    chosen = PRESETS[preset]
    return prepare_source("amazon", {**files, **chosen.source}, PrepareConfig(**chosen.prepare))


@pytest.mark.parametrize("preset", ["movies-released", "games-released"])
def test_shared_gift_cards_equal_the_released_program(shared_data: Path, preset: str) -> None:
    golden = shared_data.parent / "golden" / "gift_cards_counts.json"
    if not golden.is_file():
        pytest.skip(f"there is no {golden}")
    counts = json.loads(golden.read_text())
    summary = gift_cards(shared_data, preset).summary()
    assert {name: getattr(summary, name) for name in ("users", "items", "interactions")} == {
        name: counts[name] for name in ("users", "items", "interactions")
    }


def test_shared_gift_cards_by_counting_each_record(shared_data: Path) -> None:
    """Beauty's rule in plain Python over json.loads."""
    with gzip.open(shared_data / "gift_cards_raw" / "Gift_Cards_5.json.gz") as handle:
        log = [json.loads(line) for line in handle]
    log = [review for review in log if review["overall"] > 3]
    users, items = [review["reviewerID"] for review in log], [review["asin"] for review in log]
    kept = [(u, i) for u, i in zip(users, items, strict=True) if users.count(u) >= 4 and items.count(i) >= 4]
    dataset = gift_cards(shared_data, "beauty")
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (
        len({user for user, _ in kept}),
        len({item for _, item in kept}),
        len(kept),
    )
