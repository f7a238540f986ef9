"""One cell in a process of its own: `python -m allmrec.experiments.job FOLDER CELL KEY DEVICE`. The command starts it.

work/CELL-KEY/    the cell's run while it is not done; a killed cell goes on there
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from allmrec.core.artifacts import read_json, versions
from allmrec.core.errors import AllmrecError
from allmrec.core.log import shown_on_stderr
from allmrec.core.memory import peak_memory
from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.asking import answered
from allmrec.experiments.cells import Cell, cell_config, cells_of, other_data, variant_of
from allmrec.experiments.cuts import TrainedOn, stage_limits
from allmrec.experiments.failures import Failures
from allmrec.experiments.genres import genre_users
from allmrec.experiments.provenance import device_name
from allmrec.experiments.record import Record
from allmrec.experiments.results import Results, curve
from allmrec.experiments.scenarios import situation
from allmrec.experiments.stage_store import StageStore
from allmrec.pipeline.run import Run
from allmrec.store.stages import stage_record
from allmrec.systems.evaluating import training_costs
from allmrec.systems.kinds import System

__all__ = ["do_cell", "main"]

# Seconds.
_PATIENCE = 60


def do_cell(folder: Path, cell: Cell, key: str, device: str = "auto") -> None:
    """Train what a cell needs and others have not trained, ask it, and keep what it answered.

    A cell that another experiment with the same results has measured is done already.

    Args:
        folder: the experiment's.
        cell, key: which.
        device: where.

    Raises:
        AllmrecError: the cell cannot be done; nothing of it is kept but what is finished.
    """
    record = Record.read(folder)
    results = Results(record.results_in(folder))
    with results.held(key):
        if results.has(key):
            print("measured already, as an equal cell", flush=True)
            _remove_work(folder, cell)
        else:
            _measure(folder, record, results, cell, key, device)
    Failures(folder).forget(cell)


def _measure(folder: Path, record: Record, results: Results, cell: Cell, key: str, device: str) -> None:
    started = time.monotonic()
    plan = record.plan
    scenario = plan.scenarios[cell.scenario]
    named = other_data(plan, cell.data, scenario)
    target = None if named is None else InteractionDataset.load(record.data[named])
    dataset = InteractionDataset.load(record.data[cell.data])
    able = genre_users if plan.ask == "genres" else None
    shuffled = variant_of(plan, cell).shuffled_training
    place = situation(scenario, dataset, cell.seed, plan.users, plan.candidates, target, able, shuffled)
    work = folder / "work" / f"{cell.id}-{key[:12]}"
    _remove_work(folder, cell, work)
    run = Run.create(work, place.train, cell_config(plan, cell), device)
    trained = StageStore(record.stages_in(folder)).train(run, [cell.system], partial(print, flush=True))
    found = answered(run, plan, cell, place, target)
    system, on = found.system, TrainedOn(place.train.n_users, place.train.n_interactions)
    about: dict[str, Any] = {
        "name": found.name,
        "note": found.note,
        "users": found.users,
        "users_there": place.asking.there,
        "users_per_second": found.users / found.seconds if found.seconds else None,
        # Stages that another cell trained had their peak in its process.
        "costs": (costs := training_costs(run, system))
        | {"peak_memory": max(costs.get("peak_memory", 0.0), float(peak_memory() or 0))},
        "process_memory": peak_memory(),
        "seconds": round(time.monotonic() - started, 1),
        "made_of": {stage.label: stage.key for stage in system.stages},
        "stage_seconds": _stage_seconds(run, system),
        "trained_here": trained,
        "trained_on": asdict(on),
        "limits": {stage.label: limits for stage in system.stages if (limits := stage_limits(stage.config, on))},
        "curves": _curves(run, system),
        "config": run.config.model_dump(mode="json"),
        "device": device_name(run.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": record.command,
        "commit": record.commit,
        "versions": versions(),
    }
    protocol, groups = place.asking.protocol, place.asking.groups
    results.write(cell, key, about, protocol, groups, found.found)
    shutil.rmtree(work)


def _remove_work(folder: Path, cell: Cell, kept: Path | None = None) -> None:
    """Remove a cell's runs of other keys."""
    for old in (folder / "work").glob(f"{cell.id}-*"):
        if old != kept:
            shutil.rmtree(old)


def _stage_seconds(run: Run, system: System) -> dict[str, float]:
    """How long each stage was trained, by label; what the run does not know is left out."""
    found = {stage.label: stage_record(run.path, stage).get("seconds") for stage in system.stages}
    return {label: float(seconds) for label, seconds in found.items() if seconds is not None}


def _curves(run: Run, system: System) -> dict[str, Any]:
    """Learning curves of what a system is made of, by stage."""
    found = {}
    for stage in system.stages:
        log = read_json(run.path / stage.place / "log.json")
        if log.get("records"):
            found[stage.label] = curve(log["records"])
    return found


def main(arguments: list[str]) -> int:
    """Do the cell that the command line names; what goes wrong is kept beside its results."""
    # Whoever started this may have been started with Ctrl-C ignored, as a job in the background is.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder, name, key, device = Path(arguments[0]), *arguments[1:]
    cell = {cell.id: cell for cell in cells_of(Record.read(folder).plan)}[name]
    try:
        # One that was begun by a command that was killed may take a moment to end.
        with shown_on_stderr(), FileLock(folder / "logs" / f".{cell.id}.lock", timeout=_PATIENCE):
            do_cell(folder, cell, key, device)
    except Timeout:
        _fail(
            folder,
            cell,
            "Another process is measuring this cell. Wait until it is done, or end it; then try again.",
            "",
        )
        return 1
    except AllmrecError as error:
        print(f"error: {error}", flush=True)
        _fail(folder, cell, str(error), "")
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a fault of ours or of a library: one cell must not take the others with it
        traceback.print_exc()
        _fail(folder, cell, f"{type(error).__name__}: {error}", traceback.format_exc())
        return 1
    return 0


def _end_with(parent: int) -> None:
    """End this process, with what it has kept, when the one that started it is gone: the next call does the cell again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
    os._exit(1)


def _fail(folder: Path, cell: Cell, message: str, trace: str) -> None:
    about: Mapping[str, Any] = {
        "message": message,
        "traceback": trace,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    Failures(folder).write(cell, about)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
