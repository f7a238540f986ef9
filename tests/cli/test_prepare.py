"""The sub-verbs of `prepare`: each raw format to a data set, and the next command."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import call, fails

import allmrec.data
from allmrec.data import InteractionDataset

# The metadata here know one item of six.
pytestmark = pytest.mark.filterwarnings("ignore:only 1 of the 6 items")

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
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\nu\tb\t2\n")
    (tmp_path / "x.item").write_text("item_id:token\tlabel:token_seq\na\tOne Two\n")
    result = call("prepare", "recbole", tmp_path, "--title", "label", "--rating", "none", "-o", tmp_path / "d")
    assert result.exit_code == 0, result.output
    assert InteractionDataset.load(tmp_path / "d").catalogue.titles == (None, "One Two", None)


def test_what_was_recognised_is_printed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("userId;movieId;date\n1.0;2.0;03/31/2021\nNaN;2.0;03/31/2021\n")
    (tmp_path / "films.txt").write_bytes("movieId\tname\n2\tCafé\n2\tTwice\n".encode("cp1252"))
    log, films, out = tmp_path / "log.csv", tmp_path / "films.txt", tmp_path / "d"
    options = ["--on-error", "skip", "--duplicate-items", "first"]
    result = call("prepare", "table", "--interactions", log, "--items", films, "-o", out, *options)
    assert result.exit_code == 0, result.output
    for line in (
        "log.csv: user is 'userId', item is 'movieId', time is 'date'",
        "films.txt: item is 'movieId', title is 'name'",
        "log.csv: columns are separated by ';' (--delimiter)",
        "films.txt: read as cp1252 (--encoding if letters look wrong)",
        "log.csv: column 'movieId' holds whole numbers written as 2.0; read as 2",
        "log.csv: dates such as 03/31/2021 in column 'date' are read as month, day, year (--date-order)",
        "films.txt: 1 rows of items that have another; the first counts",
        "skipped 1 lines: log.csv: missing user id (lines 3)",
    ):
        assert line in result.stdout
    about = InteractionDataset.load(out).provenance
    assert about.columns["log.csv"] == {"user": "userId", "item": "movieId", "time": "date"}
    assert about.skipped_lines == {"log.csv: missing user id": "3"}


def test_each_file_has_layout_options_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u1^1^03/04/2021\nu1^2^02/05/2021\n")
    (tmp_path / "films.dat").write_bytes("code~label\n1~Été\n2~x\n".encode("utf-16-le"))
    log, films, out = tmp_path / "log.csv", tmp_path / "films.dat", tmp_path / "d"
    options = ["--delimiter", "^", "--no-header", "--time", "3", "--date-order", "day-first", "--items-format", "csv"]
    options += ["--items-delimiter", "~", "--items-header", "--items-encoding", "utf-16-le"]
    options += ["--items-item", "code", "--title", "label"]
    result = call("prepare", "table", "--interactions", log, "--items", films, "-o", out, *options)
    assert result.exit_code == 0, result.output
    dataset = InteractionDataset.load(out)
    assert dataset.catalogue.titles == (None, "Été", "x")
    assert dataset.item_numbers.tolist() == [1, 2]


def test_what_messages_advise_is_an_option() -> None:
    """Every `--option` that a message of the reading code names is one of `prepare table`."""
    helped = call("prepare", "table", "--help").stdout
    source = Path(inspect.getfile(allmrec.data)).parent
    named = {option for path in source.rglob("*.py") for option in re.findall(r"\(?(--[a-z][a-z-]+)", path.read_text())}
    assert {"--encoding", "--delimiter", "--duplicate-items", "--date-order", "--max-skipped"} <= named
    assert not [option for option in named if option not in helped]


@pytest.mark.slow
def test_an_error_ends_with_1_every_time(tmp_path: Path) -> None:
    """Arrow's threads outlived the reader and aborted one process in four or ten; a process of its own shows it."""
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "u,i,1\n" * 500 + "NaN,i,1\n")
    code = "from allmrec.cli.main import main; main()"
    command = [sys.executable, "-c", code, "prepare", "table", "--interactions", log, "-o", tmp_path / "d"]
    ends = [subprocess.run(command, capture_output=True, text=True, timeout=120) for _ in range(20)]
    assert {end.returncode for end in ends} == {1}
    assert all("log.csv:502: column 'user_id' holds 'NaN'" in end.stderr for end in ends)
