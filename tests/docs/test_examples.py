"""The examples run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.cf import BACKBONES
from allmrec.core.packaged import find_packaged
from tests.docs.conftest import ROOT, program


@pytest.mark.slow
def test_quickstart_recommends_and_opens_its_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("smollm2-135m-instruct", "all-MiniLM-L6-v2"):
        if find_packaged(name) is None:
            pytest.skip(f"{name} is not installed; `make setup` does")
    program(ROOT / "examples" / "quickstart.py").main(tmp_path)
    said = capsys.readouterr().out
    history, *recommended = said.partition("After ")[2].partition("Popularity")[0].strip().splitlines()
    assert history == "All About Comets, All About Telescopes, All About Mars"
    assert len(recommended) == 5
    assert "A-LLMRec (generate)" in said
    assert "Opened again: All About " in said


@pytest.mark.slow
def test_own_backbone_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the example registers is taken out again at the end.
    monkeypatch.setitem(BACKBONES, "mean", BACKBONES["sasrec"])
    assert program(ROOT / "examples" / "own_backbone.py").main() > 0.8
