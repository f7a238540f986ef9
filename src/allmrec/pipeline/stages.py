"""A run's folder: which stage is there, of which inputs, undamaged; knows no stage's inside."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from allmrec.core.artifacts import (
    atomic_directory,
    content_hash,
    file_hash,
    read_json,
    read_tensors,
    versions,
    write_json,
    write_tensors,
)
from allmrec.core.errors import ArtifactError

__all__ = [
    "FORMAT_VERSION",
    "Stage",
    "StageResult",
    "check_stage",
    "damaged_files",
    "read_stage",
    "stage_is_current",
    "write_stage",
]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """One stage of a run and everything that decides its result.

    Attributes:
        name: the stage's folder.
        config: its settings.
        inputs: what else decides the result: the data's hash, the parents' keys, names of frozen models, the seed.
    """

    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        """A hash over all of it; equal keys mean equal results."""
        parts = {"format": FORMAT_VERSION, "name": self.name, "config": self.config, "inputs": self.inputs}
        return content_hash(json.dumps(parts, sort_keys=True))


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind."""

    weights: Mapping[str, Tensor]
    log: Mapping[str, Any]
    extra: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def stage_is_current(run: Path, stage: Stage) -> bool:
    """Whether the stage stands there, made of just these inputs; with a manifest that cannot be read it does not."""
    try:
        return read_json(run / stage.name / "manifest.json").get("key") == stage.key
    except ArtifactError:
        return False


def damaged_files(run: Path, stage: Stage) -> list[Path]:
    """Files of a stage that are not what its manifest says; all of them are read."""
    folder = run / stage.name
    expected = read_json(folder / "manifest.json").get("files", {})
    return [path for name in expected if not _is_whole(path := folder / name, expected[name])]


def write_stage(run: Path, stage: Stage, result: StageResult, started: float) -> None:
    """Write a stage's folder, whole or not at all.

    Args:
        run: the run's folder.
        stage: what was run.
        result: trained weights, log, and further tensors by file name.
        started: `time.monotonic()` at the stage's start.
    """
    with atomic_directory(run / stage.name) as folder:
        files = {"weights": result.weights, **result.extra}
        for name, tensors in files.items():
            write_tensors(folder / f"{name}.safetensors", tensors)
        write_json(folder / "config.json", stage.config)
        write_json(folder / "log.json", result.log)
        write_json(
            folder / "manifest.json",
            {
                "format": FORMAT_VERSION,
                "stage": stage.name,
                "key": stage.key,
                "inputs": dict(stage.inputs),
                "files": {f"{name}.safetensors": file_hash(folder / f"{name}.safetensors") for name in files},
                "versions": versions(),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - started, 1),
            },
        )


def check_stage(run: Path, stage: Stage) -> None:
    """Make sure that a stage can be read, without reading its tensors.

    Raises:
        ArtifactError: the stage is missing, of other inputs, of a newer format, or damaged.
    """
    _manifest(run, stage)
    for path in damaged_files(run, stage):
        raise _damaged(run, path)


def read_stage(run: Path, stage: Stage, name: str = "weights") -> dict[str, Tensor]:
    """Read one of a stage's files after checking that it is what the manifest says.

    Raises:
        ArtifactError: the stage is missing, of other inputs, of a newer format, or damaged.
    """
    path = run / stage.name / f"{name}.safetensors"
    if not _is_whole(path, _manifest(run, stage).get("files", {}).get(path.name)):
        raise _damaged(run, path)
    return read_tensors(path)


def _manifest(run: Path, stage: Stage) -> dict[str, Any]:
    """The manifest of a stage that was made of just these inputs."""
    folder = run / stage.name
    if not (folder / "manifest.json").is_file():
        raise ArtifactError(f"{run} has no stage {stage.name!r}. Run: allmrec train {run}")
    manifest = read_json(folder / "manifest.json")
    found = manifest.get("format")
    if found != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder} has format {found}; this version of allmrec reads format {FORMAT_VERSION}. "
            "Update allmrec, or train the stage again."
        )
    if manifest.get("key") != stage.key:
        raise ArtifactError(
            f"{folder} was made of other inputs than the run now has (its config, its data or an earlier stage "
            f"changed). Run: allmrec train {run}"
        )
    return manifest


def _damaged(run: Path, path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} is missing or damaged: its content is not what the manifest says. To train that stage again, run: "
        f"allmrec train {run}"
    )


def _is_whole(path: Path, expected: str | None) -> bool:
    return path.is_file() and file_hash(path) == expected
