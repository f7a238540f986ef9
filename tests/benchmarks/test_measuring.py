"""Scripts that measure systems, on a tiny run: what they write can be read again, and figures are those of the ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.figures import estimates, user_values
from benchmarks.rank_files import NOT_ASKED, Asked, as_ranks, asked_in
from benchmarks.tables import cells_of, read_table, table_ranks
from tiny_world import TinyWorld

from allmrec.core.artifacts import read_json, write_json
from allmrec.data.build import read_table as read_rows
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from benchmarks import backbones, quality, systems, titles


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


def test_cells_of_systems_become_a_table(run: Run, tmp_path: Path) -> None:
    path, data = tmp_path / "tiny.json", run.path.parent / "data"
    for name in ("popularity", "backbone"):
        systems.cell(run.path, name, path, [], users=10, cold_users=3)
    setting = {"data": str(data), "candidates": 20, "seed": 0, "users": 10, "cold_users": 3}
    write_json(path, read_table(path) | {"setting": setting})
    before = cells_of(read_table(path))
    systems.collect(path, ["popularity"])
    table = read_table(path)
    assert cells_of(table) == before
    assert {cell["command"] for cell in before.values()} == {before["backbone"]["command"]}
    protocol, groups = systems.protocol_of(run.dataset, 20, 0, 10, 3)
    assert table["protocol"] == Asked.of(protocol).named()
    ranks = table_ranks(path, Asked.of(protocol))
    rows = {row["key"]: row for row in table["rows"]}
    assert set(rows) == set(ranks) == {"popularity", "backbone"}
    asked = as_ranks(ranks["backbone"])[groups["all users"]]
    assert rows["backbone"]["figures"]["all users"] == estimates(user_values([asked]), protocol.hash)
    assert list(rows["backbone"]["differences"]) == ["popularity"]
    assert rows["popularity"]["differences"] == {}


def test_a_table_of_another_setting_is_not_added_to(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    setting = {"users": 10, "config": run.config.model_dump(mode="json")}
    systems.check_setting(path, setting)
    systems.cell(run.path, "popularity", path, [], users=10, cold_users=3)
    write_json(path, read_table(path) | {"setting": setting})
    systems.check_setting(path, setting)
    with pytest.raises(SystemExit, match=r"differing are users\."):
        systems.check_setting(path, setting | {"users": 11})


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


def test_a_report_and_its_ranks_are_apart(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "RESULTS", tmp_path)
    given(monkeypatch, quality, run.path, "--name", "tiny", "--systems", "popularity,backbone")
    table = read_table(tmp_path / "tiny.json")
    ranks = table_ranks(tmp_path / "tiny.json", asked_in(tmp_path / "tiny.npz"))
    assert table["protocol"]["hash"] == table["report"]["protocol_hash"]
    for system in table["report"]["systems"]:
        assert not {"users", "ranks"} & set(system)
        assert system["n_users"] == 6
        hits = as_ranks(ranks[system["name"]]) == 1
        assert system["metrics"]["Hit@1"]["value"] == pytest.approx(hits.mean())
    assert set(table["logs"]["tune"]["records"]) >= {"step"}


def test_jobs_of_cf_models_become_a_table(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Popularity twice, as if it drew something, so that two seeds are joined."""
    monkeypatch.setattr(backbones, "RESULT", tmp_path / "result.json")
    backbones.run([run.path.parent / "data"], ["popularity", "ease"], 1, tmp_path / "jobs")
    job = read_json(tmp_path / "jobs" / "data" / "popularity-0.json")
    other = job | {"ranks": [1] * 24}
    write_json(tmp_path / "jobs" / "data" / "popularity-1.json", other)
    backbones.collect(tmp_path / "jobs")
    popularity, ease = read_table(tmp_path / "result.json")["cells"]
    assert (popularity["system"], popularity["seeds"], popularity["users"]) == ("Popularity", 2, 24)
    hits = np.mean([rank == 1 for rank in job["ranks"]])
    few = popularity["figures"]["20 candidates"]["Hit@1"]
    assert few[0] == pytest.approx((hits + 1) / 2)
    assert [seed["20 candidates"]["Hit@1"][0] for seed in popularity["by_seed"]] == pytest.approx([hits, 1])
    assert popularity["deviations_of_seeds"]["20 candidates"]["Hit@1"] == pytest.approx((1 - hits) / 2)
    assert ease["deviations_of_seeds"]["whole catalogue"] == {"Hit@1": 0.0, "NDCG@10": 0.0, "Hit@10": 0.0}
