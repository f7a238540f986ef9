"""Cells of several plans in one pool of processes."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from tests.support.forked import Forked
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


def run(queue: Path, folder: Path, *more: str) -> str:
    """What the program prints that does the cells of a list."""
    said = folder / "said.txt"
    said.write_text("")
    words = ["run", str(queue), "--results", str(folder / "results"), *more]
    assert Forked(words, said, program="benchmarks.experiment_pool").wait() == 0, said.read_text()
    return said.read_text()


@pytest.mark.slow
def test_a_pool_does_what_is_not_done(queue: Path, tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "found.tgz"
    assert "6 done" not in run(queue, tmp_path, "--minutes", "0")
    assert "6 done, 0 failed, 0 left" in run(queue, tmp_path, "--device", "cpu", "--out", str(out))
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
    assert "0 cells to do" in run(queue, tmp_path)


@pytest.mark.slow
def test_a_pool_starts_new_processes_where_it_is_told_to(queue: Path, tmp_path: Path) -> None:
    """Each imports the libraries anew, so there are only two cells."""
    wanted = experiment_pool.read_list(queue)[:2]
    write_json(queue, {"cells": wanted})
    assert "2 done, 0 failed, 0 left" in run(queue, tmp_path, "--device", "cpu", "--spawn")
    found = {(one.folder.name, cell.cell.id) for one in read_experiments(tmp_path / "results") for cell in one.done}
    assert found >= {(one["experiment"], one["cell"]) for one in wanted}
