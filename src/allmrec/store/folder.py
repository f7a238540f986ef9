"""A run's folder on disk: its data, `run.json`, its stages, and which process holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from allmrec.core.artifacts import read_json, space_checked, write_json
from allmrec.core.distributed import Processes, processes
from allmrec.core.errors import ArtifactError, ConfigError, RunInUseError
from allmrec.core.locking import LOCK_NAME, held
from allmrec.core.places import check_folder
from allmrec.core.resume import Checkpoint
from allmrec.data.interactions import InteractionDataset
from allmrec.store.stages import (
    FORMAT_VERSION,
    SYSTEMS_FOLDER,
    Stage,
    StageResult,
    check_format,
    check_stage,
    content_checked,
    damaged_files,
    read_stage,
    stage_is_current,
    tidy,
    write_stage,
)

__all__ = ["RunFolder", "RunRecord"]

# Bytes of a prepared data set above which a run names its folder in place of a copy.
_COPIED = 1 << 30


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` says.

    Attributes:
        data_hash: of the data that the run is trained on.
        config: the whole configuration as plain values.
        published: of a saved recommender: fingerprints of frozen models, added items, the catalogue's hash.
        start: of a run that goes on from an earlier one: which, and from which of its stages.
        fingerprints: of frozen models, by what they are for and their name.
    """

    data_hash: str
    config: Mapping[str, Any]
    published: Mapping[str, Any] | None = None
    start: Mapping[str, Any] | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        about = {"format": FORMAT_VERSION, "data_hash": self.data_hash, "config": dict(self.config)}
        if self.fingerprints:
            about["fingerprints"] = dict(self.fingerprints)
        parts = {"published": self.published, "start": self.start}
        return about | {name: dict(part) for name, part in parts.items() if part is not None}


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: `run.json`, a copy of the data or where it lies, and one folder a stage.

    Attributes:
        path: the folder.
        save_every: seconds between two writes of an unfinished stage's resume state.
    """

    path: Path
    save_every: float = 60.0

    def check_free(self, dataset: InteractionDataset) -> None:
        """Make sure that a run of this data may be written here; nothing is written.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
        """
        path = self.path
        check_folder(path)
        if path.exists() and any(entry.suffix != ".tmp" and entry.name != LOCK_NAME for entry in path.iterdir()):
            if not (path / "run.json").is_file():
                raise ConfigError(f"{path} exists and is no run of allmrec. Give another folder with -o.")
            found = read_json(path / "run.json").get("data_hash")
            if found != dataset.content_hash:
                raise ConfigError(
                    f"{path} is a run of other data ({str(found)[:12]}) than the data given "
                    f"({dataset.content_hash[:12]}). Give another folder with -o; if this is the same data with more in it, "
                    f"`allmrec train --from {path}` goes on from this run."
                )

    def start(self) -> Mapping[str, Any] | None:
        """What an earlier call wrote of the run that this one goes on from, where there is any."""
        path = self.path / "run.json"
        return read_json(path).get("start") if path.is_file() else None

    def keep(self, record: RunRecord, dataset: InteractionDataset, device: str) -> None:
        """Write `run.json` and, where it is not there yet, the data.

        Raises:
            RunInUseError: another process is training the run.
        """
        here = processes(device)
        with here.main_first():
            if here.is_main:
                with space_checked(self.path), held(self.path):
                    tidy(self.path)
                    # What is known of frozen models stays: stages that stand there were trained with them.
                    known = {**self.fingerprints(), **record.fingerprints}
                    referred = self._referred(dataset)
                    refers = {} if referred is None else {"data": str(referred)}
                    write_json(self.path / "run.json", replace(record, fingerprints=known).as_json() | refers)
                    # Behind run.json, so that a command that was killed in between finds its own folder and goes on.
                    if referred is None and not (self.path / "data" / "manifest.json").is_file():
                        dataset.save(self.path / "data")

    def _referred(self, dataset: InteractionDataset) -> Path | None:
        """The folder of a large data set, which the run refers to; None where the run has, or gets, a copy of its own."""
        if (self.path / "data" / "manifest.json").is_file() or dataset.folder is None:
            return None
        try:
            size = sum(file.stat().st_size for file in dataset.folder.iterdir() if file.is_file())
            same = read_json(dataset.folder / "manifest.json").get("content_hash") == dataset.content_hash
        except (OSError, ArtifactError):
            return None
        return dataset.folder if same and size > _COPIED else None

    @property
    def data(self) -> Path:
        """The folder of the run's data: its own, or one that `run.json` names.

        Raises:
            ArtifactError: what `run.json` says of it is nothing useful.
        """
        named = read_json(self.path / "run.json").get("data")
        if named is None:
            return self.path / "data"
        if not isinstance(named, str) or not named or "\x00" in named:
            raise ArtifactError(
                f"{self.path / 'run.json'}: data is {str(named)[:60]!r}; expected a folder. Restore the file."
            )
        return Path(named)

    def read(self) -> tuple[RunRecord, InteractionDataset]:
        """What the folder says of itself, and its data.

        Raises:
            ArtifactError: it is no run, or damaged.
        """
        path = self.path
        if not (path / "run.json").is_file():
            there = "has no run.json" if path.is_dir() else "does not exist"
            raise ArtifactError(f"{path} {there}; expected the folder of a run. Make one: allmrec train DATA -o {path}")
        if any(any(path.glob(where)) for where in (".*.retired", f"{SYSTEMS_FOLDER}/**/.*.retired")):
            # A process was killed while it put a new stage in an old one's place. If one is doing so now, it goes on.
            with suppress(RunInUseError), held(path):
                tidy(path)
        about = read_json(path / "run.json")
        check_format(about, path / "run.json")
        settings, published = about.get("config"), about.get("published")
        if not isinstance(settings, dict):
            raise ArtifactError(f"{path / 'run.json'} has no config; restore it, or train again with -o.")
        if published is not None and not _is_published(published):
            raise ArtifactError(
                f"{path / 'run.json'} says nothing useful of what was saved; save the recommender again."
            )
        data = self.data
        if data != path / "data" and not data.is_dir():
            raise ArtifactError(
                f"{path} refers to the data in {data}, which is large and was not copied, and there is nothing. Put it back there, or "
                f"let `data` in {path / 'run.json'} name where it lies now."
            )
        dataset = InteractionDataset.load(data)
        if dataset.content_hash != (about.get("data_hash") if published is None else published.get("catalogue_hash")):
            raise ArtifactError(f"{data} is not the data that {path / 'run.json'} names. Train again with -o.")
        return RunRecord(
            str(about.get("data_hash")), settings, published, about.get("start"), self.fingerprints()
        ), dataset

    def fingerprints(self) -> dict[str, str]:
        """Of the frozen models that the run was trained with, as `run.json` has them now; none before it is written.

        Raises:
            ArtifactError: they are not what this version writes.
        """
        path = self.path / "run.json"
        found = read_json(path).get("fingerprints", {}) if path.is_file() else {}
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ArtifactError(
                f"{path}: fingerprints is {str(found)[:60]!r}; expected a text a model. Restore the file."
            )
        return found

    def add_fingerprints(self, found: Mapping[str, str]) -> None:
        """Write down fingerprints of models that the run is about to be trained with; the run is held."""
        known = self.fingerprints()
        if not found.items() <= known.items():
            write_json(
                self.path / "run.json", {**read_json(self.path / "run.json"), "fingerprints": {**known, **found}}
            )

    @contextmanager
    def held(self, here: Processes) -> Iterator[None]:
        """Hold the run while it is trained, its folder tidied; the main process does for all.

        Raises:
            RunInUseError: another process holds it.
        """
        if not here.is_main:
            here.wait()
            yield
            return
        with held(self.path):
            tidy(self.path)
            here.wait()
            yield

    def has(self, stage: Stage) -> bool:
        """Whether a stage stands there, made of just these inputs."""
        return stage_is_current(self.path, stage)

    def damaged(self, stage: Stage) -> list[Path]:
        """Files of a stage that are not what its manifest says."""
        return damaged_files(self.path, stage)

    def check(self, stage: Stage) -> None:
        """Make sure that a stage can be read; see `check_stage`."""
        check_stage(self.path, stage)

    def tensors(self, stage: Stage, name: str = "weights") -> dict[str, Tensor]:
        """One of a stage's files; see `read_stage`."""
        return read_stage(self.path, stage, name)

    def write(self, stage: Stage, result: StageResult, started: float) -> None:
        """Write a stage's folder, and remove what was kept to resume it; see `write_stage`."""
        write_stage(self.path, stage, result, started)
        for state in (self.path / ".resume").glob(f"{stage.label}-*"):
            state.unlink()

    def content(self, stage: Stage, name: str = "weights") -> AbstractContextManager[None]:
        """For a block that makes something of a stage's file; see `content_checked`."""
        return content_checked(self.path, stage, name)

    def resume(self, stage: Stage) -> Checkpoint:
        """Where a stage that is not finished is kept; what was kept of the same stage with other inputs goes."""
        folder = self.path / ".resume"
        if folder.is_symlink():
            folder.unlink()  # what lies behind it is nobody's resume state
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{stage.label}-*.safetensors*"):
            if stage.key[:16] not in old.name:
                old.unlink(missing_ok=True)
        return Checkpoint(folder / f"{stage.label}-{stage.key[:16]}.safetensors", self.save_every)


def _is_published(about: object) -> bool:
    """Whether it is what `save_pretrained` says of a saved recommender."""
    if not isinstance(about, dict) or not isinstance(about.get("added"), list):
        return False
    frozen = about.get("frozen")
    return isinstance(frozen, dict) and all(
        isinstance(part, dict) and all(isinstance(part.get(name), str) for name in ("name", "fingerprint"))
        for part in (frozen.get("llm"), frozen.get("encoder"))
    )
