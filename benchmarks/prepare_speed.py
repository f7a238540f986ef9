"""Preparing raw reviews against a line-by-line `json.loads` loop: `python -m benchmarks.prepare_speed [--reviews N]`.

A file in the form of the 2018 Amazon reviews is made, read and removed. Each side runs in a child process of its own, so
that neither profits from the other's memory; both must give the same data set, users and items below five interactions
left out, and the file's SHA-256. The library uses a second core for reading ahead and for the hash; `cpu_ratio` compares
processor time.
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
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from allmrec.core.errors import DataError
from allmrec.core.hashing import file_hash
from allmrec.core.seeding import numpy_generator
from allmrec.data.build import PrepareConfig, prepare_source
from allmrec.data.interactions import InteractionDataset
from allmrec.data.provenance import Provenance, SourceFile
from benchmarks.about import measured_on
from benchmarks.tables import RESULTS, write_result

_CORE = 5
WORDS_A_REVIEW = 30
_BYTES_A_REVIEW = 480
_TARGET_RATIO, _TARGET_BYTES = 5.0, 3 * 10**9


def write_reviews(path: Path, n: int, seed: int = 0, n_words: int = WORDS_A_REVIEW) -> None:
    """Write reviews that nobody wrote: a quarter as many users, a twentieth as many items, a few of each very active.

    Texts have `n_words` words on average. One text in eight has an escaped quote or line end, one in fifty an escaped emoji, as real ones do.
    """
    rng = numpy_generator(seed, "reviews")
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 9, 5000)]
    texts = [json.dumps(_text(words, rng, n_words)) for _ in range(20_000)]
    names = [json.dumps(" ".join(rng.choice(words, 2)).title()) for _ in range(5000)]
    with open(path, "w", encoding="utf-8") as handle:
        for start in range(0, n, 100_000):
            size = min(100_000, n - start)
            # The cube makes low numbers frequent.
            users = (rng.random(size) ** 3 * (n // 4 + 1)).astype(np.int64) * 48_271 % 2**31
            items = (rng.random(size) ** 3 * (n // 20 + 1)).astype(np.int64) * 16_807 % 2**31
            stars, times = rng.integers(1, 6, size), rng.integers(10**9, 1_538_000_000, size)
            text, summary, name = (rng.integers(0, len(pool), size) for pool in (texts, names, names))
            handle.writelines(
                f'{{"overall": {stars[k]}.0, "verified": true, "reviewTime": "06 17, 2018", "reviewerID": '
                f'"A{users[k]:013d}", "asin": "B{items[k]:09d}", "style": {{"Format:": " Hardcover"}}, "reviewerName": '
                f'{names[name[k]]}, "reviewText": {texts[text[k]]}, "summary": {names[summary[k]]}, "unixReviewTime": '
                f"{times[k]}}}\n"
                for k in range(size)
            )


def ours(path: Path) -> InteractionDataset:
    """The library's way, SHA-256 of the file included."""
    return prepare_source("amazon", {"reviews": path}, PrepareConfig(core=_CORE))


def loop(path: Path) -> InteractionDataset:
    """The comparator: each line by json.loads, then dictionaries and lists; the file's SHA-256 as ours has it."""
    users: Counter[str] = Counter()
    items: Counter[str] = Counter()
    log = []
    with open(path, "rb") as handle:
        for line in handle:
            review = json.loads(line)
            user, item = review["reviewerID"], review["asin"]
            users[user] += 1
            items[item] += 1
            log.append((user, item, review["overall"], review["unixReviewTime"]))
    sequences: dict[str, list[tuple[int, str]]] = {}
    for user, item, _, moment in log:
        if users[user] >= _CORE and items[item] >= _CORE:
            sequences.setdefault(user, []).append((moment, item))
    for sequence in sequences.values():
        sequence.sort(key=lambda entry: entry[0])
    dataset = InteractionDataset.from_sequences(
        {user: [item for _, item in sequences[user]] for user in sorted(sequences)},
        times={user: [moment for moment, _ in sequence] for user, sequence in sequences.items()},
    )
    files = (SourceFile(name=path.name, sha256=file_hash(path)),)
    return replace(dataset, provenance=Provenance(source="amazon", files=files))


SIDES: dict[str, Callable[[Path], InteractionDataset]] = {"ours": ours, "json.loads loop": loop}


def measure(side: str, path: Path) -> dict[str, Any]:
    """One side in this process: seconds without imports, processor seconds, the process's largest memory."""
    started, before = time.perf_counter(), time.process_time()
    dataset = SIDES[side](path)
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": dataset.n_interactions,
        "content_hash": dataset.content_hash,
        "file_hash": dataset.provenance.files[0].sha256,
    }


def in_child(side: str, path: Path) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.prepare_speed", "--side", side, "--file", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(n: int, folder: Path) -> dict[str, Any]:
    """Both sides on one generated file, in turn.

    Raises:
        DataError: too little room, or the two data sets differ.
    """
    needed = n * _BYTES_A_REVIEW
    if shutil.disk_usage(folder).free < 2 * needed:
        raise DataError(f"there are less than {2 * needed / 1e9:.1f} GB free; set TMPDIR to a larger disk", folder)
    path = folder / "reviews.json"
    write_reviews(path, n)
    sides = {side: in_child(side, path) for side in SIDES}
    if len({(side["content_hash"], side["file_hash"]) for side in sides.values()}) > 1:
        raise DataError("the two sides gave different data sets")
    theirs, mine = sides["json.loads loop"], sides["ours"]
    return {
        "reviews": n,
        "bytes": path.stat().st_size,
        "sides": sides,
        "ratio": theirs["seconds"] / mine["seconds"],
        "cpu_ratio": theirs["cpu_seconds"] / mine["cpu_seconds"],
    }


def _text(words: list[str], rng: np.random.Generator, n_words: int) -> str:
    """A review of about so many words."""
    chosen = list(rng.choice(words, rng.integers(n_words // 2, n_words * 3 // 2)))
    if rng.random() < 1 / 8:
        chosen.insert(len(chosen) // 2, '"really"\n')
    if rng.random() < 1 / 50:
        chosen.append("\N{SLIGHTLY SMILING FACE}")
    return " ".join(chosen) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=5_000_000)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        print(json.dumps(measure(arguments.side, arguments.file)))
        return
    with tempfile.TemporaryDirectory(prefix="allmrec-prepare-") as folder:
        result = compare(arguments.reviews, Path(folder))
    for side, found in result["sides"].items():
        print(
            f"{side}: {found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s of processor time), "
            f"{found['peak_bytes'] / 1e9:.2f} GB; {found['users']:,} users, {found['items']:,} items, "
            f"{found['interactions']:,} interactions"
        )
    print(f"{result['ratio']:.1f} times as fast (target {_TARGET_RATIO:.0f})")
    path = RESULTS / "prepare-speed.json"
    command = " ".join(["python -m benchmarks.prepare_speed", *sys.argv[1:]])
    write_result(path, measured_on(command) | {"cores": os.cpu_count()} | result)
    print(f"Written: {path}")
    if result["ratio"] < _TARGET_RATIO or result["sides"]["ours"]["peak_bytes"] > _TARGET_BYTES:
        sys.exit(f"missed: {_TARGET_RATIO:.0f} times as fast in less than {_TARGET_BYTES / 1e9:.0f} GB")


if __name__ == "__main__":
    main()
