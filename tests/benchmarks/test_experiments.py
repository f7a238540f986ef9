"""What the list of plans says that runs took."""

from __future__ import annotations

from pathlib import Path

from benchmarks.experiments import cost, with_words_of
from tests.experiments.test_report import write_experiment

from allmrec.experiments.costs import run_line
from allmrec.experiments.found import read_experiment
from allmrec.experiments.plan import Claim
from allmrec.experiments.record import Record


def test_minutes_count_each_training_once_and_say_that_there_were_cuts(tmp_path: Path) -> None:
    """Seven cells of one stage a seed, 12 seconds each; asking 50 users (60 with cold ones) at 1, 10, 100 and 1000 a second."""
    found = read_experiment(write_experiment(tmp_path))
    users = sum(1 / one.about["users_per_second"] for one in found.done)
    for one in found.done:
        one.about["users"] = 600  # type: ignore[index]
    run = cost(found, "table4")
    assert run["minutes"] == round((2 * 12 + 600 * users) / 60)
    assert run["cells"] == 7
    assert run["cut"] is True


def test_a_record_takes_the_words_of_its_plan_and_nothing_else(tmp_path: Path) -> None:
    record = Record.read(write_experiment(tmp_path))
    claim = Claim(text="other words", better="backbone", than="popularity")
    other = record.plan.model_copy(update={"title": "New", "users": 7, "claims": (claim,)})
    found = with_words_of(record, other)
    assert (found.plan.title, found.plan.claims) == ("New", (claim,))
    assert found.plan.users == record.plan.users
    assert found.keys == record.keys


def test_a_run_is_one_short_line() -> None:
    run = {"plan": "table7", "cells": 10, "minutes": 1131, "what": "movietweetings, games", "cut": True}
    run["device"] = "NVIDIA H200, 12 cells at a time, NVIDIA H200, 16 cells at a time, x86_64 CPU, 1 thread"
    assert run_line(run) == "10 on movietweetings, games: 1,131 min, cut (H200, CPU)"
