"""Recommendations for many users in one process, by `--engine ray`, and by Ray Data by hand: `python -m benchmarks.bulk_ray --run RUN`.

Ray Data needs `ray[data]`, so pandas, which nothing else here does; `benchmarks.bulk_ray_side` is what one writes by hand.
Each side is a command of its own that starts, loads the model, and writes the same users; by the clock, on all cores. `start` is the
same command for two users in blocks of one. Two sizes: `cf`, a CF model alone (SASRec, 64 numbers, 10,000 drawn items) and many drawn
users; `lm`, RUN's A-LLMRec and fewer users. Of each side the quickest of the turns counts, and the rows of all are compared with those of
one process and thread: actors, of one thread each, that write others end it. `harm` ends an actor in the middle of `cf`, and then the whole
command, which is given again, and counts rows.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from allmrec.library import open_run
from benchmarks.about import measured_by
from benchmarks.growth import in_child
from benchmarks.growth_bulk import trained
from benchmarks.processes import Watch
from benchmarks.tables import RESULTS, changing

TARGET = RESULTS / "bulk-ray.json"

_ALLMREC = [sys.executable, "-c", "from allmrec.cli import main; main()"]
# What an actor's process is called.
_ACTORS = {"ray": "ray::BlockActor", "ray-data": "ray::MapWorker", "ray-data-checkpoints": "ray::MapWorker"}
ALONE, SAME = "process-1", ("ray", "ray-data")


class Job:
    """Who is recommended for, by what.

    Args:
        run: folder of a trained run.
        system: of SYSTEMS.
        users: the first so many of its users.
        block: users of a block.
        folder: for what is written.
    """

    def __init__(self, run: Path, system: str, users: int, block: int, folder: Path) -> None:
        self.run, self.system, self.users, self.block, self.folder = run, system, users, block, folder
        self._ids = list(open_run(run, "cpu").dataset.users)[:users]

    def command(self, side: str, users: int, block: int, output: Path) -> list[str]:
        """The command of a side."""
        if side.startswith("ray-data"):
            command = [sys.executable, "-m", "benchmarks.bulk_ray_side", str(self.run), str(users), str(output)]
            command += ["--system", self.system, "--block", str(block), "--actors", "2"]
            return command + (["--checkpoints", f"{output}-checkpoints"] if side.endswith("checkpoints") else [])
        names = self.folder / f"users-{users}.txt"
        names.write_text("\n".join(self._ids[:users]) + "\n")
        command = [*_ALLMREC, "recommend", str(self.run), "--users", str(names), "-o", str(output), "--device", "cpu"]
        command += ["--system", self.system, "--block", str(block)]
        return command + (["--engine", "ray", "--actors", "2"] if side == "ray" else [])

    def start(self, side: str, output: Path, users: int | None = None, block: int | None = None) -> Any:
        """Start a side; what it prints goes into a file beside its output."""
        threads = "2" if side == "process-2" else "1"
        variables = {"OMP_NUM_THREADS": threads, "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
        # Threads that wait in a loop keep one another from a core on a busy machine.
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
        # Ray's own is 15, behind everything else on the machine.
        variables["RAY_worker_niceness"] = "0"
        command = self.command(side, users or self.users, block or self.block, output)
        with Path(f"{output}.txt").open("a") as shown:
            return subprocess.Popen(command, stdout=shown, stderr=shown, env=os.environ | variables)

    def done(self, side: str, output: Path, **size: int) -> dict[str, float]:
        """Do a side to its end: seconds, processor seconds, peak memory, and how many cores everything else on the machine took.

        Raises:
            RuntimeError: it fails.
        """
        began = time.monotonic()
        process = self.start(side, output, **size)
        with Watch(process.pid) as watch:
            process.wait()
            seconds = time.monotonic() - began
        self._check(process, output)
        cores = watch.others / seconds
        return {
            "seconds": seconds,
            "cpu_seconds": watch.cpu_seconds,
            "peak_mb": watch.peak_mb,
            "cores_of_others": cores,
        }

    def _check(self, process: Any, output: Path) -> None:
        if process.returncode:
            raise RuntimeError(Path(f"{output}.txt").read_text()[-4000:])

    def harmed(self, side: str, output: Path, whole: bool) -> dict[str, Any]:
        """End an actor when two files stand, or the whole command, which is then given again; what comes of it."""
        began = time.monotonic()
        process = self.start(side, output)
        while len(list(output.glob("*.parquet"))) < 2:
            if process.poll() is not None:
                raise RuntimeError(f"{side} ended too soon:\n" + Path(f"{output}.txt").read_text()[-4000:])
            time.sleep(0.05)
        all_of_it = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        if whole:
            for one in all_of_it:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()
            before = len(list(output.glob("*.parquet")))
            began = time.monotonic()
            process = self.start(side, output)
        else:
            actor = next(one for one in all_of_it if one.name().startswith(_ACTORS[side][:15]))
            os.kill(actor.pid, signal.SIGKILL)
        process.wait()
        found = {"seconds": round(time.monotonic() - began, 1), "exit": process.returncode}
        return found | ({"files_before": before} if whole else {})


def table_of(files: Path | list[Path]) -> pa.Table:
    """What a side wrote, by the users' ids."""
    return pq.read_table(files).select(["user_id", "item_ids", "scores"]).sort_by("user_id")


def counted(output: Path, wanted: pa.Table) -> dict[str, Any]:
    """How many rows there are, of how many users, whether they are those that are wanted, and how many files cannot be read."""
    files = list(output.glob("*.parquet"))
    whole = [path for path in files if _is_whole(path)]
    found = table_of(whole)
    users = len(found.column("user_id").unique())
    return {
        "rows": found.num_rows,
        "users": users,
        "same": found.equals(wanted),
        "broken_files": len(files) - len(whole),
    }


def _is_whole(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except pa.ArrowInvalid:
        return False
    return True


def in_order(output: Path, wanted: pa.Table) -> bool:
    """Whether the folder's rows come in the order of the users as it is read."""
    return bool(pq.read_table(output, columns=["user_id"]).column("user_id").equals(wanted.column("user_id")))


def measured(job: Job, turns: int) -> dict[str, Any]:
    """Every side."""
    sides = (ALONE, *SAME, "process-2")
    starts, wholes = ({side: list[dict[str, float]]() for side in sides} for _ in range(2))
    # All sides in each turn, so that what else the machine does falls on all of them.
    for turn in range(turns):
        for side in sides:
            starts[side].append(job.done(side, job.folder / f"start-{side}-{turn}", users=2, block=1))
            wholes[side].append(job.done(side, job.folder / f"{side}-{turn}"))
            print(side, starts[side][-1], wholes[side][-1], file=sys.stderr, flush=True)
    rows: dict[str, Any] = {}
    for side in sides:
        best, start = (min(found[side], key=lambda one: one["seconds"]) for found in (wholes, starts))
        rows[side] = {
            "seconds": round(best["seconds"], 1), "start_seconds": round(start["seconds"], 1),
            "users_a_second": round(job.users / best["seconds"], 1),
            "users_a_second_after_start": round((job.users - 2) / (best["seconds"] - start["seconds"]), 1),
            "cpu_seconds": round(best["cpu_seconds"], 1), "start_cpu_seconds": round(start["cpu_seconds"], 1),
            "peak_mb": round(best["peak_mb"]), "cores_of_others": round(best["cores_of_others"], 2),
        }  # fmt: skip
    wanted, ordered = table_of(job.folder / f"{ALONE}-0"), pq.read_table(job.folder / f"{ALONE}-0", columns=["user_id"])
    for side, row in rows.items():
        row |= counted(job.folder / f"{side}-0", wanted)
        row["in_order"] = in_order(job.folder / f"{side}-0", ordered)
        row["times_one_process"] = round(rows[ALONE]["seconds"] / row["seconds"], 2)
    if not all(rows[side]["same"] for side in SAME):
        sys.exit(f"Other rows than one process writes: {rows}")
    return {"users": job.users, "block": job.block, "turns": turns, "sides": rows}


def harm(job: Job) -> dict[str, Any]:
    """Every side with actors, harmed in both ways."""
    job.done(ALONE, job.folder / ALONE)
    wanted, rows = table_of(job.folder / ALONE), dict[str, Any]()
    for side in _ACTORS:
        rows[side] = {}
        for name, whole in (("actor killed", False), ("all killed, given again", True)):
            output = job.folder / f"{side}-{whole}"
            rows[side][name] = job.harmed(side, output, whole) | counted(output, wanted)
            print(side, name, rows[side][name], file=sys.stderr, flush=True)
    return {"users": job.users, "block": job.block, "sides": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="of A-LLMRec, e.g. the demo's")
    parser.add_argument("--parts", nargs="+", choices=["cf", "lm", "harm"], default=["cf", "lm", "harm"])
    parser.add_argument("--cf-users", type=int, default=65_536)
    parser.add_argument("--users", type=int, default=128, help="of RUN, for the language model")
    parser.add_argument("--turns", type=int, default=2)
    arguments = parser.parse_args()
    about = measured_by("bulk_ray")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part in arguments.parts:
            (folder / part).mkdir()
            if part == "lm":
                job = Job(arguments.run, "allmrec", arguments.users, 16, folder / part)
            else:
                users = arguments.cf_users
                if not (folder / f"bulk-users-{users}").is_dir():
                    in_child(trained, "bulk-users", users, folder)
                block = users // (16 if part == "harm" else 8)
                job = Job(folder / f"bulk-users-{users}", "backbone", users, block, folder / part)
            found = harm(job) if part == "harm" else measured(job, arguments.turns)
            with changing(TARGET) as table:
                table[part] = about | {"cores": os.cpu_count()} | found
            Console(width=140).print({part: found})


if __name__ == "__main__":
    main()
