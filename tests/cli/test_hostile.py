"""A small catalogue whose titles and ids are hostile, through every verb: it trains, and everything is shown as it is."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import call, fails
from tiny_world import TinyWorld

from allmrec.baselines.popularity import Popularity
from allmrec.cli.main import main
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation.evaluator import CandidateEvaluator
from allmrec.evaluation.protocol import EvaluationProtocol
from allmrec.recommend.language_ranker import LanguageRanker

TITLES = (
    "[/rec] A Film",
    "The [bold red]Bold[/] Film",
    "[link=http://evil]click[/link]",
    "a|b `c` <b>d</b> [e](http://f)",
    "line\nbreak\r\nand\ttab",
    "\x1b[31mred\x1b[0m\x07",
    "\u202egnp.exe\u2066",
    "back\\slash\\",
)
USERS = 12


def hostile_data() -> InteractionDataset:
    """Fifteen items, twelve users with short histories, one of whom met all but one item."""
    names = [f"i{n}[/]\x1b[3{n}m\u202e" for n in range(15)]
    rows = {f"u{n}": [names[(n * 3 + step * step) % 15] for step in range(4 + n % 2)] for n in range(USERS - 1)}
    rows["heavy [red]"] = names[:14]
    return InteractionDataset.from_sequences(
        rows, items=names, titles={name: f"{TITLES[n % len(TITLES)]} {n}" for n, name in enumerate(names)}
    )


@pytest.fixture(scope="module")
def hostile(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile [red]")
    hostile_data().save(folder / "data")
    arguments = ["--recipe", tiny_world.recipe, "--set", "evaluation.users=none"]
    made = call("train", folder / "data", "-o", folder / "run", *arguments)
    assert made.exit_code == 0, made.output
    (folder / "trained.txt").write_text(made.stdout)
    return folder


def nothing_hidden(text: str) -> None:
    wrong = [c for c in text if (unicodedata.category(c) in ("Cc", "Cs") and c != "\n") or c in "\u202e\u2066"]
    assert wrong == []


def test_a_small_catalogue_trains_and_says_once_what_is_smaller(hostile: Path) -> None:
    said = (hostile / "trained.txt").read_text()
    lines = [line for line in said.splitlines() if "asked for" in line]
    assert len(lines) == 1
    assert (
        "The catalogue has 15 items, so there are fewer: pretrain.validation_negatives 11 (asked for: 19)" in lines[0]
    )
    assert "align.validation_negatives 11 (asked for: 19)" in lines[0]
    assert "evaluation.candidates 12 (asked for: 20)" in lines[0]
    assert re.search(r"tune\.candidates 1\d \(asked for: 20\)", lines[0])
    assert "1 user leaves too few unseen items for negatives and is left out" in said


def test_all_systems_train_and_rank_on_a_small_catalogue(hostile: Path) -> None:
    names = (
        "late-fusion",
        "item-knn",
        "ease",
        "bm25",
        "text-similarity",
        "gru4rec",
        "nextitnet",
        "ncf",
        "morec",
        "ctrl",
    )
    options = [option for name in names for option in ("--system", name)]
    quick = [f"systems.{name}.pretrain.training.epochs=1" for name in ("morec", "ctrl")]
    trained = call("train", hostile / "run", *options, *(part for change in quick for part in ("--set", change)))
    assert trained.exit_code == 0, trained.output
    found = call("evaluate", hostile / "run", "--title-users", 2)
    assert found.exit_code == 0, found.output
    report = json.loads((hostile / "run" / "report.json").read_text())
    assert report["n_candidates"] == 12
    assert "20 candidates were asked for, the catalogue has 15 items" in report["scenario"]
    assert "without 1 user who leaves too few negatives" in report["scenario"]
    ranks = [rank for system in report["systems"] for rank in system["ranks"] if rank is not None]
    assert max(ranks) <= 12
    protocol = EvaluationProtocol.load(hostile / "run" / "protocol.json")
    assert protocol.candidates.shape == (USERS - 1, 12)
    assert not (hostile / "run" / ".evaluating").exists() or not list((hostile / "run" / ".evaluating").iterdir())
    nothing_hidden(found.stdout)


def test_every_title_is_shown_as_it_is(hostile: Path) -> None:
    shown = "".join(
        call("recommend", hostile / "run", "--user", "u0", "--k", 11, *more).stdout
        for more in ([], ["--system", "popularity"], ["--explain", "--profile", "--explained", "1"])
    )
    nothing_hidden(shown)
    for text in (
        "[/rec] A Film",
        "The [bold red]Bold[/] Film",
        "[link=http://evil]click[/link]",
        r"\x1b[31mred\x1b[0m\x07",
    ):
        assert text in shown, text
    assert r"line\nbreak\r\nand\ttab" in shown
    assert r"\u202egnp.exe\u2066" in shown
    assert r"i0[/]\x1b[30m\u202e" in shown


def test_json_gives_titles_back(hostile: Path) -> None:
    printed = call("recommend", hostile / "run", "--user", "u0", "--k", 11, "--json").stdout
    nothing_hidden(printed)
    titles = {row["title"] for row in json.loads(printed)["recommendations"]}
    assert titles <= {title for title in hostile_data().catalogue.titles if title}


def test_messages_quote_ids_as_they_are(hostile: Path) -> None:
    message = fails("recommend", hostile / "run", "--user", "heavy [re]")
    assert "Did you mean 'heavy [red]'" in message
    nothing_hidden(fails("recommend", hostile / "run", "--user", "\x1b[31m\u202e"))
    nothing_hidden(call("doctor").stdout)


def test_a_short_history_withholds_what_it_can(hostile: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    """Ten targets a user are more than anybody but the heavy one has."""
    made = call(
        "train", hostile / "data", "-o", tmp_path / "run", "--recipe", tiny_world.recipe, "--set", "held_out_targets=10"
    )  # fmt: skip
    assert made.exit_code == 0, made.output


@pytest.mark.parametrize(
    ("length", "found"),
    [
        (6, "No user leaves any of the 6 items unseen"),
        (2, "No user has a validation item, which takes three interactions"),
    ],
)
def test_what_cannot_be_had_is_told_before_any_training_all_at_once(
    length: int, found: str, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    rows = {f"u{n}": [f"i{(n + step) % 6}" for step in range(length)] for n in range(5)}
    InteractionDataset.from_sequences(rows).save(tmp_path / "data")
    message = fails("train", tmp_path / "data", "-o", tmp_path / "run", "--recipe", tiny_world.recipe)
    first, *others = message.splitlines()
    assert first.startswith(
        "5 users and 6 items cannot give what pretrain.validation_negatives, align.validation_negatives, "
    )
    fields = ["pretrain.validation_negatives", "align.validation_negatives", "evaluation.candidates"]
    assert set(fields) <= {line.strip().split(":")[0] for line in others}
    assert found in message
    assert not (tmp_path / "run").exists()


def test_an_evaluation_goes_on_after_ctrl_c(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[str] = []
    rank = LanguageRanker.rank
    stop = False

    def counted(self: LanguageRanker, *arguments: Any) -> Any:
        batches.append("language model")
        if stop and batches.count("language model") == 2:
            raise KeyboardInterrupt
        return rank(self, *arguments)

    class Counted(Popularity):
        def rank(self, *arguments: Any) -> Any:
            batches.append("popularity")
            return super().rank(*arguments)

    # Eleven users in batches of five: three.
    monkeypatch.setattr(CandidateEvaluator, "batch_size", 5)
    monkeypatch.setattr("allmrec.systems.own.Popularity", Counted)
    monkeypatch.setattr(LanguageRanker, "rank", counted)
    arguments = ["evaluate", hostile / "run", "--systems", "popularity,allmrec-select"]

    def ranks() -> list[list[int]]:
        report = json.loads((hostile / "run" / "report-selected.json").read_text())
        return [system["ranks"] for system in report["systems"]]

    assert call(*arguments).exit_code == 0
    assert batches == ["popularity"] * 3 + ["language model"] * 3
    undisturbed, stop = ranks(), True
    batches.clear()
    cut = call(*arguments)
    assert cut.exit_code == 130
    assert "Stopped. What is finished is kept" in cut.stderr
    stop = False
    batches.clear()
    assert call(*arguments).exit_code == 0
    assert batches == ["language model"] * 2
    assert ranks() == undisturbed
    assert list((hostile / "run" / ".evaluating").iterdir()) == []


# Output that cannot be written


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """A descriptor whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def run_main(arguments: list[str], descriptor: int, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The program with its standard output at a descriptor; returns its status."""
    with open(os.dup(descriptor), "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "argv", ["allmrec", *arguments])
        try:
            main()
        except SystemExit as end:
            return end.code
    return 0


VERBS = {
    "help": ["--help"],
    "doctor": ["doctor"],
    "prepare": ["prepare", "table", "--interactions", "{world}/interactions.csv", "-o", "{tmp}/data"],
    "train": ["train", "{run}"],
    "evaluate": ["evaluate", "{run}", "--systems", "popularity,backbone"],
    "recommend": ["recommend", "{run}", "--user", "u0", "--system", "popularity"],
    "recommend as json": ["recommend", "{run}", "--user", "u0", "--system", "popularity", "--json"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_reader_that_has_gone_stops_no_verb(
    verb: str,
    hostile: Path,
    tiny_world: TinyWorld,
    tmp_path: Path,
    closed_pipe: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (hostile / "run" / "report-selected.json").unlink(missing_ok=True)
    places = {"world": tiny_world.folder, "tmp": tmp_path, "run": hostile / "run"}
    status = run_main([part.format(**places) for part in VERBS[verb]], closed_pipe, monkeypatch)
    assert status in (0, None)
    assert capfd.readouterr().err == ""
    if verb == "prepare":
        InteractionDataset.load(tmp_path / "data")
    if verb == "evaluate":
        json.loads((hostile / "run" / "report-selected.json").read_text())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_behind_the_output_is_said_and_loses_nothing(
    verb: str,
    hostile: Path,
    tiny_world: TinyWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (hostile / "run" / "report-selected.json").unlink(missing_ok=True)
    places = {"world": tiny_world.folder, "tmp": tmp_path, "run": hostile / "run"}
    full = os.open("/dev/full", os.O_WRONLY)
    status = run_main([part.format(**places) for part in VERBS[verb]], full, monkeypatch)
    os.close(full)
    assert status == 1
    said = capfd.readouterr().err
    assert said.startswith(f"error: standard output takes nothing more ({os.strerror(errno.ENOSPC)}).")
    assert said.count("\n") == 1
    if verb == "prepare":
        InteractionDataset.load(tmp_path / "data")
    if verb == "evaluate":
        json.loads((hostile / "run" / "report-selected.json").read_text())
