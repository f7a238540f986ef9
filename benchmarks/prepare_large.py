"""Preparing by DuckDB and by the reader in memory against a line-by-line `json.loads` loop, pandas and polars.

    python -m benchmarks.prepare_large [--reviews N] [--words N] [--memory-limit MIB] [--sides duckdb memory loop pandas polars] [--packages FOLDER]

A file in the form of the 2018 Amazon reviews is made, read and removed. Each side runs in a child process of its own, which
reports seconds, processor seconds and largest memory, the processes that it starts included; all sides must give the same data set, users and items below five
interactions left out. The two engines write it to a folder and take the file's SHA-256; the loop, which is the comparator of
`benchmarks.prepare_speed`, takes the SHA-256 alone; what pandas and polars do is in `benchmarks.prepare_by_hand`, and neither is installed
with the library. Where they lie in a folder of their own (`pip install --target FOLDER pandas polars`), the other sides are measured as the library is
installed: pyarrow loads pandas wherever it finds it, for which half a second goes. The loop and pandas use one core, the others all. Other work on the machine slows seconds more than
processor seconds, so both are kept, with the load at the start.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from allmrec.core.artifacts import read_json
from allmrec.core.errors import DataError
from allmrec.data.build import PrepareConfig
from allmrec.data.files.workers import workers_for
from allmrec.data.large import prepare_to
from benchmarks.about import measured_on
from benchmarks.prepare_by_hand import BY_HAND, require
from benchmarks.prepare_speed import WORDS_A_REVIEW, loop, write_reviews
from benchmarks.tables import RESULTS, write_result

_CORE = 5
# A review without its text, a word of it, and what DuckDB spills of a review at most.
_BYTES_A_REVIEW, _BYTES_A_WORD, _SPILLED = 260, 7, 200
_SIDES = ("duckdb", "memory", "loop", *BY_HAND)


def measure(side: str, path: Path, limit: int) -> dict[str, Any]:
    """One side in this process."""
    return _by_hand(side, path) if side in BY_HAND else _with_hash(side, path, limit)


def _by_hand(side: str, path: Path) -> dict[str, Any]:
    """A side whose result is compared behind the measurement."""
    known = require(side)
    started, before = time.perf_counter(), _cpu_seconds()
    numbered = BY_HAND[side](path, _CORE)
    found = {
        "version": known,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu_seconds() - before,
        "peak_bytes": _peak_bytes(0),
    }
    dataset = numbered.dataset()
    return found | {"content_hash": dataset.content_hash, "interactions": dataset.n_interactions}


def _with_hash(side: str, path: Path, limit: int) -> dict[str, Any]:
    """A side that takes the file's SHA-256, too."""
    started, before = time.perf_counter(), _cpu_seconds()
    if side == "loop":
        dataset = loop(path)
        found = {"content_hash": dataset.content_hash, "interactions": dataset.n_interactions}
        file_hash = dataset.provenance.files[0].sha256
    else:
        done = prepare_to(
            path.with_name(f"prepared-{side}"),
            "amazon",
            {"reviews": path},
            PrepareConfig(core=_CORE),
            "duckdb" if side == "duckdb" else "memory",
            limit,
        )
        found = {
            "content_hash": read_json(done.folder / "manifest.json")["content_hash"],
            "interactions": done.summary.interactions,
        }
        file_hash = done.provenance.files[0].sha256
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu_seconds() - before,
        "peak_bytes": _peak_bytes(0 if side == "loop" else workers_for(path)),
        **found,
        "file_hash": file_hash,
    }


def _cpu_seconds() -> float:
    """Of this process and of those that it started and waited for."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _peak_bytes(workers: int) -> int:
    """The largest memory of this process, and as much as the largest of its workers had for each of them."""
    own, others = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(own + workers * others) * (1 if sys.platform == "darwin" else 1024)


def in_child(side: str, path: Path, limit: int, packages: Path | None = None) -> dict[str, Any]:
    """One side in a process of its own; `packages` is where pandas and polars lie."""
    command = [sys.executable, "-m", "benchmarks.prepare_large", "--side", side, "--file", str(path)]
    places = [os.environ.get("PYTHONPATH"), str(packages) if packages is not None and side in BY_HAND else None]
    found = os.environ | {"PYTHONPATH": os.pathsep.join(place for place in places if place)}
    done = subprocess.run([*command, "--memory-limit", str(limit >> 20)], stdout=subprocess.PIPE, check=True, env=found)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(
    n: int, words: int, limit: int, sides: list[str], folder: Path, packages: Path | None = None
) -> dict[str, Any]:
    """All sides on one generated file, in turn.

    Raises:
        DataError: too little room, or the sides' data sets differ.
    """
    needed = n * (_BYTES_A_REVIEW + _BYTES_A_WORD * words + _SPILLED)
    if shutil.disk_usage(folder).free < needed:
        raise DataError(f"there are less than {needed / 1e9:.1f} GB free; set TMPDIR to a larger disk", folder)
    path = folder / "reviews.json"
    write_reviews(path, n, n_words=words)
    os.sync()  # or the disk is still busy with the file while the first side reads it
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = {side: in_child(side, path, limit, packages) for side in sides}
    if any(len({side[name] for side in found.values() if name in side}) > 1 for name in ("content_hash", "file_hash")):
        raise DataError("the sides gave different data sets")
    return {
        "reviews": n,
        "words": words,
        "bytes": path.stat().st_size,
        "memory_limit": limit,
        "cores": os.cpu_count(),
        "load_at_start": load,
        "sides": found,
        "ratios_of_duckdb": _ratios(found, "duckdb"),
        "ratios_of_memory": _ratios(found, "memory"),
    }


def _ratios(found: dict[str, dict[str, Any]], ours: str) -> dict[str, dict[str, float]]:
    """What every other side takes, in units of what one takes."""
    if ours not in found:
        return {}
    names = ("seconds", "cpu_seconds", "peak_bytes")
    return {
        f"to {side}": {name: found[side][name] / found[ours][name] for name in names} for side in found if side != ours
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=100_000_000)
    parser.add_argument("--words", type=int, default=WORDS_A_REVIEW, help="of a review's text, about")
    parser.add_argument("--memory-limit", type=int, default=1024, help="what DuckDB may take, in MiB")
    parser.add_argument("--sides", nargs="+", choices=_SIDES, default=list(_SIDES))
    parser.add_argument("--packages", type=Path, help="folder in which pandas and polars lie")
    parser.add_argument("--side", choices=_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    limit = arguments.memory_limit << 20
    if arguments.side is not None:
        print(json.dumps(measure(arguments.side, arguments.file, limit)))
        return
    if arguments.packages is not None:
        sys.path.append(str(arguments.packages.resolve()))  # where their versions stand
    for side in BY_HAND.keys() & set(arguments.sides):
        require(side)
    with tempfile.TemporaryDirectory(prefix="allmrec-prepare-") as folder:
        result = compare(arguments.reviews, arguments.words, limit, arguments.sides, Path(folder), arguments.packages)
    for side, found in result["sides"].items():
        print(
            f"{side}: {found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s of processor time), "
            f"{found['peak_bytes'] / 1e9:.2f} GB; {found['interactions']:,} interactions"
        )
    for ours in ("duckdb", "memory"):
        for other, ratios in result[f"ratios_of_{ours}"].items():
            print(f"{ours} {other}: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    path = RESULTS / "prepare-large.json"
    said = ["FOLDER" if word == str(arguments.packages) else word for word in sys.argv[1:]]
    command = " ".join(["python -m benchmarks.prepare_large", *said])
    rows = read_json(path)["rows"] if path.is_file() else []
    # One row a size and limit; a new measurement takes the old one's place.
    rows = [row for row in rows if (row["reviews"], row["memory_limit"]) != (arguments.reviews, limit)]
    write_result(path, {"rows": [*rows, measured_on(command) | result]})
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
