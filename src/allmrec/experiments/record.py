"""An experiment's own file, `experiment.json`: the plan as it was understood, its data, how it was called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from allmrec.core.artifacts import read_json, write_dense_json
from allmrec.core.config import parse_config
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.locking import LOCK_NAME
from allmrec.core.places import check_folder, path_from
from allmrec.experiments.plan import Plan

__all__ = ["FILE", "Record", "check_free", "record_before"]

FILE = "experiment.json"
_KIND, _FORMAT = "allmrec experiment", 1


# What stands there before the record does, if the command was killed early on; and all that ever does.
_EARLY = ("data", LOCK_NAME)
_OURS = (
    FILE,
    *_EARLY,
    "stages",
    "cells",
    "protocols",
    "groups",
    "configs",
    "logs",
    "work",
    "failed",
    "report.md",
    "report.html",
)


def check_free(folder: Path) -> None:
    """Make sure that an experiment may be written here; nothing is written.

    Raises:
        ConfigError: the folder holds something else.
    """
    check_folder(folder)
    strange = folder.exists() and any(e.name not in _EARLY and e.suffix != ".tmp" for e in folder.iterdir())
    if strange and not (folder / FILE).is_file():
        raise ConfigError(f"{folder} exists and is no experiment. Give another folder with -o.")


@dataclass(frozen=True)
class Record:
    """What an experiment is.

    Attributes:
        plan: the plan.
        data: folder of each prepared data set.
        keys: of each cell by its name; results of other keys belong to a plan of before.
        command: how it was called.
        commit: of the code; none where it is not known.
        stages: folder of trained stages, which several experiments may share; none: the experiment's own.
        results: folder of what cells found, likewise.
    """

    plan: Plan
    data: Mapping[str, Path]
    keys: Mapping[str, str]
    command: str
    commit: str | None
    stages: Path | None = None
    results: Path | None = None

    def stages_in(self, folder: Path) -> Path:
        """Where trained stages are, of an experiment in `folder`."""
        return folder / "stages" if self.stages is None else self.stages

    def results_in(self, folder: Path) -> Path:
        """Where results are, of an experiment in `folder`."""
        return folder if self.results is None else self.results

    def write(self, folder: Path) -> None:
        """Keep it. Paths lead from the folder, which may be moved together with its data."""
        write_dense_json(
            folder / FILE,
            {
                "kind": _KIND,
                "format": _FORMAT,
                "plan": self.plan.with_paths_from(folder).model_dump(mode="json"),
                "data": {name: path_from(place, folder) for name, place in self.data.items()},
                "keys": dict(self.keys),
                "command": self.command,
                "commit": self.commit,
                "stages": None if self.stages is None else path_from(self.stages, folder),
                "results": None if self.results is None else path_from(self.results, folder),
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            ArtifactError: the folder is no experiment, or damaged.
        """
        path = folder / FILE
        about = read_json(path)
        if about.get("kind") != _KIND or about.get("format") != _FORMAT:
            raise ArtifactError(
                f"{path} is no experiment of format {_FORMAT}; expected what `allmrec experiment` wrote."
            )
        try:
            plan = parse_config(Plan, about["plan"], str(path)).with_whole_paths(folder)
            places = {name: (folder / place).resolve() for name, place in about["data"].items()}
            stages, shared = (
                None if about.get(name) is None else (folder / about[name]).resolve() for name in ("stages", "results")
            )
            keys = dict(about["keys"])
            if not all(isinstance(key, str) for key in keys.values()):
                raise TypeError("a key is no text")
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is damaged ({error}). Run `allmrec experiment` with the plan again."
            ) from error
        return cls(plan, places, keys, str(about.get("command")), about.get("commit"), stages, shared)


def record_before(folder: Path, log: Callable[[str], None]) -> Record | None:
    """What a folder that is about to be measured in was so far; none where it was nothing, or its record is damaged.

    Args:
        folder: the experiment's.
        log: takes a line about a record that is damaged, which the caller writes anew.

    Raises:
        ArtifactError: the file is something else, or of another format.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        return Record.read(folder)
    except ArtifactError:
        if not _is_damaged(folder):
            raise
    log(
        f"{folder / FILE} is damaged and is written anew, with the plan that is given. What is done is kept; where stages or results "
        "are elsewhere, name their folders again (--stages, --results)."
    )
    return None


def _is_damaged(folder: Path) -> bool:
    """Whether what cannot be read was a record of ours: it says so, or nothing but ours stands beside."""
    try:
        about = read_json(folder / FILE)
    except ArtifactError:
        return all(entry.name in _OURS or entry.suffix == ".tmp" for entry in folder.iterdir())
    return (about.get("kind"), about.get("format")) == (_KIND, _FORMAT)
