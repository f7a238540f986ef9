"""docs/results.md is what the result files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.conftest import ROOT, program

GENERATOR = program(ROOT / "docs" / "generate_results.py")


def test_the_page_is_what_the_result_files_say() -> None:
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == GENERATOR.page(), "run: python docs/generate_results.py"


def test_every_set_and_system_stands_there() -> None:
    page = GENERATOR.page()
    for name in ("movietweetings", "beauty", "games", "SASRec", "GRU4Rec", "NextItNet", "NCF", "Late fusion"):
        assert name in page


def test_cells_without_figures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATOR, "RESULTS", tmp_path)
    (tmp_path / "beauty.json").write_text(json.dumps({"common": {}, "cells": {"ease": {"system": "EASE"}}}))
    with pytest.raises(SystemExit, match=r"beauty\.json has cells and no figures"):
        GENERATOR.page()
