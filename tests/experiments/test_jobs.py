"""Cells as jobs: done once, shared stages, a kill, a failure; and systems asked about another data set."""

from __future__ import annotations

import json
import re
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import call, fails
from tests.support.forked import Forked
from tiny_world import TinyWorld

from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data.catalogue import Catalogue
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation.genres import genre_scores, item_genres
from allmrec.evaluation.rank_files import MISS, NOT_ASKED, Kept
from allmrec.experiments.answers import Ranks, Words
from allmrec.experiments.cells import cells_of
from allmrec.experiments.cross_domain import across
from allmrec.experiments.found import read_experiment
from allmrec.experiments.html import page
from allmrec.experiments.job import do_cell
from allmrec.experiments.markdown import markdown
from allmrec.experiments.plan import Plan, load_plan
from allmrec.experiments.provenance import BESIDE, device_name
from allmrec.experiments.record import Record
from allmrec.experiments.results import CellResult, Results
from allmrec.experiments.scenario_config import CrossDomainConfig
from allmrec.experiments.scenarios import situation
from allmrec.experiments.scheduler import all_cells
from allmrec.experiments.stage_store import StageStore
from allmrec.pipeline.run import Run
from allmrec.recipes.files import load_recipe
from allmrec.stages.cf import PRETRAIN
from allmrec.systems.registry import train_systems
from allmrec.testing.worlds import taste_world, title_world

PLAN = """
title = "Mine"
recipe = "{recipe}"
systems = {systems}
users = 20
{more}

[data.shop]
source = "table"
options = {{ interactions = "{interactions}", items = "{items}" }}
"""


def write_plan(folder: Path, world: TinyWorld, systems: str, more: str = "") -> Path:
    path = folder / "plan.toml"
    text = PLAN.format(
        recipe=world.recipe, systems=systems, more=more, interactions=world.interactions, items=world.items
    )
    path.write_text(text)
    return path


@pytest.mark.parametrize(("beside", "said"), [(None, ""), ("1", ""), ("4", ", 4 cells at a time")])
def test_a_cell_says_how_many_shared_its_machine(
    beside: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BESIDE, raising=False)
    if beside is not None:
        monkeypatch.setenv(BESIDE, beside)
    assert re.fullmatch(rf"\w+ CPU, \d+ threads?{said}", device_name("cpu"))


@pytest.mark.usefixtures("forked_cells")
def test_a_plan_is_measured_once_and_a_changed_cell_alone_again(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan, folder = write_plan(tmp_path, tiny_world, '["popularity", "item-knn"]'), tmp_path / "out"
    made = call("experiment", plan, "-o", folder)
    assert made.exit_code == 0, made.output
    assert "2 cells, 0 done already" in made.stdout
    assert (folder / "report.html").is_file()
    assert not list((folder / "work").iterdir())
    found = read_experiment(folder)
    assert [one.about["name"] for one in found.done] == ["Popularity", "ItemKNN"]
    assert all(one.about["costs"]["peak_memory"] > 1e7 for one in found.done)
    times = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.npz")}
    write_plan(
        tmp_path, tiny_world, '["popularity", "item-knn"]', 'changes = { "systems.item-knn" = { neighbours = 3 } }'
    )
    again = call("experiment", plan, "-o", folder)
    assert "2 cells, 1 done already" in again.stdout
    written = {
        path.name for path in (folder / "cells").glob("*.npz") if path.stat().st_mtime_ns != times.get(path.name)
    }
    assert written == {f"{Record.read(folder).keys['shop.standard.0.base.item-knn'][:24]}.npz"}
    # Without a plan the folder's own goes on.
    assert "2 cells, 2 done already" in call("experiment", "-o", folder).stdout


def test_a_killed_experiment_goes_on(tiny_world: TinyWorld, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Its cells are new processes, as those of the command are."""
    plan, folder = write_plan(tmp_path, tiny_world, '["popularity", "backbone"]'), tmp_path / "out"
    process = Forked(["experiment", str(plan), "-o", str(folder)], tmp_path / "said.txt")
    there, deadline = lambda: list((folder / "cells").glob("*.npz")), time.monotonic() + 300
    while not there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    (first,) = there()
    process.kill()
    process.wait()
    written = first.stat().st_mtime_ns
    assert first.name == f"{Record.read(folder).keys['shop.standard.0.base.popularity'][:24]}.npz"
    assert there() == [first]
    time.sleep(1.5)  # the cell that was begun sees that whoever started it is gone
    request.getfixturevalue("forked_cells")
    again = call("experiment", plan, "-o", folder)
    assert again.exit_code == 0, again.output
    assert "2 cells, 1 done already" in again.stdout
    assert first.stat().st_mtime_ns == written
    assert len(read_experiment(folder).done) == 2


@pytest.mark.usefixtures("forked_cells")
def test_a_cell_that_fails_is_named_and_the_others_are_done(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, tiny_world, '["llm-only", "popularity"]', 'changes = { "llm.name" = "/nowhere/model" }')
    made = call("experiment", plan, "-o", tmp_path / "out")
    assert made.exit_code == 1
    assert "1 cells failed" in made.stdout
    found = read_experiment(tmp_path / "out")
    assert [one.cell.system for one in found.done] == ["popularity"]
    ((cell, why),) = found.failed.items()
    assert cell.system == "llm-only"
    assert "/nowhere/model" in why["message"]
    assert "/nowhere/model" in (tmp_path / "out" / "report.html").read_text()


def measured(folder: Path, world: TinyWorld, more: str, system: str, data: dict[str, Path]) -> CellResult:
    """A single cell, measured in this process."""
    values = {"title": "One", "recipe": str(world.recipe), "systems": [system], "users": 10}
    sets = {name: {"path": str(path)} for name, path in data.items()}
    plan = Plan.model_validate({**values, "data": sets, **tomllib.loads(more)})
    (cell,) = cells_of(plan)
    Record(plan, data, {cell.id: "0" * 64}, "allmrec experiment", None).write(folder)
    do_cell(folder, cell, "0" * 64, "cpu")
    (found,) = read_experiment(folder).done
    return found


def ranks_of(found: CellResult) -> Kept:
    assert isinstance(found.found, Ranks)
    return found.found.ranks


def test_a_cell_over_the_whole_catalogue(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    """The most popular come first, whatever the scenario; a target below the tenth place is missed."""
    found = measured(tmp_path, tiny_world, 'ask = "catalogue"', "popularity", {"shop": workplace / "data"})
    assert found.about["note"] == "retrieves from 36 items"
    assert set(np.unique(ranks_of(found))) <= {MISS, *range(1, 11)}
    assert (ranks_of(found) == MISS).any()


def test_a_cell_of_few_users_and_of_titles(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    """Eight users train; of those who are asked, a system that reads titles is asked about three."""
    more = 'title_users = 3\nscenarios.few = { kind = "few-shot", users = 8 }'
    found = measured(tmp_path, tiny_world, more, "allmrec-sbert", {"shop": workplace / "data"})
    assert (ranks_of(found) != NOT_ASKED).sum() == 3
    assert "the first 3 users" in found.about["note"]
    assert set(found.about["made_of"]) >= {"pretrain", "align", "tune"}
    assert found.about["costs"]["trained_parameters"] > 0
    seconds = found.about["stage_seconds"]
    assert seconds.keys() == found.about["made_of"].keys()
    assert sum(seconds.values()) == pytest.approx(found.about["costs"]["train_seconds"])
    assert set(found.about["trained_here"]) <= seconds.keys()
    assert found.about["trained_on"]["users"] == 8


def test_a_cell_of_a_system_that_is_asked_about_few(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    """Only the named system is cut, whether or not it reads titles; its users are the first of the others'."""
    more = "title_users = 9\nusers_of = { popularity = 4 }"
    few, most = (
        measured(tmp_path / system, tiny_world, more, system, {"shop": workplace / "data"})
        for system in ("popularity", "item-knn")
    )
    asked = np.flatnonzero(ranks_of(few) != NOT_ASKED)
    assert asked.tolist() == np.flatnonzero(ranks_of(most) != NOT_ASKED)[:4].tolist()
    assert (ranks_of(most) != NOT_ASKED).sum() > 4
    assert "the first 4 users" in few.about["note"]
    assert "the first" not in most.about["note"]


def test_a_cell_across_domains(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    title_world(users=12, length=4).save(tmp_path / "other")
    data = {"shop": workplace / "data", "other": tmp_path / "other"}
    found = measured(
        tmp_path / "out", tiny_world, 'scenarios.across = { kind = "cross-domain" }', "text-similarity", data
    )
    assert found.cell.data == "shop"
    assert len(ranks_of(found)) == 10
    assert "other/" not in json.dumps(found.about)


def with_genres() -> InteractionDataset:
    """Three tastes, each with a genre of its own beside the one of all."""
    data = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    taste = {int(item): user % 3 for user in range(data.n_users) for item in data.sequence(user)}
    genres = ((), *((("Comedy", "Drama", "War")[taste.get(n, 0)], "Film") for n in range(1, data.n_items + 1)))
    return replace(data, catalogue=Catalogue(data.catalogue.titles, data.catalogue.descriptions, genres))


GENRES = """
title = "Words"
recipe = "{recipe}"
ask = "genres"
users = 6
reference = "allmrec"
systems = ["allmrec", "llm-only"]
changes = {{ "answer.explain.max_new_tokens" = 4, "tune.title_weight" = 1.0 }}
data.shop.path = "{data}"

[variants.exchanged]
exchanged_vectors = true
systems = ["allmrec"]
title = "vectors exchanged"

[[claims]]
text = "LLM-Only names nothing"
better = "llm-only"
metric = "genres of the item, named"
says = "not above"
"""


def test_cells_that_ask_for_genres(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """Everyone says something of each item and user, and what they say is scored; stages are shared."""
    data, folder = with_genres(), tmp_path / "out"
    data.save(tmp_path / "data")
    plan = tmp_path / "plan.toml"
    plan.write_text(GENRES.format(recipe=tiny_world.recipe, data=tmp_path / "data"))
    wanted = load_plan(str(plan))
    waiting = all_cells(wanted, {"shop": tmp_path / "data"})
    keys = {one.cell.id: one.key for one in waiting}
    Record(wanted, {"shop": tmp_path / "data"}, keys, "allmrec experiment", None).write(folder)
    for one in waiting:
        do_cell(folder, one.cell, one.key, "cpu")
    found = read_experiment(folder)
    words = {one.cell.row: one.found for one in found.done}
    assert list(words) == ["allmrec", "llm-only", "exchanged/allmrec"]
    (section,) = found.sections
    items = leave_one_out(data).test[section.rows[0].asked.users]
    right = item_genres(items.tolist(), data.catalogue)
    for row, said in words.items():
        assert isinstance(said, Words), row
        assert len(said.of_items) == len(said.of_users) == 6
        again = genre_scores(said.of_items, right, data.catalogue)
        assert said.values("genres of the item").tolist() == again.precision.tolist()
    about = {one.cell.row: one.about for one in found.done}
    assert about["allmrec"]["made_of"] == about["exchanged/allmrec"]["made_of"]
    assert len({one.key for one in waiting}) == 3
    assert about["allmrec"]["users_there"] == 24
    assert [row.title for row in section.rows] == ["A-LLMRec", "LLM-Only", "A-LLMRec, vectors exchanged"]
    assert len(section.claims) == 1
    assert "6 of 24 users were asked" in markdown([found])


def test_data_without_genres_are_refused_before_anything_is_trained(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    text = GENRES.format(recipe=tiny_world.recipe, data=tmp_path / "data")
    taste_world(users=24, tastes=3, items_per_taste=12, length=6).save(tmp_path / "data")
    plan.write_text(text)
    assert "The data shop know no genres" in fails("experiment", plan, "-o", tmp_path / "out")
    assert not (tmp_path / "out" / "cells").exists()
    plan.write_text(text.replace('"llm-only"]', '"llm-only", "ease"]'))
    assert "ease speaks no words" in fails("experiment", plan, "-o", tmp_path / "out")
    plan.write_text(text.replace('true\nsystems = ["allmrec"]', 'true\nsystems = ["allmrec", "llm-only"]'))
    assert "llm-only has no vectors that could be exchanged" in fails("experiment", plan, "-o", tmp_path / "out")


def test_a_cell_with_histories_shuffled(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """Popularity reads no history and loses nothing; both rows of ranks are kept."""
    taste_world(users=24, tastes=3, items_per_taste=12, length=6).save(tmp_path / "data")
    found = measured(tmp_path / "out", tiny_world, "order_test = true", "popularity", {"shop": tmp_path / "data"})
    assert isinstance(found.found, Ranks)
    assert found.found.shuffled is not None
    assert found.found.values("MRR lost by shuffling").tolist() == [0.0] * 10
    assert "NDCG@10 lost by shuffling" in page([read_experiment(tmp_path / "out")])


def test_mistakes_are_answered_in_a_line(tiny_world: TinyWorld, tmp_path: Path) -> None:
    assert "Where to?" in fails("experiment", "table1")
    assert "is a folder; expected a TOML file" in fails("experiment", tmp_path, "-o", tmp_path / "x")
    assert "Which plan?" in fails("experiment", "--show")
    assert "Which plan?" in fails("experiment", "--show", "-o", tmp_path)
    assert "names no data" in fails("experiment", "table1", "-o", tmp_path / "x")
    assert "is no experiment yet" in fails("experiment", "-o", tmp_path / "x")
    assert "is no prepared data" in fails("experiment", "table1", "--data", tmp_path, "-o", tmp_path / "x")
    assert "expected whole numbers" in fails("experiment", "table1", "--seeds", "a", "-o", tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    plan = write_plan(tmp_path, tiny_world, '["popularity"]')
    assert "exists and is no experiment" in fails("experiment", plan, "-o", tmp_path / "mine")
    assert "has no ''; its rows are popularity" in fails("experiment", plan, "--systems", "", "-o", tmp_path / "x")
    (tmp_path / "file").write_text("")
    message = fails("experiment", plan, "-o", tmp_path / "x", "--stages", tmp_path / "file")
    assert message.endswith("is no folder. Give another place with --stages.")
    (tmp_path / "my data").mkdir()
    message = fails("experiment", "table1", "--data", tmp_path / "my data", "-o", tmp_path / "x")
    assert "'my data' cannot be one: expected letters of English" in message
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert "has neither experiment.json" in fails("compare", tmp_path, tmp_path)


def test_the_list_and_a_plan_as_it_stands() -> None:
    listed = call("experiment", "--list").stdout
    assert "Table 4 and Figure 1: cold and warm items" in listed
    # One short line a run, which a terminal of 80 columns need not break.
    assert all(len(line.rstrip()) <= 80 for line in listed[: listed.index("cells: for each")].splitlines())
    assert re.search(r" on movietweetings: [\d,]+ min", listed)
    assert 'kind = "cold-items"' in call("experiment", "table4", "--show").stdout


def test_a_plan_of_ones_own_is_checked_before_anything_is_measured(tmp_path: Path) -> None:
    plan = tmp_path / "mine.toml"
    plan.write_text('title = "Mine"  # of today\nsystems = ["backbone"]\n\n[data.shop]\npath = "shop"\n')
    assert call("experiment", str(plan), "--show").stdout == plan.read_text()
    plan.write_text('title = "Mine"\nsystem = ["backbone"]\n')
    refused = fails("experiment", str(plan), "--show")
    assert "mine.toml" in refused
    assert "system" in refused


def test_a_stage_is_trained_once_for_all_runs(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    data, config = InteractionDataset.load(workplace / "data"), load_recipe(str(tiny_world.recipe))
    store, said = StageStore(tmp_path / "stages"), []
    first = Run.create(tmp_path / "first", data, config)
    assert store.train(first, ["backbone"], said.append) == ["pretrain", "reference"]
    # Another answer's settings: no stage is another one.
    second = Run.create(tmp_path / "second", data, config.changed({"answer.batch_size": 2}))
    assert store.train(second, ["backbone"], said.append) == []
    assert second.path.joinpath("pretrain", "weights.safetensors").samefile(
        first.path / "pretrain" / "weights.safetensors"
    )
    assert "pretrain: shared with other cells" in said
    # What is damaged here is trained again, and the damage goes nowhere.
    (key,) = {path.name for path in (tmp_path / "stages").iterdir() if path.name == second.stage(PRETRAIN).key}
    broken = tmp_path / "stages" / key / "weights.safetensors"
    broken.unlink()
    broken.write_bytes(b"no weights")
    third = Run.create(tmp_path / "third", data, config)
    assert store.train(third, ["backbone"], said.append) == ["pretrain"]
    assert not third.folder.damaged(third.stage(PRETRAIN))
    assert key in store


@pytest.mark.parametrize("name", ["fingerprints.json", "log.json", "manifest.json", "weights.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\x00\xff{"])
def test_a_stage_that_is_not_whole_in_the_store_is_trained_again(
    name: str, content: bytes | None, tiny_world: TinyWorld, workplace: Path, tmp_path: Path
) -> None:
    data, config = InteractionDataset.load(workplace / "data"), load_recipe(str(tiny_world.recipe))
    store = StageStore(tmp_path / "stages")
    stage = Run.create(tmp_path / "first", data, config).stage(PRETRAIN)
    store.train(Run.create(tmp_path / "first", data, config), ["backbone"], print)
    file = tmp_path / "stages" / stage.key / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    again = Run.create(tmp_path / "second", data, config)
    assert store.train(again, ["backbone"], print) == ["pretrain"]
    assert not again.folder.damaged(stage)
    assert store.train(Run.create(tmp_path / "third", data, config), ["backbone"], print) == []


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"kind": "allmrec experiment", "format": 1}', "plan", "data", "keys", "stages"]
)
def test_a_damaged_record_is_written_anew_where_the_plan_is_given(
    damage: str, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    """As its message advises; what is done is found again."""
    plan, out = write_plan(tmp_path, tiny_world, '["popularity"]'), tmp_path / "out"
    assert call("experiment", plan, "-o", out).exit_code == 0
    whole = json.loads((out / "experiment.json").read_text())
    (out / "experiment.json").write_text(json.dumps(whole | {damage: {"a": 3}}) if damage in whole else damage)
    assert str(out / "experiment.json") in fails("experiment", "-o", out)
    again = call("experiment", plan, "-o", out)
    assert again.exit_code == 0, again.output
    assert "1 cells, 1 done already" in again.stdout
    assert "is damaged and is written anew" in " ".join(again.stdout.split())


@pytest.mark.parametrize("content", ["", "{}", '{"kind": "other"}', '{"kind": "allmrec experiment", "format": 2}'])
def test_a_file_of_that_name_that_is_not_ours_stays(content: str, tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan, out = write_plan(tmp_path, tiny_world, '["popularity"]'), tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    (out / "experiment.json").write_text(content)
    assert str(out / "experiment.json") in fails("experiment", plan, "-o", out)
    assert (out / "experiment.json").read_text() == content


@pytest.mark.usefixtures("forked_cells")
def test_two_experiments_share_folders_of_stages_and_results(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, tiny_world, '["backbone"]')
    shared = ("--stages", tmp_path / "stages", "--results", tmp_path / "results")
    said = [call("experiment", plan, "-o", tmp_path / name, *shared) for name in ("first", "second")]
    assert [made.exit_code for made in said] == [0, 0], said[-1].output
    assert "1 cells, 0 done already" in said[0].stdout
    assert "1 cells, 1 done already" in said[1].stdout
    for name in ("first", "second"):
        assert {path.name for path in (tmp_path / name).iterdir()} <= OWN
    assert len(list((tmp_path / "results" / "cells").glob("*.npz"))) == 1
    # Another number of candidates is another cell, of the same stages.
    other = write_plan(tmp_path, tiny_world, '["backbone"]', "candidates = 5")
    made = call("experiment", other, "-o", tmp_path / "third", *shared)
    assert made.exit_code == 0, made.output
    log = "".join(path.read_text("utf-8") for path in (tmp_path / "third" / "logs").glob("*.log"))
    assert "pretrain: shared with other cells" in log
    # Named once, they are known from then on.
    again = call("experiment", other, "-o", tmp_path / "third", "--seeds", "0,1")
    assert again.exit_code == 0, again.output
    assert {path.name for path in (tmp_path / "third").iterdir()} <= OWN
    assert len(list((tmp_path / "results" / "cells").glob("*.npz"))) == 3
    # One that was begun while another measured the same.
    waits = Record.read(tmp_path / "second").keys["shop.standard.0.base.backbone"]
    do_cell(tmp_path / "second", read_experiment(tmp_path / "second").done[0].cell, waits)


# What lies in the folder of an experiment whose stages and results are elsewhere.
OWN = {"data", "experiment.json", "report.html", "report.md", "logs", "work", ".lock"}


@pytest.mark.usefixtures("forked_cells")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_cell_that_another_plan_measured_is_taken_if_it_is_whole(
    tiny_world: TinyWorld, tmp_path: Path, damaged: bool
) -> None:
    plan = write_plan(tmp_path, tiny_world, '["popularity"]')
    shared = ("--results", tmp_path / "results")
    assert call("experiment", plan, "-o", tmp_path / "first", *shared).exit_code == 0
    first = read_experiment(tmp_path / "first").done[0]
    if damaged:
        next((tmp_path / "results" / "cells").glob("*.npz")).write_bytes(b"damaged")
    renamed = tmp_path / "renamed.toml"
    text = plan.read_text().replace("data.shop", "data.store").replace('systems = ["popularity"]', "systems = []")
    renamed.write_text(text.replace("users = 20", "users = 20\n[variants.again]\nsystems = ['popularity']\n"))
    made = call("experiment", renamed, "-o", tmp_path / "second", *shared)
    assert made.exit_code == 0, made.output
    second = read_experiment(tmp_path / "second").done[0]
    assert second.cell.id == "store.standard.0.again.popularity"
    assert isinstance(first.found, Ranks)
    assert isinstance(second.found, Ranks)
    assert np.array_equal(first.found.ranks, second.found.ranks)
    assert second.about["config"] == first.about["config"]
    measured = (tmp_path / "second" / "logs" / f"{second.cell.id}.log").exists()
    assert measured == damaged
    # Whole again for the first, too.
    assert read_experiment(tmp_path / "first").done[0].about["date"] == second.about["date"]


@pytest.mark.usefixtures("forked_cells")
def test_equal_cells_are_measured_once_though_several_wait(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, tiny_world, '["popularity"]', "seeds = [0, 1]")
    made = call("experiment", plan, "-o", tmp_path / "out", "--jobs", "2")
    assert made.exit_code == 0, made.output
    said = [path.read_text("utf-8") for path in (tmp_path / "out" / "logs").glob("*.log")]
    assert ["measured already" in text for text in said].count(True) == 1
    assert {path.suffix for path in (tmp_path / "out" / "cells").iterdir()} == {".npz"}, "no lock is left"
    assert len(read_experiment(tmp_path / "out").done) == 2


@pytest.mark.usefixtures("forked_cells")
def test_results_that_cannot_be_kept_or_are_gone_are_named(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan, out = write_plan(tmp_path, tiny_world, '["popularity"]'), tmp_path / "out"
    (tmp_path / "file").write_text("")
    message = fails("experiment", plan, "-o", out, "--results", tmp_path / "file")
    assert "Results cannot be kept in" in message
    assert call("experiment", plan, "-o", out, "--results", tmp_path / "results").exit_code == 0
    page = (out / "report.md").read_text("utf-8")
    # Elsewhere the results are not beside it.
    (tmp_path / "results").rename(tmp_path / "moved")
    message = fails("experiment", "--report", "-o", out)
    assert "which is not there" in message
    assert (out / "report.md").read_text("utf-8") == page
    # Named anew they are found, and it is said where those of before would be.
    again = call("experiment", plan, "-o", out, "--results", tmp_path / "moved")
    assert "1 cells, 1 done already" in again.stdout
    assert "Results of before stay in" in again.stdout
    # A folder of the layout of before is not shown as one with nothing done.
    for path in (tmp_path / "moved" / "cells").iterdir():
        path.unlink()
    (tmp_path / "moved" / "cells" / "shop.standard.0.base.popularity.json").write_text("{}")
    assert "an earlier version" in fails("experiment", "--report", "-o", out)


@pytest.mark.usefixtures("forked_cells")
def test_what_no_experiment_names_is_removed(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, tiny_world, '["popularity", "item-knn"]', "candidates = 5")
    shared = ("--results", tmp_path / "results")
    assert call("experiment", plan, "-o", tmp_path / "out", *shared).exit_code == 0
    other = write_plan(tmp_path, tiny_world, '["popularity"]', "candidates = 7\nseeds = [0, 1]")
    assert call("experiment", other, "-o", tmp_path / "other", *shared).exit_code == 0
    results, kept = Results(tmp_path / "results"), Record.read(tmp_path / "other").keys

    def files() -> int:
        return sum(path.suffix in (".npz", ".json") for path in (tmp_path / "results").rglob("*"))

    before = files()
    assert results.keep_only(kept.values(), 0) == 2
    assert files() < before
    # Popularity is the same with every seed.
    first, second = read_experiment(tmp_path / "other").done
    assert first.about == second.about
    assert "Popularity: the same with every seed, and measured once." in (tmp_path / "other" / "report.md").read_text()
    assert results.asked(first).users.tolist()
    assert results.keep_only(kept.values(), 0) == 0
    # What is young may be of a cell that is being written.
    assert results.keep_only([]) == 0
    assert len(read_experiment(tmp_path / "other").done) == 2
    (cell,) = (tmp_path / "results" / "cells").glob("*.npz")
    whole = cell.read_bytes()
    cell.write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="remove the file to measure again"):
        results.keep_only(kept.values(), 0)
    cell.write_bytes(whole)
    assert results.keep_only([], 0) == 1
    assert files() == 0


def test_systems_asked_about_another_data_set(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    """They rank its items by its numbers, and the same titles in other places are ranked alike."""
    own, other = InteractionDataset.load(workplace / "data"), title_world(users=12, length=4)
    changes = {
        "systems.text-tower": {"training": {"epochs": 1, "batch_size": 16}},
        "systems.tallrec": {"training": {"epochs": 1, "batch_size": 8}, "samples_per_epoch": 8},
    }
    run = Run.create(tmp_path / "run", own, load_recipe(str(tiny_world.recipe), changes))
    systems = ["allmrec-select-sbert", "text-similarity", "text-tower", "llm-only", "tallrec"]
    train_systems(run, systems, lambda line: None)
    asking = situation(CrossDomainConfig(), own, 0, users=6, candidates=5, other=other).asking
    queries, candidates = asking.protocol.queries(asking.split), list(asking.protocol.candidates)
    for name in systems:
        found = across(run, name, other).ranker.rank(queries, candidates)
        for ranking, items in zip(found, candidates, strict=True):
            assert sorted(ranking.items.tolist()) == sorted(items.tolist()), name
            assert np.isfinite(ranking.scores).all()
    similar = across(run, "text-similarity", other).ranker.rank(queries, candidates)
    tower = across(run, "text-tower", other).ranker.rank(queries, candidates)
    assert any(a.items.tolist() != b.items.tolist() for a, b in zip(similar, tower, strict=True))
    with pytest.raises(ConfigError, match="backbone cannot be asked about items of another data set"):
        across(run, "backbone", other)


def test_the_record_says_what_was_measured(tiny_world: TinyWorld, tmp_path: Path) -> None:
    plan = load_plan(str(write_plan(tmp_path, tiny_world, '["popularity"]')))
    record = Record(plan, {"shop": tmp_path}, {"shop.standard.0.base.popularity": "key"}, "allmrec experiment", None)
    record.write(tmp_path / "out")
    assert Record.read(tmp_path / "out") == record
    assert record.stages_in(tmp_path / "out") == tmp_path / "out" / "stages"
    assert record.results_in(tmp_path / "out") == tmp_path / "out"
    shared = replace(record, stages=tmp_path / "stages", results=tmp_path / "results")
    shared.write(tmp_path / "out")
    assert Record.read(tmp_path / "out") == shared
    assert str(tmp_path) not in (tmp_path / "out" / "experiment.json").read_text("utf-8")
    assert Results(tmp_path / "out").read(cells_of(plan)[0], "key") is None
