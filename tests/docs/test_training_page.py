"""The programs of docs/training.md run as they stand, on a tiny world."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_world import TinyWorld

import allmrec
from allmrec import library
from allmrec.core.artifacts import read_json
from allmrec.data.build import read_table
from tests.docs.conftest import ROOT, blocks


def test_the_programs_run(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    load = library.load_recipe

    def tiny(name: str, changes: dict[str, object]) -> object:
        load(name, changes)
        return load(str(tiny_world.recipe), changes)

    monkeypatch.setattr(library, "load_recipe", tiny)
    data = read_table(tiny_world.interactions, tiny_world.items)
    watch, later = blocks(ROOT / "docs" / "training.md", "python")
    names = {"dataset": data, "newer": data}
    exec(watch, names)  # noqa: S102  # our own page
    said = capsys.readouterr().out
    for stage in ("pretrain", "reference", "align", "tune"):
        assert f"begins: {stage}\n" in said
        assert f"ends: {stage} " in said
    assert "ndcg@10" in said
    allmrec.train(data, "runs/shop", "cpu")
    exec(later, names)  # noqa: S102  # our own page
    assert read_json(Path("runs/later/run.json"))["start"]["run"] == str(Path("runs/shop").resolve())
