"""A stage on disk: current when made of the same inputs, never loaded when it is not what its manifest says."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from allmrec.core.errors import ArtifactError
from allmrec.store.stages import (
    FORMAT_VERSION,
    Stage,
    StageResult,
    check_stage,
    damaged_files,
    read_stage,
    stage_is_current,
    tidy,
    write_stage,
)

STAGE = Stage("align", {"dim": 8, "training": {"epochs": 2}}, {"data": "abc", "seed": "0"})
RESULT = StageResult({"w": torch.arange(4.0)}, {"steps": 3}, {"joint": {"cf": torch.ones(2)}})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_stage(tmp_path, STAGE, RESULT, time.monotonic() - 2)
    return tmp_path


def manifest(run: Path) -> Path:
    return run / "align" / "manifest.json"


def test_what_was_written_is_read(run: Path) -> None:
    assert stage_is_current(run, STAGE)
    assert damaged_files(run, STAGE) == []
    assert read_stage(run, STAGE)["w"].tolist() == [0, 1, 2, 3]
    assert read_stage(run, STAGE, "joint")["cf"].tolist() == [1, 1]


def test_the_manifest_says_what_it_was_made_of(run: Path) -> None:
    about = json.loads(manifest(run).read_text())
    assert about["inputs"] == STAGE.inputs
    assert set(about["files"]) == {"weights.safetensors", "joint.safetensors"}
    assert about["versions"]["torch"] == torch.__version__
    assert about["seconds"] >= 2
    assert json.loads((run / "align" / "config.json").read_text()) == STAGE.config
    assert json.loads((run / "align" / "log.json").read_text()) == {"steps": 3}


def test_a_key_follows_config_inputs_and_name_and_no_order() -> None:
    same = replace(STAGE, inputs={"seed": "0", "data": "abc"})
    assert same.key == STAGE.key
    others = [
        replace(STAGE, config={"dim": 9, "training": {"epochs": 2}}),
        replace(STAGE, config={"dim": 8, "training": {"epochs": 3}}),
        replace(STAGE, inputs={"data": "abd", "seed": "0"}),
        replace(STAGE, name="tune"),
    ]
    assert len({STAGE.key, *(other.key for other in others)}) == 5


def test_a_stage_of_other_inputs_is_not_loaded(run: Path) -> None:
    other = replace(STAGE, inputs={"data": "abd", "seed": "0"})
    assert not stage_is_current(run, other)
    with pytest.raises(ArtifactError, match="was made of other inputs than the run now has"):
        read_stage(run, other)


def test_a_missing_stage_names_the_command(tmp_path: Path) -> None:
    assert not stage_is_current(tmp_path, STAGE)
    with pytest.raises(ArtifactError, match=r"has no stage 'align': .*manifest\.json does not exist\. Run: allmrec"):
        read_stage(tmp_path, STAGE)


@pytest.mark.parametrize("name", ["weights", "joint"])
def test_a_file_with_one_bit_turned_is_named_and_not_loaded(run: Path, name: str) -> None:
    file = run / "align" / f"{name}.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert damaged_files(run, STAGE) == [file]
    with pytest.raises(ArtifactError, match=rf"{name}\.safetensors is missing or damaged: .*Run|run: allmrec train"):
        read_stage(run, STAGE, name)


def test_a_missing_file_is_named(run: Path) -> None:
    (run / "align" / "joint.safetensors").unlink()
    assert damaged_files(run, STAGE) == [run / "align" / "joint.safetensors"]
    with pytest.raises(ArtifactError, match=r"joint\.safetensors is missing or damaged"):
        read_stage(run, STAGE, "joint")


def test_a_file_that_the_manifest_does_not_know_is_not_loaded(run: Path) -> None:
    (run / "align" / "other.safetensors").write_bytes((run / "align" / "joint.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match=r"other\.safetensors is missing or damaged"):
        read_stage(run, STAGE, "other")


@pytest.mark.parametrize("found", [FORMAT_VERSION + 1, 0, "2", None, True])
def test_a_format_that_is_not_known_is_refused_and_never_trained_over(run: Path, found: object) -> None:
    manifest(run).write_text(json.dumps(json.loads(manifest(run).read_text()) | {"format": found}))
    message = rf"manifest\.json has format {found!r}; this version of allmrec reads format {FORMAT_VERSION}"
    with pytest.raises(ArtifactError, match=message):
        read_stage(run, STAGE)
    with pytest.raises(ArtifactError, match=message):
        stage_is_current(run, STAGE)


@pytest.mark.parametrize("files", [{}, [], None, {"other.safetensors": "0"}])
def test_a_manifest_that_names_no_weights_is_damaged_itself(run: Path, files: object) -> None:
    manifest(run).write_text(json.dumps(json.loads(manifest(run).read_text()) | {"files": files}))
    assert damaged_files(run, STAGE) == [manifest(run)]
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        check_stage(run, STAGE)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_stage(run, STAGE)


def test_what_killed_processes_left_is_swept_and_a_retired_stage_comes_back(run: Path) -> None:
    whole = {path.name: path.read_bytes() for path in (run / "align").iterdir()}
    (run / "align").rename(run / ".align.retired")
    (run / ".tune.ab_1.tmp").mkdir()
    (run / ".tune.ab_1.tmp" / "weights.safetensors").touch()
    (run / ".run.json.12.tmp").touch()
    (run / ".resume").mkdir()
    (run / ".resume" / ".tune-0.safetensors.12.tmp").touch()
    # Somebody may be writing it just now.
    (run / ".report.json.12.tmp").touch()
    (run / ".resume" / "tune-0.safetensors").touch()
    tidy(run)
    assert {path.name: path.read_bytes() for path in (run / "align").iterdir()} == whole
    left = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.parent != run / "align")
    assert left == [".report.json.12.tmp", ".resume", ".resume/tune-0.safetensors", "align"]
    os.utime(run / ".report.json.12.tmp", (0, 0))
    tidy(run)
    assert not (run / ".report.json.12.tmp").exists()


def test_with_a_manifest_that_cannot_be_read_the_stage_is_not_there(run: Path) -> None:
    manifest(run).write_text("{")
    assert not stage_is_current(run, STAGE)
    with pytest.raises(ArtifactError, match="cannot be read as JSON"):
        read_stage(run, STAGE)
    write_stage(run, STAGE, RESULT, time.monotonic())
    assert stage_is_current(run, STAGE)
