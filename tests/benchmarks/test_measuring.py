"""Scripts that measure systems, on a tiny run: what they write can be read again, and figures are those of the ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.figures import estimates, user_values
from benchmarks.rank_files import NOT_ASKED, as_ranks, asked_in
from benchmarks.tables import read_table, table_ranks
from tiny_world import TinyWorld

from allmrec.data.build import read_table as read_rows
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from benchmarks import titles


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("measuring")
    data = read_rows(tiny_world.interactions, tiny_world.items)
    data.save(folder / "data")
    made = Run.create(folder / "run", data, load_recipe(str(tiny_world.recipe)))
    made.train()
    return made


def given(monkeypatch: pytest.MonkeyPatch, script: Any, *arguments: object) -> None:
    """Run a script with these arguments."""
    monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
    script.main()


def test_cells_of_titles_become_a_table(
    run: Run, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = run.path.parent / "data", tmp_path / "tiny.json"
    for seed in (0, 1):
        given(monkeypatch, titles, "cell", data, "--name", "tiny", "--cell", f"seed-{seed}", "--recipe",
              tiny_world.recipe, "--set", f"seed={seed}", "--run", tmp_path / f"run-{seed}", "--ask", "backbone,popularity",
              "--slow", "popularity", "--few", 5, "--results", tmp_path)  # fmt: skip
    given(monkeypatch, titles, "table", data, "--name", "tiny", "--results", tmp_path)
    table = read_table(path)
    assert [(row["cell"], row["key"]) for row in table["rows"]] == [
        ("seed-0", "backbone"),
        ("seed-0", "popularity"),
        ("seed-1", "backbone"),
        ("seed-1", "popularity"),
        ("2 seeds", "backbone"),
        ("2 seeds", "popularity"),
    ]
    everybody = [row["figures"]["all"] for row in table["rows"]]
    assert [found["users"] for found in everybody] == [24, 5, 24, 5, 24, 5]
    assert ["less reference" in found for found in everybody] == [False, True, False, True, False, True]
    ranks = table_ranks(path, asked_in(path.with_suffix(".npz")))
    both = [as_ranks(ranks[f"seed-{seed}/backbone"]) for seed in (0, 1)]
    assert everybody[4] == {"users": 24} | estimates(user_values(both), "titles")
    assert np.flatnonzero(ranks["seed-0/popularity"] != NOT_ASKED).tolist() == [0, 1, 2, 3, 4]
    before = path.read_bytes()
    given(monkeypatch, titles, "cell", data, "--name", "tiny", "--cell", "seed-0", "--results", tmp_path)
    assert path.read_bytes() == before
