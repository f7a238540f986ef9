"""Cells of all plans in one pool of processes, for a machine that is lent for minutes.

    python -m benchmarks.experiment_pool list POOL.json
    python -m benchmarks.experiment_pool run POOL.json --jobs 15 --minutes 9 --device cuda

`list` writes the record of each entry of `experiments.toml` into `benchmarks/results/experiments/EXPERIMENT`, as `allmrec experiment` would, and the list of cells in the
order in which they are wanted. `run` does them; with `--only long` those of language models and RECFORMER, which two cores take hours
for, with `--only short` the others. Its processes are forked from one that has loaded the libraries, which costs ten seconds a cell
otherwise; each cell is the same job that `allmrec experiment` starts. Cells that miss the same stage are not done at once. What is done
already is left alone.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shlex
import signal
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from allmrec.core.artifacts import read_json, write_json
from allmrec.core.checkout import code_commit
from allmrec.experiments.cells import Cell
from allmrec.experiments.plan import Plan, load_plan
from allmrec.experiments.provenance import BESIDE
from allmrec.experiments.record import Record
from allmrec.experiments.results import Results
from allmrec.experiments.scheduler import all_cells, data_folders, with_nearest
from allmrec.experiments.stage_store import StageStore
from allmrec.recipes.files import parse_changes
from allmrec.systems.registry import system_kind
from benchmarks.experiments import FOLDER, STAGES, Measured, measured, settings

LONG = ("allmrec", "mlp-llm", "tallrec", "allmrec-sbert", "late-fusion-llm", "llm-srec", "recformer")


def plan_of(one: Measured, data: Path) -> Plan:
    """An experiment's plan with its data and cuts."""
    return load_plan(
        one.plan,
        {
            "data": {name: {"path": str((data / name).resolve())} for name in one.data},
            "changes": parse_changes(one.set),
            "seeds": one.seeds,
            "users": one.users or None,
            "users_of": one.users_of,
            "seeds_of": one.seeds_of,
            "without": list(one.without),
        },
    )


def wanted(cell: Cell, plan: str) -> tuple[int, ...]:
    """The place of a cell in the queue: one seed before the rest, Tables 1 and 4 before others, what trains before what trains on."""
    return cell.seed, plan not in ("table1", "table4"), LONG.index(cell.system) if cell.system in LONG else len(LONG)


def write_list(path: Path, results: Path, data: Path) -> None:
    """Records of all experiments, and the queue."""
    queue = []
    for one in measured(settings()):
        plan, folder = plan_of(one, data), (results / one.name).resolve()
        places = data_folders(plan, folder, print)
        cells = all_cells(plan, places)
        asked = shlex.join(["allmrec", *one.command(data)[1:]])
        keys = {waiting.cell.id: waiting.key for waiting in cells}
        shared = (STAGES.resolve(), results.resolve())
        Record(with_nearest(plan, places), places, keys, asked, code_commit(), *shared).write(folder)
        for waiting in cells:
            cell = waiting.cell
            long = system_kind(cell.system).prompted or cell.system in LONG
            entry = {"experiment": one.name, "cell": cell.id, "key": waiting.key, "long": long}
            queue.append((wanted(cell, one.plan), entry | {"stages": sorted(waiting.stages)}))
        print(f"{one.name}: {len(cells)} cells")
    queue.sort(key=lambda entry: entry[0])
    write_json(path, {"cells": [entry for _, entry in queue]})
    print(f"{len(queue)} cells in {path}")


def read_list(path: Path) -> list[dict[str, Any]]:
    """The cells of a queue, in their order."""
    cells: list[dict[str, Any]] = read_json(path)["cells"]
    return cells


def started(entry: dict[str, Any], results: Path, device: str, spawn: bool) -> int:
    """Start a process that does a cell, forked from this one or new; its number."""
    folder = results / entry["experiment"]
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "logs" / f"{entry['cell']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    job = [str(folder), entry["cell"], entry["key"], device]
    if spawn:
        words = [sys.executable, "-m", "allmrec.experiments.job", *job]
        actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2), (os.POSIX_SPAWN_CLOSE, log)]
        child = os.posix_spawn(sys.executable, words, os.environ, file_actions=actions, setsid=True)
    else:
        child = os.fork()
    if child:
        os.close(log)
        return child
    status = 1
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        from allmrec.experiments.job import main as do

        status = do(job)
        sys.stdout.flush()
    finally:
        os._exit(status)


def preload() -> None:
    """Load what cells load. None of it may start a thread or touch the device."""
    import allmrec

    for module in pkgutil.walk_packages(allmrec.__path__, "allmrec."):
        if not module.name.startswith(("allmrec.serve", "allmrec.bulk", "allmrec.client", "allmrec.cli")):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                print(f"not loaded: {module.name} ({error})")
    for name in (
        "peft",
        "sentence_transformers",
        "transformers.models.llama.modeling_llama",
        "transformers.models.bert.modeling_bert",
    ):
        importlib.import_module(name)


def keep(results: Path, out: Path | None) -> None:
    """Everything that was found, in one file."""
    if out is None:
        return
    beside = out.with_suffix(".tmp")
    with tarfile.open(beside, "w:gz") as archive:
        for path in sorted([*results.glob("*/*"), *results.glob("*/logs/*"), *results.glob("*/failed/*")]):
            if path.is_file():
                archive.add(path, path.relative_to(results))
    beside.replace(out)


def run(
    path: Path, results: Path, jobs: int, minutes: float, device: str, only: str, out: Path | None, spawn: bool
) -> None:
    """Do cells of a queue, until the time is over."""
    begun = time.monotonic()
    os.environ[BESIDE] = str(jobs)
    there = Results(results)
    queue = [one for one in read_list(path) if not there.has(one["key"])]
    queue = [one for one in queue if only in ("all", "long" if one["long"] else "short")]
    if not spawn:
        preload()
    print(f"{time.monotonic() - begun:.0f} s: {len(queue)} cells to do", flush=True)
    stores = {
        name: Record.read(results / name).stages_in(results / name) for name in {one["experiment"] for one in queue}
    }
    store, running, kept, again = {name: StageStore(at) for name, at in stores.items()}, {}, time.monotonic(), set()
    done = failed = 0
    while (queue or running) and time.monotonic() - begun < 60 * minutes:
        for child in list(running):
            number, status = os.waitpid(child, os.WNOHANG)
            if number:
                entry, at = running.pop(child)
                good = status == 0
                done, failed = done + good, failed + (not good)
                print(
                    f"{time.monotonic() - begun:.0f} s: {entry['experiment']} {entry['cell']}: "
                    f"{'done' if good else 'FAILED'} in {time.monotonic() - at:.0f} s",
                    flush=True,
                )
                if not good and entry["cell"] + entry["experiment"] not in again:
                    again.add(entry["cell"] + entry["experiment"])
                    queue.append(entry)
        if failed > max(12, done):
            print("too many failed", flush=True)
            break
        busy = {
            key for entry, _ in running.values() for key in entry["stages"] if key not in store[entry["experiment"]]
        }
        # An equal cell of another experiment is done with the one that is running.
        busy |= {entry["key"] for entry, _ in running.values()}
        ready = next((one for one in queue if not any(key in busy for key in (one["key"], *one["stages"]))), None)
        if ready is not None and len(running) < jobs:
            queue.remove(ready)
            running[started(ready, results, device, spawn)] = (ready, time.monotonic())
        else:
            time.sleep(0.1)
        if time.monotonic() - kept > 60:
            keep(results, out)
            kept = time.monotonic()
    for child in running:
        os.kill(child, signal.SIGKILL)
    keep(results, out)
    print(
        f"{time.monotonic() - begun:.0f} s: {done} done, {failed} failed, {len(queue) + len(running)} left", flush=True
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("list", "run"))
    parser.add_argument("pool", type=Path)
    parser.add_argument("--results", type=Path, default=FOLDER, help="Folder of the experiments.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="Folder of the prepared sets.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600.0, help="End then, whatever is not done.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=("all", "long", "short"), default="all")
    parser.add_argument("--spawn", action="store_true", help="New processes instead of forked ones.")
    parser.add_argument("--out", type=Path, help="A file for all that was found, written every minute.")
    arguments = parser.parse_args()
    if arguments.what == "list":
        write_list(arguments.pool, arguments.results, arguments.data)
    else:
        run(
            arguments.pool,
            arguments.results,
            arguments.jobs,
            arguments.minutes,
            arguments.device,
            arguments.only,
            arguments.out,
            arguments.spawn,
        )


if __name__ == "__main__":
    main()
