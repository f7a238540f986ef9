"""Runs cells, each in a process of its own, several at a time; what is done already is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from allmrec.core.errors import ArtifactError
from allmrec.core.progress import progress_bar
from allmrec.data.build import prepare_source
from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.cells import Cell, Prepared
from allmrec.experiments.cross_domain import check_across
from allmrec.experiments.failures import Failures
from allmrec.experiments.genres import check_genres, check_speaks
from allmrec.experiments.paper import nearest_set, paper_sets
from allmrec.experiments.plan import BASE, Plan
from allmrec.experiments.provenance import BESIDE
from allmrec.experiments.record import Record
from allmrec.experiments.scenario_config import CrossDomainConfig
from allmrec.experiments.stage_store import StageStore
from allmrec.pipeline.run import Log

__all__ = ["Waiting", "all_cells", "data_folders", "run_cells", "with_nearest"]

_SECONDS_BETWEEN_LOOKS = 0.2
_LAST_LINES = 12


@dataclass(frozen=True)
class Waiting:
    """A cell that is to be done, or is.

    Attributes:
        cell, key: which.
        stages: keys of the stages that it needs.
    """

    cell: Cell
    key: str
    stages: frozenset[str]


def data_folders(plan: Plan, folder: Path, log: Log) -> dict[str, Path]:
    """Folders of a plan's data sets; raw files are prepared into the experiment's folder unless they are there already.

    Raises:
        ConfigError, DataError: a source's option or a file is wrong.
    """
    found = {}
    for name, data in plan.data.items():
        if data.path is not None:
            found[name] = Path(data.path)
            continue
        found[name] = folder / "data" / name
        made = prepare_source(str(data.source), data.options, data.prepare)
        if _content(found[name]) != made.content_hash:
            made.save(found[name])
            log(f"{name}: {made.n_users:,} users, {made.n_items:,} items, {made.n_interactions:,} interactions")
    return found


def _content(folder: Path) -> str | None:
    try:
        return InteractionDataset.load(folder).content_hash
    except ArtifactError:
        return None


def all_cells(plan: Plan, folders: dict[str, Path]) -> list[Waiting]:
    """All cells of a plan with their keys. Whatever cannot be is refused here, before anything is trained.

    Raises:
        ConfigError, DataError, ArtifactError: a cell cannot be; the message names it.
    """
    if any(isinstance(scenario, CrossDomainConfig) for scenario in plan.scenarios.values()):
        for _, system in plan.asked:
            check_across(system)
    prepared = Prepared(plan, {name: InteractionDataset.load(folder) for name, folder in folders.items()})
    if plan.ask == "genres":
        for variant, system in plan.asked:
            check_speaks(system, variant != BASE and plan.variants[variant].exchanged_vectors)
        for name, dataset in prepared.datasets.items():
            check_genres(name, dataset)
    return [Waiting(cell, prepared.key(cell), frozenset(prepared.stages(cell))) for cell in prepared.cells]


def with_nearest(plan: Plan, folders: dict[str, Path]) -> Plan:
    """The plan with the paper's set that stands beside each data set, so that tables are the same where the data are gone.

    Raises:
        ConfigError, ArtifactError: there are no figures of the paper's table, or a data set cannot be read.
    """
    if plan.paper is None:
        return plan
    sets = paper_sets(plan.paper.table)
    data = {
        name: one.model_copy(
            update={"nearest": one.nearest or nearest_set(InteractionDataset.load(folders[name]).summary(), sets)}
        )
        for name, one in plan.data.items()
    }
    return plan.model_copy(update={"data": data})


def run_cells(
    folder: Path, waiting: Sequence[Waiting], done: int, log: Log, jobs: int = 1, device: str = "auto"
) -> list[Cell]:
    """Do cells, so many at a time. Two that miss the same stage are not done at once: the second takes what the first trained.

    Args:
        folder: the experiment's, its record written.
        waiting: what is to be done, in this order.
        done: how many cells lie behind already, for the bar.
        log: takes a line about each cell.
        jobs: processes at a time.
        device: where.

    Returns:
        Those that failed.

    Raises:
        KeyboardInterrupt: after the processes have been stopped.
    """
    store, left, failed = StageStore(Record.read(folder).stages_in(folder)), list(waiting), []
    running: dict[subprocess.Popen[bytes], tuple[Waiting, float]] = {}
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with progress_bar("cells", done + len(left), done) as bar:
        try:
            while left or running:
                for process in [process for process in running if process.poll() is not None]:
                    one, begun = running.pop(process)
                    spent = f"{time.monotonic() - begun:.0f} s"
                    if process.returncode == 0:
                        log(f"{one.cell.words}: done in {spent}")
                    else:
                        failed.append(one.cell)
                        _note_failure(folder, one.cell, process.returncode)
                        log(f"{one.cell.words}: failed after {spent}; see {folder / 'logs' / one.cell.id}.log")
                    bar.advance(1, f"{len(failed)} failed" if failed else "")
                busy = {key for one, _ in running.values() for key in one.stages if key not in store}
                # Nor two that are equal: the second takes the first's result.
                equal = {one.key for one, _ in running.values()}
                ready = [one for one in left if one.key not in equal and not one.stages & busy]
                if ready and len(running) < jobs:
                    left.remove(ready[0])
                    running[_started(folder, ready[0], jobs, device)] = (ready[0], time.monotonic())
                    bar.advance(0, "; ".join(one.cell.words for one, _ in running.values()))
                else:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            _stop(list(running))
    return failed


def _started(folder: Path, one: Waiting, jobs: int, device: str) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {
        "OMP_NUM_THREADS": threads,
        **os.environ,
        BESIDE: str(jobs),
        "ALLMREC_PROGRESS": os.environ.get("ALLMREC_PROGRESS", "1"),
    }
    words = [sys.executable, "-m", "allmrec.experiments.job", str(folder), one.cell.id, one.key, device]
    Failures(folder).forget(one.cell)
    with (folder / "logs" / f"{one.cell.id}.log").open("ab") as file:
        # A group of its own: Ctrl-C reaches this process, which then stops it in peace.
        return subprocess.Popen(  # noqa: S603  # this program itself
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _note_failure(folder: Path, cell: Cell, code: int) -> None:
    """A process that was killed could keep no reason itself."""
    failures = Failures(folder)
    if failures.read(cell) is None:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
        hint = "; the system ends processes so when memory runs out" if code == -signal.SIGKILL else ""
        lines = (folder / "logs" / f"{cell.id}.log").read_text("utf-8", errors="replace").splitlines()
        last = "\n".join(["The last it said:", *lines[-_LAST_LINES:]]) if lines else ""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        failures.write(cell, {"message": f"The cell's process {how}{hint}.", "traceback": last, "date": date})


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes as Ctrl-C would, so that each keeps what it has; those that do not listen are killed."""
    for process in running:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 30
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
