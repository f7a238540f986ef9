"""docs/results.md is what the result files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.conftest import ROOT, program
from tests.experiments.test_report import write_experiment

GENERATOR = program(ROOT / "docs" / "generate_results.py")


def test_the_page_is_what_the_result_files_say() -> None:
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == GENERATOR.page(), "run: python docs/generate_results.py"


def test_readme_has_the_table_that_was_measured() -> None:
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    assert written == GENERATOR.readme(), "run: python docs/generate_results.py"
    assert "| A-LLMRec | 4,333 | 0." in written


def test_every_set_and_system_stands_there() -> None:
    page = GENERATOR.page()
    for name in ("movietweetings", "beauty", "games", "SASRec", "GRU4Rec", "NextItNet", "NCF", "Late fusion"):
        assert name in page


def test_cells_without_figures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATOR, "RESULTS", tmp_path)
    (tmp_path / "titles").mkdir()
    (tmp_path / "titles" / "movietweetings.json").write_text(
        json.dumps({"common": {}, "cells": {"one": {"system": "EASE"}}})
    )
    with pytest.raises(SystemExit, match=r"movietweetings\.json has cells and no figures"):
        GENERATOR.page()


def test_experiments_have_their_claims_tables_and_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATOR, "RESULTS", tmp_path)
    assert "The paper's experiments" not in GENERATOR.page()
    write_experiment(tmp_path / "experiments" / "table4")
    page = GENERATOR.page()
    assert "| table4 | worse | shop, cold-items, all users: Hit@1 | does not hold |" in page
    assert "shop, cold-items, cold items:" in page
    assert "Failed: allmrec-sbert." in page
    assert "Not measured" not in page
    assert "- 50 of 60 users were asked" in page
    assert "what it cost" not in page
    assert "tune.positions" not in page
    (tmp_path / "titles").mkdir()
    row = {"cell": "positions-last", "key": "allmrec", "figures": {"all": {"Hit@1": [0.4447, 0.4306, 0.46]}}}
    (tmp_path / "titles" / "movietweetings.json").write_text(json.dumps({"rows": [row, row | {"cell": "seed"}]}))
    said = GENERATOR.results_experiments.section(tmp_path / "experiments", lambda rows: "")
    assert [part for part in said if "`tune.positions = last`" in part and "Hit@1 0.445 [0.431, 0.460]" in part]


def test_a_plan_about_costs_has_them_and_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATOR, "RESULTS", tmp_path)
    folder = write_experiment(tmp_path / "experiments" / "table10")
    record = folder / "experiment.json"
    about = json.loads(record.read_text())
    about["plan"]["paper"] = {"table": "table10", "rows": {"allmrec": "A-LLMRec"}, "scenarios": {}}
    record.write_text(json.dumps(about))
    page = GENERATOR.page()
    assert (
        "| system | training | trained parameters | users/s | asked on | peak memory | theirs: training | theirs: users/s |"
        in page
    )
    assert "| A-LLMRec | 12 s (CPU) | 5,000,000 | 100 | CPU | 1.00 GiB | 232 min | 2.02 |" in page
    assert "- theirs: one NVIDIA RTX A6000 48 GB, OPT-6.7B" in page
