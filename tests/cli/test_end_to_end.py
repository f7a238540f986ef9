"""From raw files to recommendations through the command line."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import call
from tiny_world import TinyWorld

from allmrec.core.errors import AllmrecWarning
from allmrec.core.visible import visible
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation import Report
from allmrec.recommend.allmrec import ALLMRec

STAGES = ["pretrain", "reference", "align", "tune"]


def heads(output: str) -> list[str]:
    """Each line up to the first figure: what a stage reports without its time."""
    return [line.split(" in ")[0] for line in output.splitlines()]


def test_preparing_shows_what_there_is_and_what_comes_next(tiny_world: TinyWorld, tmp_path: Path) -> None:
    result = call(
        "prepare", "table", "--interactions", tiny_world.interactions, "--items", tiny_world.items, "-o", tmp_path / "d"
    )
    assert result.exit_code == 0
    # Progress stands above the table where reading took long.
    row = next(line for line in result.stdout.splitlines() if line.startswith("│"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["24", "36", "144", "6.00", "16.667%", "1", "2"]
    assert f"Next: allmrec train {tmp_path / 'd'} -o runs/d" in result.stdout
    # The same files again give the same data in the same place.
    hashed = json.loads((tmp_path / "d" / "manifest.json").read_text())["content_hash"]
    call(
        "prepare", "table", "--interactions", tiny_world.interactions, "--items", tiny_world.items, "-o", tmp_path / "d"
    )
    assert json.loads((tmp_path / "d" / "manifest.json").read_text())["content_hash"] == hashed


def test_training_announces_each_stage_and_what_comes_next(workplace: Path) -> None:
    lines = heads((workplace / "trained.txt").read_text())
    assert lines == [*(f"{stage}: done" for stage in STAGES), f"Next: allmrec evaluate {workplace / 'run'}"]


def test_training_again_does_nothing(workplace: Path, tiny_world: TinyWorld) -> None:
    run = workplace / "run"
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*.safetensors")}
    there = [f"{stage}: there already, made of the same inputs" for stage in STAGES]
    for arguments in ([workplace / "data", "-o", run, "--recipe", tiny_world.recipe], [run]):
        result = call("train", *arguments)
        assert result.stdout.splitlines()[:-1] == there
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*.safetensors")} == before


def test_a_changed_field_trains_again_what_depends_on_it(copy: Path) -> None:
    result = call("train", copy, "--set", "tune.training.epochs=2")
    assert heads(result.stdout)[2:4] == ["align: there already, made of the same inputs", "tune: done"]
    assert json.loads((copy / "run.json").read_text())["config"]["tune"]["training"]["epochs"] == 2
    # The run remembers; nothing needs to be said twice.
    assert heads(call("train", copy).stdout)[3] == "tune: there already, made of the same inputs"


def test_stages_one_by_one_are_the_same_as_all_at_once(workplace: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = call("pretrain", workplace / "data", "-o", run, "--recipe", tiny_world.recipe)
    assert heads(first.stdout) == ["pretrain: done", "reference: done", f"Next: allmrec align {run}"]
    assert heads(call("align", run).stdout)[-2:] == ["align: done", f"Next: allmrec tune {run}"]
    assert heads(call("tune", run).stdout)[-2:] == ["tune: done", f"Next: allmrec evaluate {run}"]
    for stage in STAGES:
        files = [folder / stage / "weights.safetensors" for folder in (run, workplace / "run")]
        assert files[0].read_bytes() == files[1].read_bytes(), stage


def test_evaluating_prints_and_writes_one_report(copy: Path) -> None:
    result = call("evaluate", copy, "--users", "5", "--title-users", "2")
    assert result.exit_code == 0, result.output
    report = Report.load(copy / "report.json")
    users = {system.name: system.n_users for system in report.systems}
    assert len(users) == 11
    assert (users["Popularity"], users["A-LLMRec"], users["A-LLMRec (select)"]) == (5, 2, 5)
    for name in users:
        assert name in result.stdout
        assert name in (copy / "report.md").read_text()
    assert "Written: " in result.stdout
    # For one evaluation only: the run's own settings stay.
    assert json.loads((copy / "run.json").read_text())["config"]["evaluation"]["users"] == 6


def test_evaluating_twice_gives_the_same_figures(copy: Path) -> None:
    figures = []
    for _ in range(2):
        call("evaluate", copy, "--systems", "popularity, backbone,allmrec-select")
        figures.append([(s.name, s.users, s.ranks) for s in Report.load(copy / "report-selected.json").systems])
    assert figures[0] == figures[1]
    assert len(figures[0]) == 3


def test_recommending_for_a_user_shows_the_history_and_new_items(workplace: Path) -> None:
    result = call("recommend", workplace / "run", "--user", "u3", "--k", "4")
    assert result.exit_code == 0, result.output
    history, _, table = result.stdout.partition("┏")
    assert history.startswith("History (6 items), the latest 5:")
    assert table.count("Item ") + table.count("(no title)") == 4


def test_json_is_all_that_is_printed_and_holds_nothing_seen(workplace: Path, tiny_world: TinyWorld) -> None:
    rows = [line.split(",") for line in tiny_world.interactions.read_text().splitlines()[1:]]
    taken = [item for user, item, _ in rows if user == "u3"]
    by_user = call("recommend", workplace / "run", "--user", "u3", "--k", "4", "--json")
    answer = json.loads(by_user.stdout)
    found = answer["recommendations"]
    assert (answer["answered_by"], answer["note"], answer["skipped"]) == ("A-LLMRec (select)", "", [])
    assert len(found) == 4
    assert not {entry["item_id"] for entry in found} & set(taken)
    assert [entry["score"] for entry in found] == sorted((entry["score"] for entry in found), reverse=True)
    assert all(set(entry) == {"item_id", "title", "score"} for entry in found)
    # A history of a user's items is that user.
    by_history = call("recommend", workplace / "run", "--history", ", ".join(taken), "--k", "4", "--json")
    assert json.loads(by_history.stdout) == answer


def test_more_than_is_left_gives_what_is_left(workplace: Path) -> None:
    for more, left in ((), 34), (("--seen",), 36):
        result = call("recommend", workplace / "run", "--history", "i1,i2", "--k", "1000", "--json", *more)
        answer = json.loads(result.stdout)
        assert len(answer["recommendations"]) == left
        assert answer["note"] == f"{left} of 1000 items: no other was found that may be recommended."


def test_somebody_new_gets_popular_items_and_who_has_everything_a_word(workplace: Path, tiny_world: TinyWorld) -> None:
    shown = call("recommend", workplace / "run", "--history", "", "--k", "3")
    assert "Answered by Popularity. Nothing is known of a history, so the most popular items come." in " ".join(
        shown.output.split()
    )
    unknown = call("recommend", workplace / "run", "--history", "nothing", "--k", "3", "--skip-unknown", "--json")
    answer = json.loads(unknown.stdout)
    assert (answer["answered_by"], answer["skipped"]) == ("Popularity", ["nothing"])
    popular = call("recommend", workplace / "run", "--history", "", "--k", "3", "--json", "--system", "popularity")
    assert json.loads(popular.stdout)["recommendations"] == answer["recommendations"]
    everything = ",".join(InteractionDataset.load(workplace / "data").items.ids)
    assert "No item is left to recommend" in call("recommend", workplace / "run", "--history", everything).stderr


def test_options_of_their_own_name_the_common_changes(workplace: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    encoder = shutil.copytree(tiny_world.folder / "encoder", tmp_path / "encoder")
    result = call(
        "pretrain", workplace / "data", "-o", tmp_path / "run", "--recipe", tiny_world.recipe, "--seed", "3",
        "--words", "watch, watched,movie", "--encoder", encoder, "--backbone", "sasrec", "--llm", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (config["seed"], config["llm"]["name"], config["encoder"]["name"]) == (3, "mine", str(encoder))
    assert config["tune"]["prompt"]["template"]["words"] == {"verb": "watch", "past": "watched", "noun": "movie"}


def test_doctor_tells_of_packages_models_and_the_device() -> None:
    result = call("doctor")
    assert result.exit_code == 0
    for word in ("torch", "transformers", "device", "cache", "smollm2-135m-instruct", "movielens-100k"):
        assert word in result.stdout


def test_explaining_streams_what_the_language_model_says(workplace: Path) -> None:
    asked = ("recommend", workplace / "run", "--history", "i1,i2", "--k", "4")
    said = call(*asked, "--explain", "--explained", "2", "--about", "reason")
    assert said.exit_code == 0, said.output
    assert "In the language model's words (reason" in said.output
    rows = json.loads(call(*asked, "--explain", "--json").stdout)["recommendations"]
    assert ["genres" in row for row in rows] == [True, True, True, False]
    assert all(row["genres"] for row in rows[:3])


def test_what_is_said_of_the_user_is_streamed_and_marked(workplace: Path) -> None:
    asked = ("recommend", workplace / "run", "--user", "u3", "--k", "2", "--profile")
    said = call(*asked)
    assert said.exit_code == 0, said.output
    line = "This user's genres in the language model's words (it was not taught to say them, and may be wrong):"
    before, found, after = said.output.partition(line)
    assert "┏" in before
    assert found
    both = json.loads(call(*asked, "--explain", "--explained", "1", "--json").stdout)
    assert list(both) == ["answered_by", "note", "skipped", "profile", "recommendations"]
    assert both["profile"]
    assert visible(both["profile"], lines=True).split() == after.split()
    assert ["genres" in row for row in both["recommendations"]] == [True, False]


def test_nothing_is_explained_unasked(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(ALLMRec, "explain", lambda self, query, item, *how: asked.append(item) or iter(()))
    monkeypatch.setattr(ALLMRec, "profile", lambda self, query, *how, **more: asked.append("user") or iter(()))
    for form in ((), ("--json",)):
        assert call("recommend", workplace / "run", "--history", "i1,i2", "--k", "4", *form).exit_code == 0
    assert asked == []


def test_unknown_items_of_a_history_are_named_and_can_be_left_out(workplace: Path) -> None:
    asked = ("recommend", workplace / "run", "--history", "i1,nothing", "--k", "4")
    assert "'nothing'" in call(*asked).stderr
    left = call(*asked, "--skip-unknown")
    assert "Left out, not in the catalogue: nothing" in left.output


def test_the_whole_catalogue_is_evaluated(workplace: Path) -> None:
    result = call("evaluate", workplace / "run", "--catalogue")
    assert result.exit_code == 0, result.output
    assert "the whole catalogue" in (workplace / "run" / "report-catalogue.md").read_text()
    assert call("evaluate", workplace / "run", "--catalogue", "--systems", "popularity").exit_code == 0
    found = json.loads((workplace / "run" / "report-catalogue.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["Popularity"]


def test_vectors_of_another_recommender_go_through_every_stage(workplace: Path, tiny_world: TinyWorld) -> None:
    data = workplace / "data"
    ids = InteractionDataset.load(data).items.ids
    rng = np.random.default_rng(0)
    np.save(workplace / "items.npy", rng.normal(size=(len(ids), 6)).astype(np.float32))
    (workplace / "items.txt").write_text("\n".join(ids))
    vectors = workplace / "mine.safetensors"
    found = call("import-backbone", data, "--items", workplace / "items.npy", "--item-ids", workplace / "items.txt",
                 "-o", vectors)  # fmt: skip
    assert "36 items and 0 of 24 users have a vector of 6 numbers" in found.output
    with warnings.catch_warnings():
        warnings.simplefilter("default", AllmrecWarning)
        trained = call("train", data, "-o", workplace / "imported", "--recipe", tiny_world.recipe, "--backbone",
                       "imported", "--set", f"pretrain.model.vectors={vectors}")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert "may have seen them" in " ".join(trained.stderr.split())
    assert (
        len(
            json.loads(call("recommend", workplace / "imported", "--history", "i1", "--json").stdout)["recommendations"]
        )
        == 10
    )


@pytest.mark.parametrize("backbone", ["gru4rec", "nextitnet", "ncf"])
def test_another_backbone_takes_its_name_alone(workplace: Path, tiny_world: TinyWorld, backbone: str) -> None:
    run = workplace / backbone
    trained = call("train", workplace / "data", "-o", run, "--recipe", tiny_world.recipe, "--backbone", backbone)
    assert trained.exit_code == 0, trained.output
    evaluated = call("evaluate", run, "--systems", "backbone,allmrec-select")
    assert evaluated.exit_code == 0, evaluated.output
    assert "A-LLMRec (select)" in evaluated.output


def test_other_systems_are_trained_evaluated_and_asked_by_name(copy: Path) -> None:
    trained = call("train", copy, "--system", "item-knn", "--system", "without-user")
    there = "there already, made of the same inputs"
    assert heads(trained.stdout) == [
        "item-knn: done",
        *(f"{stage}: {there}" for stage in ("pretrain", "reference", "align")),
        "without-user.tune: done",
        f"Next: allmrec evaluate {copy}",
    ]
    evaluated = call("evaluate", copy, "--systems", "backbone,item-knn,without-user", "--users", "6")
    assert "trained parameters" in evaluated.stdout
    report = Report.load(copy / "report-selected.json")
    assert [system.key for system in report.systems] == ["backbone", "without-user", "item-knn"]
    assert "| trained parameters |" in (copy / "report-selected.md").read_text()
    by_name = json.loads(call("recommend", copy, "--user", "u3", "--system", "item-knn", "--json").stdout)
    assert by_name["answered_by"] == report.systems[2].name
    assert len({item["item_id"] for item in by_name["recommendations"]}) == 10
    for option in ("--explain", "--profile"):
        spoken = call("recommend", copy, "--user", "u3", "--system", "item-knn", option)
        assert spoken.exit_code == 1
        assert f"{option} asks the language model of A-LLMRec; another system has nothing to say" in spoken.stderr


def test_what_the_language_model_adds_is_printed_and_written(copy: Path) -> None:
    assert "late-fusion-llm: done" in heads(call("train", copy, "--system", "late-fusion-llm").stdout)
    evaluated = call("evaluate", copy, "--systems", "late-fusion,late-fusion-llm")
    line = "What the language model adds: Hit@1 of Late fusion with the LLM less Late fusion: "
    assert line in " ".join(evaluated.stdout.split())
    assert line in (copy / "report-selected.md").read_text()
    assert Report.load(copy / "report-selected.json").pairs[0].title == "What the language model adds"


def test_a_swapped_cf_model_shows_before_and_after(copy: Path) -> None:
    asked = ("evaluate", copy, "--systems", "popularity,backbone,allmrec-select")
    assert "before" not in call(*asked).stdout
    swapped = heads(call("train", copy, "--backbone", "gru4rec").stdout)
    assert swapped[:-1] == [f"{stage}: done" for stage in STAGES]
    after = call(*asked)
    assert "SASRec, now GRU4Rec" in " ".join(after.stdout.split())
    assert "| Hit@1 before | now |" in (copy / "report-selected.md").read_text()


def test_some_systems_alone_leave_the_report_of_all_as_it_is(copy: Path) -> None:
    call("evaluate", copy)
    whole = (copy / "report.json").read_bytes()
    call("evaluate", copy, "--systems", "popularity")
    assert (copy / "report.json").read_bytes() == whole
    assert [s.key for s in Report.load(copy / "report-selected.json").systems] == ["popularity"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "seed=5", "--system", "item-nn"], "There is no system 'item-nn'"),
        (["--llm", "no-such-model"], "no-such-model"),
        (["--encoder", "no-such-encoder"], "no-such-encoder"),
        (["--set", "pretrain.model.heads=3"], "3 heads do not divide the dim 8"),
        (["--set", "tune.items=backbone", "--system", "without-matching"], "no variant of it"),
    ],
)
def test_a_command_that_is_refused_leaves_the_run_as_it_was(copy: Path, arguments: list[str], message: str) -> None:
    before = (copy / "run.json").read_bytes()
    refused = call("train", copy, *arguments)
    assert refused.exit_code == 1
    assert message in " ".join(refused.stderr.split())
    assert (copy / "run.json").read_bytes() == before
    assert call("recommend", copy, "--user", "u3").exit_code == 0


def test_data_and_a_run_that_is_there_go_on_with_its_own_settings(copy: Path, workplace: Path) -> None:
    before = (copy / "run.json").read_bytes()
    trained = call("train", workplace / "data", "-o", copy, "--system", "item-knn")
    assert heads(trained.stdout) == ["item-knn: done", f"Next: allmrec evaluate {copy}"]
    assert (copy / "run.json").read_bytes() == before
