"""Runs that somebody else made: files whose hash is right and whose content is not, links, and sizes that nothing has."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world import TinyWorld
from torch import Tensor

from allmrec.core.artifacts import atomic_write, read_json, sweep, write_json
from allmrec.core.errors import ArtifactError, ConfigError, DivergedError
from allmrec.core.hashing import file_hash
from allmrec.data.build import read_table
from allmrec.evaluation import Report, render
from allmrec.evaluation.report import _content
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.store.stages import stage_record
from allmrec.systems.cold import cold_threshold
from allmrec.systems.evaluating import evaluate_run, run_protocol
from allmrec.systems.registry import train_systems


@pytest.fixture(scope="module")
def trained(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = read_table(tiny_world.interactions, tiny_world.items)
    few = {"evaluation.title_users": 2, "evaluation.users": 4, "systems.text-tower.training.epochs": 1}
    config = load_recipe(str(tiny_world.recipe), few)
    run = Run.create(tmp_path_factory.mktemp("run") / "run", data, config)
    run.train(lambda line: None)
    train_systems(run, ["late-fusion", "item-knn", "ease", "text-similarity", "towers"], lambda line: None)
    return run


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Run:
    shutil.copytree(trained.path, tmp_path / "copy")
    return Run.open(tmp_path / "copy")


def forge(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change a stage's tensors, and its manifest so that the hash is right."""
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"][path.name] = file_hash(path)
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def largest(tensors: dict[str, Tensor], kind: str = "f") -> str:
    floating = {n: t for n, t in tensors.items() if t.is_floating_point() == (kind == "f") and t.dtype != torch.bool}
    return max(floating, key=lambda name: floating[name].numel())


def nan(tensors: dict[str, Tensor]) -> None:
    tensors[largest(tensors)].view(-1)[-1] = torch.nan


def infinity(tensors: dict[str, Tensor]) -> None:
    tensors[largest(tensors)].view(-1)[0] = -torch.inf


def integers(tensors: dict[str, Tensor]) -> None:
    name = largest(tensors)
    tensors[name] = tensors[name].to(torch.int64)


def shorter(tensors: dict[str, Tensor]) -> None:
    name = largest(tensors)
    tensors[name] = tensors[name][:-1]


def flat(tensors: dict[str, Tensor]) -> None:
    name = largest(tensors)
    tensors[name] = tensors[name].reshape(-1) if tensors[name].ndim > 1 else tensors[name][None]


def missing(tensors: dict[str, Tensor]) -> None:
    del tensors[largest(tensors)]


def huge_and_empty(tensors: dict[str, Tensor]) -> None:
    tensors[largest(tensors)] = torch.zeros(10**9, 0)


FILES = {
    "pretrain/weights": "allmrec-select",
    "reference/weights": "backbone",
    "align/joint": "allmrec-select",
    "tune/weights": "allmrec-select",
    "texts/vectors": "text-similarity",
    "systems/late-fusion/weights": "late-fusion",
    "systems/item-knn/weights": "item-knn",
    "systems/ease/weights": "ease",
    "systems/text-tower/weights": "towers",
    "systems/towers/weights": "towers",
}


@pytest.mark.parametrize("change", [nan, infinity, integers, shorter, flat, missing, huge_and_empty])
@pytest.mark.parametrize("file", FILES)
def test_tensors_that_do_not_fit_are_named(file: str, change: Callable[[dict[str, Tensor]], None], copy: Run) -> None:
    name = file if file != "texts/vectors" else "texts/weights"
    path = copy.path / f"{name}.safetensors"
    forge(path, change)
    with pytest.raises(ArtifactError) as caught:
        evaluate_run(copy, [FILES[file]])
    assert str(path) in str(caught.value)
    assert "allmrec train" in str(caught.value) or "Train that stage again" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("indices", 10**6), ("indices", -1), ("indptr", 10**6)])
def test_an_index_out_of_range_is_named(name: str, value: int, copy: Run) -> None:
    path = copy.path / "systems" / "item-knn" / "weights.safetensors"
    forge(path, lambda tensors: tensors[name].view(-1)[3].fill_(value))
    with pytest.raises(ArtifactError, match=r"item-knn/weights\.safetensors does not fit"):
        evaluate_run(copy, ["item-knn"])


@pytest.mark.parametrize("value", [10**9, 65_537])
@pytest.mark.parametrize(
    "field",
    [
        "pretrain.model.dim",
        "pretrain.model.blocks",
        "pretrain.model.max_history",
        "align.joint_dim",
        "tune.prompt.projection.hidden",
        "tune.prompt.pointer.dim",
        "tune.prompt.budget.max_history",
        "tune.candidates",
        "pretrain.validation_negatives",
    ],
)
def test_sizes_that_nothing_has_are_refused(field: str, value: int, copy: Run) -> None:
    about = read_json(copy.path / "run.json")
    place = about["config"]
    *parents, last = field.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    write_json(copy.path / "run.json", about)
    with pytest.raises(ConfigError, match=rf"{last} is {value}; it may be [\d,]+ at most"):
        Run.open(copy.path)


def test_a_size_that_its_weights_do_not_have_takes_no_memory(copy: Run) -> None:
    """60,000 numbers an item, and blocks of their square: 14 GB a layer, were it built before it is compared."""
    about = read_json(copy.path / "run.json")
    about["config"]["pretrain"]["model"]["dim"] = 60_000
    write_json(copy.path / "run.json", about)
    forged = Run.open(copy.path)
    for kind in ("pretrain", "reference"):
        manifest = read_json(forged.path / kind / "manifest.json")
        write_json(forged.path / kind / "manifest.json", manifest | {"key": forged.stage(kind).key})
    with pytest.raises(ArtifactError, match=r"expected.*60000"):
        evaluate_run(forged, ["backbone"])


# JSON


@pytest.mark.parametrize(
    "content",
    [
        {"select": []},
        {"select": {"key": 1, "below": 3}},
        {"select": {"key": "x", "below": "3"}},
        {"select": {"key": "x", "below": 10**9}},
        [],
    ],
)
def test_a_cold_json_of_something_else_is_named(content: object, copy: Run) -> None:
    (copy.path / "cold.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"cold\.json"):
        cold_threshold(copy, lambda below: pytest.fail("nothing is chosen"), "select")


@pytest.mark.parametrize("value", ["long", float("nan"), -1, [1], {"a": 1}, True])
@pytest.mark.parametrize("file", ["log.json", "manifest.json"])
def test_what_a_stage_says_of_its_cost_is_a_number(file: str, value: object, copy: Run) -> None:
    path = copy.path / "pretrain" / file
    name = "trained_parameters" if file == "log.json" else "seconds"
    path.write_text(json.dumps(read_json(path) | {name: value}))
    with pytest.raises(ArtifactError, match=rf"pretrain/{file} has {name} = "):
        stage_record(copy.path, copy.stage("pretrain"))


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff"])
def test_a_log_that_cannot_be_read_says_how_to_have_it_again(content: bytes | None, copy: Run) -> None:
    path = copy.path / "pretrain" / "log.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"log\.json.* remove .*pretrain and run: allmrec train "):
        stage_record(copy.path, copy.stage("pretrain"))


def rehashed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    value.pop("hash")
    change(value)
    path.write_text(json.dumps(value | {"hash": _content(value)}))


def metrics_lost(value: dict[str, Any]) -> None:
    value["systems"][0]["metrics"].pop("Hit@1")


def no_number(value: dict[str, Any]) -> None:
    value["systems"][0]["metrics"]["Hit@1"]["value"] = float("nan")


def rank_of_none(value: dict[str, Any]) -> None:
    value["systems"][0]["ranks"][0] = 0


@pytest.mark.parametrize(
    "change",
    [metrics_lost, no_number, rank_of_none, lambda value: value.update(systems=[]), lambda value: value.update(ks=[5])],
)
def test_a_report_of_something_else_is_named(change: Callable[[dict[str, Any]], None], copy: Run) -> None:
    path = copy.path / "report.json"
    evaluate_run(copy, ["popularity", "backbone"]).save(path)
    render(Report.load(path))
    rehashed(path, change)
    with pytest.raises(ArtifactError, match=r"report\.json is damaged"):
        Report.load(path)


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("users", 10**6, "its users are not"),
        ("targets", 1, "its targets are not"),
        ("candidates", 10**6, "it holds item 1000000"),
    ],
)
def test_a_protocol_of_other_users_or_items_is_named(field: str, value: int, found: str, copy: Run) -> None:
    drawn = run_protocol(copy)
    arrays = {name: getattr(drawn, name).copy() for name in ("users", "targets", "candidates")}
    row = next(n for n in range(len(drawn)) if 1 not in drawn.candidates[n])
    if field == "targets":
        arrays["candidates"][row][arrays["candidates"][row] == arrays["targets"][row]] = value
    spot = (row, int((drawn.candidates[row] != drawn.targets[row]).argmax())) if field == "candidates" else row
    arrays[field][spot] = value
    replace(drawn, **arrays).save(copy.path / "protocol.json")
    with pytest.raises(ArtifactError, match=rf"protocol\.json does not fit the data: {found}"):
        run_protocol(copy)


@pytest.mark.parametrize("wrong", ["3", 3.5, True, None, [3]])
def test_a_protocol_of_no_numbers_is_named(wrong: object, copy: Run) -> None:
    run_protocol(copy)
    value = read_json(copy.path / "protocol.json")
    value["rows"][0]["candidates"][0] = wrong
    (copy.path / "protocol.json").write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=r"protocol\.json is damaged"):
        run_protocol(copy)


@pytest.fixture(scope="module")
def given(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was saved to give away, with an item that came after training."""
    folder = tmp_path_factory.mktemp("given") / "given"
    model = trained.recommender()
    model.add_items([{"item_id": "new", "title": "A new one"}])
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"added": "all"},
        {"added": [{"title": "no id"}]},
        {"added": [3]},
        {"frozen": None},
        {"frozen": {"llm": {}, "encoder": {}}},
        {"catalogue_hash": 5},
    ],
)
def test_a_saved_recommender_that_says_nonsense_is_named(
    change: dict[str, object], given: Path, tmp_path: Path
) -> None:
    shutil.copytree(given, tmp_path / "copy")
    about = read_json(tmp_path / "copy" / "run.json")
    write_json(tmp_path / "copy" / "run.json", about | {"published": about["published"] | change})
    with pytest.raises(ArtifactError, match=r"run\.json"):
        Run.open(tmp_path / "copy").recommender()


@pytest.mark.parametrize("change", [nan, integers, shorter, flat, missing, huge_and_empty])
def test_tensors_of_a_saved_recommender_that_do_not_fit_are_named(
    change: Callable[[dict[str, Tensor]], None], given: Path, tmp_path: Path
) -> None:
    shutil.copytree(given, tmp_path / "copy")
    path = tmp_path / "copy" / "published.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    with pytest.raises(ArtifactError, match=r"published\.safetensors"):
        Run.open(tmp_path / "copy").recommender()


# Links and leftovers


def test_links_and_leftovers_are_not_given_away(copy: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"password": "open sesame"}')
    (copy.path / "align" / "extra.json").symlink_to(secret)
    (copy.path / "tune" / "notes.txt").write_text("mine")
    (copy.path / "pretrain" / "gone").symlink_to(tmp_path / "nowhere")
    (copy.path / "pretrain" / "folder").mkdir()
    os.mkfifo(copy.path / "tune" / "pipe")
    copy.recommender().save_pretrained(tmp_path / "given")
    names = {str(path.relative_to(tmp_path / "given")) for path in (tmp_path / "given").rglob("*")}
    assert not {name for name in names if Path(name).name in ("extra.json", "notes.txt", "gone", "folder", "pipe")}
    assert "open sesame" not in "".join(p.read_text("utf-8", "replace") for p in (tmp_path / "given").rglob("*.json"))
    Run.open(tmp_path / "given").recommender().recommend(history=["i1"], k=2)
    (copy.path / "tune" / "log.json").unlink()
    (copy.path / "tune" / "log.json").symlink_to(secret)
    with pytest.raises(ArtifactError, match=r"tune/log\.json is a link"):
        copy.recommender().save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_links_in_a_run_are_replaced_and_never_written_through(copy: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tune-0.safetensors").write_text("precious")
    (outside / "file").write_text("precious")
    for name in ("report.json", "report.md", "cold.json", ".lock"):
        (copy.path / name).unlink(missing_ok=True)
        (copy.path / name).symlink_to(outside / "file")
    (copy.path / "cold.json").unlink()
    shutil.rmtree(copy.path / ".resume")
    (copy.path / ".resume").symlink_to(outside)
    shutil.rmtree(copy.path / "tune")
    (copy.path / "tune").symlink_to(outside)
    (copy.path / f".report.json.{os.getpid()}.tmp").symlink_to(outside / "file")
    copy.train(lambda line: None)
    evaluate_run(copy, ["popularity"]).save(copy.path / "report.json")
    assert not (copy.path / "tune").is_symlink()
    assert not (copy.path / "report.json").is_symlink()
    assert {path.name: path.read_text() for path in outside.iterdir()} == dict.fromkeys(
        ("tune-0.safetensors", "file"), "precious"
    )


def test_sweeping_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".a.1.tmp").symlink_to(tmp_path / "kept")
    (folder / ".b.1.tmp").symlink_to(tmp_path / "nowhere")
    sweep(folder)
    assert list(folder.iterdir()) == []
    assert (tmp_path / "kept" / "file").exists()
    (folder / "link").symlink_to(tmp_path / "kept" / "file")
    atomic_write(folder / "link", "new")
    assert (tmp_path / "kept" / "file").read_text() == ""


def test_a_pipe_where_a_file_should_be_does_not_hang(copy: Run) -> None:
    (copy.path / "pretrain" / "log.json").unlink()
    os.mkfifo(copy.path / "pretrain" / "log.json")
    with pytest.raises(ArtifactError, match=r"log\.json is no file"):
        stage_record(copy.path, copy.stage("pretrain"))


# Divergence


@pytest.mark.parametrize("stage", ["pretrain", "align", "tune"])
def test_a_stage_that_diverges_names_the_field_to_lower(stage: str, trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    run = run.with_config(run.config.changed({f"{stage}.training.learning_rate": 1e6}))
    with pytest.raises(
        DivergedError, match=rf"^{stage} diverged: .*now 1e\+06.*--set {stage}\.training\.learning_rate="
    ):
        run.train(lambda line: None)
