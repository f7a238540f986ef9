"""A run: each stage once per set of inputs, a folder that is never mistaken, parts that come back from disk."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.architectures import build
from tiny_world import TinyWorld

from allmrec.core.errors import ArtifactError, ConfigError, ModelNotFoundError
from allmrec.data.build import read_table
from allmrec.data.interactions import InteractionDataset
from allmrec.library import Run
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe
from allmrec.store import folder
from allmrec.systems.evaluating import evaluate_run, run_protocol
from allmrec.systems.own import OWN
from allmrec.testing.tiny_lm import tiny_tokenizer


@pytest.fixture(scope="module")
def data(tiny_world: TinyWorld) -> InteractionDataset:
    return read_table(tiny_world.interactions, tiny_world.items)


@pytest.fixture(scope="module")
def config(tiny_world: TinyWorld) -> RunConfig:
    return load_recipe(str(tiny_world.recipe))


@pytest.fixture(scope="module")
def trained(data: InteractionDataset, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run") / "run", data, config)
    run.train()
    return run


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Run:
    """The same run in a place of its own, for tests that change it."""
    shutil.copytree(trained.path, tmp_path / "copy")
    return Run.open(tmp_path / "copy")


def heard(run: Run, until: str = "tune") -> dict[str, str]:
    """What each stage reports, by its name."""
    lines: list[str] = []
    run.train(lines.append, until)
    return {line.split(":")[0]: line.split(": ", 1)[1].split(" in ")[0] for line in lines}


THERE = "there already, made of the same inputs"


def test_a_trained_run_opens_as_it_was_left(trained: Run, config: RunConfig) -> None:
    opened = Run.open(trained.path)
    assert opened.config == config
    assert opened.dataset.content_hash == trained.dataset.content_hash
    assert heard(opened) == dict.fromkeys(["pretrain", "reference", "align", "tune"], THERE)
    assert list((trained.path / ".resume").iterdir()) == []


def test_only_what_was_trained_is_stored(trained: Run, tiny_world: TinyWorld) -> None:
    whole = sum(file.stat().st_size for file in (tiny_world.folder / "language model").rglob("*.safetensors"))
    kept = sum(file.stat().st_size for file in (trained.path / "tune").rglob("*"))
    assert kept < whole / 3


@pytest.mark.parametrize(
    ("changes", "redone"),
    [
        ({"evaluation.users": 2}, []),
        ({"tune.training.epochs": 2}, ["tune"]),
        ({"align.training.epochs": 2}, ["align", "tune"]),
        ({"encoder.tune": "frozen"}, ["align", "tune"]),
        ({"pretrain.training.epochs": 1}, ["pretrain", "reference", "align", "tune"]),
        ({"held_out_targets": 2}, ["pretrain", "align", "tune"]),
        ({"held_out_users": 5}, ["pretrain", "align", "tune"]),
        ({"seed": 1}, ["pretrain", "reference", "align", "tune"]),
    ],
)
def test_a_change_makes_stale_what_depends_on_it(trained: Run, changes: dict[str, object], redone: list[str]) -> None:
    changed = Run(trained.path, trained.dataset, trained.config.changed(changes))
    stale = [name for name in trained.stages if changed.stage(name).key != trained.stage(name).key]
    assert stale == redone


def test_only_the_changed_stage_is_trained_again(copy: Run) -> None:
    before = {name: (copy.path / name / "manifest.json").read_bytes() for name in copy.stages}
    again = Run.create(copy.path, copy.dataset, copy.config.changed({"tune.training.learning_rate": 1e-3}))
    with pytest.raises(ArtifactError, match=r"tune was made of other inputs .*allmrec train"):
        again.ranker()
    assert heard(again) == {"pretrain": THERE, "reference": THERE, "align": THERE, "tune": "done"}
    after = {name: (copy.path / name / "manifest.json").read_bytes() for name in copy.stages}
    assert [name for name in before if before[name] != after[name]] == ["tune"]


def test_a_damaged_stage_is_trained_again_and_comes_out_the_same(copy: Run) -> None:
    file = copy.path / "pretrain" / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=r"weights\.safetensors is missing or damaged"):
        copy.backbone()
    lines: list[str] = []
    copy.train(lines.append)
    assert lines[0] == f"pretrain: {file} is missing or damaged; training it again"
    assert file.read_bytes() == whole


def test_stages_one_by_one_are_the_same_as_all_at_once(
    trained: Run, data: InteractionDataset, config: RunConfig, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", data, config)
    assert heard(run, "pretrain") == {"pretrain": "done", "reference": "done"}
    assert heard(run, "align") == {"pretrain": THERE, "reference": THERE, "align": "done"}
    assert heard(run) == {"pretrain": THERE, "reference": THERE, "align": THERE, "tune": "done"}
    files = sorted(file.relative_to(trained.path) for file in trained.path.rglob("*.safetensors"))
    assert len(files) == 6
    for file in files:
        assert (run.path / file).read_bytes() == (trained.path / file).read_bytes(), file


def test_a_model_that_is_not_to_be_had_is_told_before_training(data: InteractionDataset, tmp_path: Path) -> None:
    for changes, kind in (
        ({"llm.name": "no/such"}, "language model"),
        ({"encoder.name": "no/such"}, "sentence encoder"),
    ):
        run = Run.create(tmp_path / kind, data, load_recipe("cpu", changes))
        with pytest.raises(ModelNotFoundError, match=f"The {kind} 'no/such'"):
            run.train()
        assert not (run.path / "pretrain").exists()


def test_a_language_model_that_cannot_read_the_prompts_is_told_before_training(
    data: InteractionDataset, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer()
    for name, message in (("bloom", "lists candidates in parallel"), ("bert", "no causal language model")):
        folder = tmp_path / name
        changed = {} if name == "bloom" else {"is_decoder": False}
        build(name, len(tokenizer), **changed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        changes = {"llm.name": str(folder), "tune.prompt.template.form": "copy"}
        run = Run.create(tmp_path / f"{name} run", data, load_recipe(str(tiny_world.recipe), changes))
        with pytest.raises((ConfigError, ModelNotFoundError), match=message):
            run.train()
        assert not (run.path / "pretrain").exists()


def test_a_run_that_was_killed_while_it_was_made_is_taken_up(
    data: InteractionDataset, config: RunConfig, tmp_path: Path
) -> None:
    Run.create(tmp_path / "run", data, config)
    shutil.rmtree(tmp_path / "run" / "data")
    Run.create(tmp_path / "run", data, config)
    assert Run.open(tmp_path / "run").dataset.content_hash == data.content_hash


def test_another_data_set_and_a_foreign_folder_are_refused(copy: Run, tmp_path: Path) -> None:
    other = InteractionDataset.from_sequences({"u": ["a", "b", "c"]})
    with pytest.raises(ConfigError, match=r"is a run of other data .* Give another folder with -o"):
        Run.create(copy.path, other, copy.config)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"mine exists and is no run of allmrec"):
        Run.create(tmp_path / "mine", copy.dataset, copy.config)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_large_data_are_named_and_not_copied(
    data: InteractionDataset, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.save(tmp_path / "prepared")
    prepared = InteractionDataset.load(tmp_path / "prepared")
    small = Run.create(tmp_path / "small", prepared, config)
    assert (small.path / "data").is_dir()
    monkeypatch.setattr(folder, "_COPIED", 100)
    Run.create(tmp_path / "run", prepared, config)
    assert not (tmp_path / "run" / "data").exists()
    again = Run.open(tmp_path / "run")
    assert again.dataset.content_hash == data.content_hash
    again.train(until="pretrain")
    again.keep()
    assert json.loads((again.path / "run.json").read_text())["data"] == str(tmp_path / "prepared")
    # What was made in memory, or is another set than its folder has, is written down.
    other = replace(prepared, times=None)
    for number, given in enumerate((data, other)):
        Run.create(tmp_path / f"own-{number}", given, config)
        assert (tmp_path / f"own-{number}" / "data").is_dir()
    # Moved, and changed.
    (tmp_path / "prepared").rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"refers to the data in .*prepared.* Put it back"):
        Run.open(again.path)
    other.save(tmp_path / "prepared")
    with pytest.raises(ArtifactError, match="is not the data that"):
        Run.open(again.path)
    about = json.loads((again.path / "run.json").read_text())
    (again.path / "run.json").write_text(json.dumps(about | {"data": str(tmp_path / "elsewhere")}))
    assert Run.open(again.path).dataset.content_hash == data.content_hash
    (again.path / "run.json").write_text(json.dumps(about | {"data": 3}))
    with pytest.raises(ArtifactError, match="expected a folder"):
        Run.open(again.path)


def test_a_folder_that_is_no_run_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere does not exist; expected the folder of a run"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"has no run\.json"):
        Run.open(tmp_path)


def test_a_run_whose_files_were_changed_by_hand_does_not_open(copy: Run) -> None:
    about = json.loads((copy.path / "run.json").read_text())
    (copy.path / "run.json").write_text(json.dumps(about | {"data_hash": "0" * 64}))
    with pytest.raises(ArtifactError, match=r"is not the data that .*run\.json names"):
        Run.open(copy.path)
    (copy.path / "run.json").write_text(json.dumps(about | {"config": {"lm": "x"}}))
    with pytest.raises(ConfigError, match=r"run\.json does not fit RunConfig: lm: no such field; did you mean llm\?"):
        Run.open(copy.path)


def test_without_held_out_targets_there_is_no_reference(trained: Run) -> None:
    plain = Run(
        trained.path, trained.dataset, trained.config.changed({"held_out_targets": 0, "tune.positions": "last"})
    )
    assert plain.stages == ["pretrain", "align", "tune"]
    with pytest.raises(ConfigError, match="There is no stage 'tuen'"):
        plain.stage("tuen")


def test_parts_on_disk_rank_as_those_in_memory(trained: Run) -> None:
    query = run_protocol(trained).queries(trained.split)[0]
    candidates = np.arange(1, 21, dtype=np.int64)
    scores = []
    for run in (trained, Run.open(trained.path)):
        with torch.no_grad():
            scores.append(run.ranker().eval().select_logits([query], [candidates]))
    assert torch.equal(*scores)


def test_every_system_ranks_the_same_users_with_its_notes(trained: Run) -> None:
    report = evaluate_run(trained, command="allmrec evaluate")
    names = [system.name for system in report.systems]
    assert len(names) == len(OWN)
    assert len(set(names)) == len(names)
    users = {system.name: len(system.users) for system in report.systems}
    assert {users[name] for name in names if name in ("LLM-Only", "A-LLMRec", "A-LLMRec (SBERT)")} == {3}
    assert {users[name] for name in ("Popularity", "SASRec", "SASRec (held out)", "A-LLMRec (select)")} == {6}
    notes = {system.name: system.note for system in report.systems}
    assert notes["SASRec (held out)"].endswith("trained without each user's last training item")
    assert notes["LLM-Only"] == "nothing trained; reads titles: the first 3 users"
    assert re.match(r"valid answers [01]\.\d{3}: of 3 answers", notes["A-LLMRec (generate)"])


def test_some_systems_may_be_chosen_and_unknown_ones_are_named(trained: Run) -> None:
    report = evaluate_run(trained, ["popularity", "backbone"])
    assert [system.name for system in report.systems] == ["Popularity", "SASRec"]
    with pytest.raises(ConfigError, match=r"There is no system 'sasrek'; known are popularity, backbone"):
        evaluate_run(trained, ["sasrek"])
    # The run's own CF model by its own name.
    assert [system.key for system in evaluate_run(trained, ["sasrec"]).systems] == ["backbone"]


def test_the_protocol_is_drawn_once_and_another_size_is_refused(copy: Run) -> None:
    drawn = run_protocol(copy)
    assert (copy.path / "protocol.json").is_file()
    assert run_protocol(copy).hash == drawn.hash
    wanted = replace_evaluation(copy, candidates=7)
    with pytest.raises(ConfigError, match="has 20 candidates a user and the run now wants 7"):
        run_protocol(wanted)


def replace_evaluation(run: Run, **fields: int) -> Run:
    return Run(run.path, run.dataset, run.config.changed({f"evaluation.{n}": v for n, v in fields.items()}))
