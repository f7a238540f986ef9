"""Stages that cells of an experiment share: each is trained by whoever needs it first, and then linked into all runs.

stages/KEY/             a stage's folder as a run has it, and `fingerprints.json` of the frozen models behind it
stages/.KEY.lock        held by the cell that is training it
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from allmrec.core.artifacts import atomic_directory, read_json, sweep, write_json
from allmrec.core.distributed import processes
from allmrec.core.errors import ArtifactError
from allmrec.pipeline import schedule
from allmrec.pipeline.run import Log, Run, StageKind
from allmrec.pipeline.schedule import in_order
from allmrec.store.stages import Stage, damaged_files
from allmrec.systems.registry import system_kind

__all__ = ["StageStore"]

_FINGERPRINTS = "fingerprints.json"


class StageStore:
    """A folder of stages by their keys.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, key: object) -> bool:
        return (self._folder / str(key) / "manifest.json").is_file()

    def train(self, run: Run, systems: Sequence[str], log: Log) -> list[str]:
        """Bring all stages that systems need into a run: from here, or trained now and left here for others.

        Args:
            run: of this process alone.
            systems: names of SYSTEMS.
            log: takes a line about each stage.

        Returns:
            Labels of the stages that were trained now.

        Raises:
            ConfigError, ModelNotFoundError, DataError, DivergedError: as `train_systems`.
        """
        jobs = [system_kind(name).job(run) for name in systems]
        wanted = [(of, kind) for of, kinds in jobs for kind in in_order(of.config, kinds)]
        return [of.stage(kind).label for of, kind in wanted if self._bring(of, kind, log)]

    def _bring(self, run: Run, kind: StageKind, log: Log) -> bool:
        """One stage whose parents are there; whether it was trained now."""
        stage = run.stage(kind)
        if run.folder.has(stage) and not run.folder.damaged(stage):
            self._keep(run, stage)
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f".{stage.key}.lock"):
            sweep(self._folder, {stage.key})
            if self._take(run, stage):
                log(f"{stage.label}: shared with other cells")
                return False
            schedule.train([(run, [kind])], log)
            self._keep(run, stage)
            return True

    def _take(self, run: Run, stage: Stage) -> bool:
        """Link a stage from here into a run; one that is not whole here counts as not there."""
        here = self._folder / stage.key
        if not (here / "manifest.json").is_file():
            return False
        try:
            known = read_json(here / _FINGERPRINTS)
            read_json(here / "log.json")  # a cell's costs and curves come of it
        except ArtifactError:
            shutil.rmtree(here)
            return False
        place = run.path / stage.place
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_directory(place) as folder:
            _link_all(here, folder)
        if not run.folder.has(stage) or damaged_files(run.path, stage):
            shutil.rmtree(place)
            shutil.rmtree(here)
            return False
        with run.folder.held(processes(run.device)):
            run.folder.add_fingerprints({name: str(value) for name, value in known.items()})
        return True

    def _keep(self, run: Run, stage: Stage) -> None:
        """Leave a run's stage here for others."""
        if stage.key in self:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_directory(self._folder / stage.key) as folder:
            _link_all(run.path / stage.place, folder)
            write_json(folder / _FINGERPRINTS, run.folder.fingerprints())


def _link_all(source: Path, target: Path) -> None:
    """A folder's own files in another one, without taking their room twice where the disk knows links."""
    for path in source.iterdir():
        if path.is_file() and path.name != _FINGERPRINTS:
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)
