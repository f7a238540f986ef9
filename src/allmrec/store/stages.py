"""Stages on disk: which is there, made of which inputs, undamaged."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from allmrec.core.artifacts import (
    atomic_directory,
    read_json,
    read_tensors,
    recover,
    sweep,
    versions,
    write_json,
    write_tensors,
)
from allmrec.core.errors import ArtifactError
from allmrec.core.hashing import content_hash, file_hash
from allmrec.core.memory import peak_memory
from allmrec.core.tensors import check_finite, content_of

__all__ = [
    "FORMAT_VERSION",
    "SYSTEMS_FOLDER",
    "Stage",
    "StageResult",
    "check_format",
    "check_stage",
    "content_checked",
    "damaged_files",
    "read_stage",
    "stage_files",
    "stage_is_current",
    "stage_record",
    "tidy",
    "write_stage",
]


# Of a run's folder. A change that an older version would misread raises it, and what has another one is refused.
FORMAT_VERSION = 1

# Where a run keeps what only one of its systems needs.
SYSTEMS_FOLDER = "systems"


@dataclass(frozen=True)
class Stage:
    """One stage of a run and everything that decides its result.

    Attributes:
        name: what it is called.
        config: its settings.
        inputs: what else decides the result: the data's hash, names of frozen models, the seed.
        parents: the stages that it reads, by name; their keys are inputs too.
        system: the system that alone needs it, where it is none of the run's own; no part of the key.
    """

    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    parents: Mapping[str, Stage] = field(default_factory=dict)
    system: str = ""

    @property
    def place(self) -> Path:
        """Its folder within the run's."""
        if not self.system:
            return Path(self.name)
        own = Path(SYSTEMS_FOLDER) / self.system
        return own if self.name == self.system else own / self.name

    @property
    def label(self) -> str:
        """Its name among those of all systems."""
        return self.name if self.system in ("", self.name) else f"{self.system}.{self.name}"

    @property
    def command(self) -> str:
        """What trains it, behind `allmrec train RUN`."""
        return f" --system {self.system}" if self.system else ""

    @property
    def key(self) -> str:
        """A hash over all of it; equal keys mean equal results."""
        parts = {"format": FORMAT_VERSION, "name": self.name, "config": self.config, "inputs": self.all_inputs}
        return content_hash(json.dumps(parts, sort_keys=True))

    @property
    def all_inputs(self) -> dict[str, str]:
        """The inputs with the parents' keys."""
        return {**self.inputs, **{name: parent.key for name, parent in self.parents.items()}}


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind."""

    weights: Mapping[str, Tensor]
    log: Mapping[str, Any]
    extra: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def stage_is_current(run: Path, stage: Stage) -> bool:
    """Whether the stage stands there, made of just these inputs; with a manifest that cannot be read it does not.

    Raises:
        ArtifactError: it has another format, which must not be trained over.
    """
    path = run / stage.place / "manifest.json"
    try:
        manifest = read_json(path)
    except ArtifactError:
        return False
    check_format(manifest, path)
    return bool(manifest.get("key") == stage.key)


def check_format(about: Mapping[str, Any], path: Path) -> None:
    """Refuse a file of another format.

    Raises:
        ArtifactError: this version of allmrec does not read that format.
    """
    found = about.get("format")
    if type(found) is not int or found != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format {found!r}; this version of allmrec reads format {FORMAT_VERSION}. Use the version that wrote "
            "it, or train into a new folder; if the file was damaged, remove it and train again."
        )


def damaged_files(run: Path, stage: Stage) -> list[Path]:
    """Files of a stage that are not what its manifest says; all of them are read."""
    folder = run / stage.place
    expected = read_json(folder / "manifest.json").get("files")
    if not isinstance(expected, dict) or "weights.safetensors" not in expected or not all(map(_is_plain, expected)):
        return [folder / "manifest.json"]
    return [path for name in expected if not _is_whole(path := folder / name, expected[name])]


def write_stage(run: Path, stage: Stage, result: StageResult, started: float) -> None:
    """Write a stage's folder, whole or not at all.

    Args:
        run: the run's folder.
        stage: what was run.
        result: trained weights, log, and further tensors by file name.
        started: `time.monotonic()` at the stage's start.
    """
    (run / stage.place).parent.mkdir(parents=True, exist_ok=True)
    with atomic_directory(run / stage.place) as folder:
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
                "inputs": stage.all_inputs,
                "files": {f"{name}.safetensors": file_hash(folder / f"{name}.safetensors") for name in files},
                "versions": versions(),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - started, 1),
                "peak_memory": peak_memory(),
            },
        )


def stage_record(run: Path, stage: Stage) -> dict[str, Any]:
    """What a stage's manifest and log say of its making: `seconds`, `peak_memory` (bytes), `trained_parameters`.

    What an older version did not write down is missing.

    Raises:
        ArtifactError: the stage is missing or of other inputs, or what it says is no number.
    """
    folder = run / stage.place
    again = f"allmrec train {run}{stage.command}"
    try:
        log = read_json(folder / "log.json")
    except ArtifactError as error:
        raise ArtifactError(f"{error} To train that stage again, remove {folder} and run: {again}") from error
    found: dict[str, Any] = {}
    for path, about in ((folder / "log.json", log), (folder / "manifest.json", _manifest(run, stage))):
        for name in ("seconds", "peak_memory", "trained_parameters"):
            value = about.get(name)
            if value is not None and not (type(value) in (int, float) and 0 <= value < float("inf")):
                raise ArtifactError(
                    f"{path} has {name} = {value!r}; expected a number. Restore it, or remove {folder} and train that stage again: "
                    f"{again}"
                )
            if name in about:
                found[name] = value
    return found


def tidy(run: Path) -> None:
    """Remove what killed processes left in a run's folder, and bring back a stage whose replacement was cut off.

    Args:
        run: the run's folder, which the caller holds (`core.locking`).
    """
    for folder in (run, run / SYSTEMS_FOLDER, *(run / SYSTEMS_FOLDER).glob("*/")):
        for retired in folder.glob(".*.retired"):
            recover(folder / retired.name[1:].removesuffix(".retired"))
        # Only a process that holds the run writes whole folders and run.json.
        begun = {entry.name[1:].removesuffix(".tmp").rpartition(".")[0] for entry in folder.glob(".*.tmp/")}
        sweep(folder, {*begun, "run.json"})
    sweep(run / ".resume")
    # Reports and protocols are written without holding the run, and in a moment.
    sweep(run, older_than=3600)


def check_stage(run: Path, stage: Stage) -> None:
    """Make sure that a stage can be read, without reading its tensors.

    Raises:
        ArtifactError: the stage is missing, of other inputs, of another format, or damaged.
    """
    _manifest(run, stage)
    for path in damaged_files(run, stage):
        raise _damaged(run, stage, path)


def read_stage(run: Path, stage: Stage, name: str = "weights") -> dict[str, Tensor]:
    """Read one of a stage's files after checking that it is what the manifest says.

    Raises:
        ArtifactError: the stage is missing, of other inputs, of another format, or damaged.
    """
    path = run / stage.place / f"{name}.safetensors"
    files = _manifest(run, stage).get("files")
    if not isinstance(files, dict) or not _is_whole(path, files.get(path.name)):
        raise _damaged(run, stage, path)
    tensors = read_tensors(path)
    check_finite(tensors, path)
    return tensors


def content_checked(run: Path, stage: Stage, name: str = "weights") -> AbstractContextManager[None]:
    """For a block that makes something of a stage's file: what does not fit becomes an ArtifactError that names the file."""
    path = run / stage.place / f"{name}.safetensors"
    return content_of(
        path, f"To train that stage again, remove {path.parent} and run: allmrec train {run}{stage.command}"
    )


def stage_files(run: Path, stage: Stage) -> list[Path]:
    """The files that make up a stage, as its manifest lists them, manifest, configuration and log among them.

    Raises:
        ArtifactError: the stage is missing, of other inputs, or damaged, or one of them is a link to another place.
    """
    check_stage(run, stage)
    folder = run / stage.place
    names = [*_manifest(run, stage)["files"], "config.json", "log.json", "manifest.json"]
    # A model hub's cache keeps content beside the snapshots and links to it.
    cache = run.parent.parent / "blobs" if run.parent.name == "snapshots" else None
    for path in (folder / name for name in names):
        inside = cache is not None and cache.resolve() in path.resolve().parents
        if not path.is_file() or (path.is_symlink() and not inside):
            raise ArtifactError(
                f"{path} is {'a link' if path.is_symlink() else 'no file'}; expected a file of the run itself. To train that "
                f"stage again, remove {folder} and run: allmrec train {run}{stage.command}"
            )
    return [folder / name for name in names]


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file in its folder, and of no other place."""
    return name not in ("", ".", "..") and not any(sign in name for sign in "/\\\0")


def _manifest(run: Path, stage: Stage) -> dict[str, Any]:
    """The manifest of a stage that was made of just these inputs."""
    folder = run / stage.place
    path = folder / "manifest.json"
    if not path.is_file():
        raise ArtifactError(
            f"{run} has no stage {stage.label!r}: {path} does not exist. Run: allmrec train {run}{stage.command}"
        )
    manifest = read_json(path)
    check_format(manifest, path)
    if manifest.get("key") != stage.key:
        raise ArtifactError(
            f"{folder} was made of other inputs than the run now has: {path} names another key than {run / 'run.json'}, "
            f"the data and the earlier stages give. Run: allmrec train {run}{stage.command}"
        )
    return manifest


def _damaged(run: Path, stage: Stage, path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} is missing or damaged: its content is not what {path.with_name('manifest.json')} says. To train that "
        f"stage again, run: allmrec train {run}{stage.command}"
    )


def _is_whole(path: Path, expected: object) -> bool:
    return path.is_file() and file_hash(path) == expected
