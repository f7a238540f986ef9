"""The sub-verbs of `prepare`: each raw format to a data set, and the next command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import call, fails

from allmrec.data import InteractionDataset

_REVIEWS = [
    {"reviewerID": f"u{user}", "asin": f"i{item}", "overall": float(1 + (user + item) % 5), "unixReviewTime": item}
    for user in range(6)
    for item in range(6)
]


@pytest.fixture
def amazon(tmp_path: Path) -> list[str | Path]:
    (tmp_path / "reviews.json").write_text("".join(json.dumps(review) + "\n" for review in _REVIEWS))
    (tmp_path / "meta.json").write_text("{'asin': 'i0', 'title': 'Zero', 'categories': [['x']]}\n")
    return ["prepare", "amazon", "--reviews", tmp_path / "reviews.json", "--metadata", tmp_path / "meta.json"]


@pytest.mark.parametrize("source", ["amazon", "movietweetings", "recbole"])
def test_each_source_has_help_with_the_same_filters(source: str) -> None:
    result = call("prepare", source, "--help")
    assert result.exit_code == 0
    for option in ("--output", "--min-rating", "--core", "--core-passes", "--repeats", "--keep-items", "--on-error"):
        assert option in result.stdout


def test_amazon_with_a_preset_prints_the_words(amazon: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "beauty"
    result = call(*amazon, "--preset", "beauty", "--core", "1", "-o", out)
    assert result.exit_code == 0, result.output
    assert f"Next: allmrec train {out} -o runs/beauty --words buy,bought,item   # without a GPU" in result.stdout
    dataset = InteractionDataset.load(out)
    # From the preset the ratings from 4 on; from the command line the core of 1.
    assert dataset.n_interactions == sum(review["overall"] > 3 for review in _REVIEWS)
    assert dataset.catalogue.title(1) == "Zero"
    assert dataset.catalogue.missing_titles == 5
    made = dataset.provenance.options["prepare"]
    assert isinstance(made, dict)
    assert (made["min_rating"], made["core"], made["rating_scope"]) == (4.0, 1, "interactions")


def test_amazon_without_a_preset_filters_nothing(amazon: list[str | Path], tmp_path: Path) -> None:
    result = call(*amazon, "-o", tmp_path / "all")
    assert f"Next: allmrec train {tmp_path / 'all'} -o runs/all   #" in result.stdout
    assert InteractionDataset.load(tmp_path / "all").n_interactions == 36


def test_a_preset_that_is_not_there(amazon: list[str | Path], tmp_path: Path) -> None:
    message = fails(*amazon, "--preset", "beaty", "-o", tmp_path / "x")
    assert message.startswith("There is no preset 'beaty'; known are movies, games, beauty, toys")


def test_a_bad_line_fails_or_is_counted(amazon: list[str | Path], tmp_path: Path) -> None:
    reviews = tmp_path / "reviews.json"
    reviews.write_text(reviews.read_text() + '{"reviewerID": "u", "asin": 1.5}\n')
    assert f"{reviews}:37: asin is 1.5" in fails(*amazon, "-o", tmp_path / "x")
    result = call(*amazon, "-o", tmp_path / "x", "--on-error", "skip")
    assert "skipped 1 lines: reviews.json: unexpected value" in result.stdout


def test_movietweetings(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::001::7::5\n1::002::8::6\n")
    (tmp_path / "movies.dat").write_text("001::One (1913)::Crime\n002::Two (2001)::\n")
    result = call("prepare", "movietweetings", tmp_path, "-o", tmp_path / "d")
    assert result.exit_code == 0, result.output
    assert InteractionDataset.load(tmp_path / "d").catalogue.titles == (None, "One (1913)", "Two (2001)")


def test_recbole(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\nu\ta\nu\tb\n")
    (tmp_path / "x.item").write_text("item_id:token\tlabel:token_seq\na\tOne Two\n")
    result = call("prepare", "recbole", tmp_path, "--title", "label", "--rating", "none", "-o", tmp_path / "d")
    assert result.exit_code == 0, result.output
    assert InteractionDataset.load(tmp_path / "d").catalogue.titles == (None, "One Two", None)
