"""Cells of several plans in one pool of processes."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from allmrec.core.artifacts import write_json
from allmrec.data.build import read_table
from allmrec.experiments.found import read_experiments
from benchmarks import experiment_pool

CHEAP = ("popularity", "item-knn")


@pytest.fixture
def queue(tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of the cheap cells of two plans, their records beside it."""
    read_table(tiny_world.interactions, tiny_world.items).save(tmp_path / "data" / "tiny")
    cut = {"users": 10, "set": ["pretrain.training.epochs=1"]}
    wanted = {
        "options": {"users": 5000, "users_of": {}, "set": [], "seeds": [0], "seeds_of": {"ease": 1}},
        "cuts": {"small": cut},
        "experiments": {
            "table1-tiny": {"plan": "table1", "cut": "small", "data": ["tiny"], "seeds": [0, 1]},
            "ours-order": {"cut": "small", "data": ["tiny"]},
        },
    }
    monkeypatch.setattr(experiment_pool, "settings", lambda: wanted)
    monkeypatch.setattr(experiment_pool, "STAGES", tmp_path / "stages")
    path = tmp_path / "pool.json"
    experiment_pool.write_list(path, tmp_path / "results", tmp_path / "data")
    cells = experiment_pool.read_list(path)
    assert {one["cell"] for one in cells if one["experiment"] == "table1-tiny"} > {"tiny.standard.1.base.allmrec"}
    assert [one["long"] for one in cells if one["cell"].endswith(("allmrec", "popularity"))].count(True) == 4
    write_json(path, {"cells": [one for one in cells if one["cell"].endswith(CHEAP)]})
    return path


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--spawn"]])
def test_a_pool_does_what_is_not_done(queue: Path, tmp_path: Path, how: list[str]) -> None:
    results, out = tmp_path / "results", tmp_path / "found.tgz"
    words = [sys.executable, "-m", "benchmarks.experiment_pool", "run", str(queue), "--results", str(results), *how]

    def run(*more: str) -> str:
        return subprocess.run([*words, *more], capture_output=True, text=True, check=True).stdout

    assert "6 done" not in run("--minutes", "0")
    assert "6 done, 0 failed, 0 left" in run("--device", "cpu", "--out", str(out))
    found = read_experiments(results)
    assert {str(cell.about["device"]).partition(", 1 thread, ")[2] for one in found for cell in one.done} == {
        "2 cells at a time"
    }
    done = {one.folder.name: [cell.cell.id for cell in one.done] for one in found}
    assert done["table1-tiny"] == [f"tiny.standard.{seed}.base.{system}" for seed in (0, 1) for system in CHEAP]
    assert done["ours-order"] == [f"tiny.standard.0.base.{system}" for system in CHEAP]
    with tarfile.open(out) as archive:
        names = archive.getnames()
    (record,) = (one.record for one in found if one.folder.name == "table1-tiny")
    assert f"cells/{record.keys['tiny.standard.1.base.item-knn'][:24]}.npz" in names
    assert "table1-tiny/logs/tiny.standard.1.base.item-knn.log" in names
    # Popularity is trained with no seed: it is one cell for both seeds.
    assert len([name for name in names if name.startswith("cells/")]) == 5
    assert "0 cells to do" in run()
