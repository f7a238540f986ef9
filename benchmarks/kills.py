"""Kill training at random moments, go on, compare: `python -m benchmarks.kills --kills 200`.

What `tests/support/kills.py` does for the tests, many more times: runs follow one another until enough processes were killed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.support.kills import kill_and_go_on, make_world, quick_place

from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "kills.json")
    arguments = parser.parse_args()
    about = measured_by("kills")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=quick_place()) as folder:
        world = make_world(Path(folder))
        done = kill_and_go_on(world, Path(folder), arguments.kills, arguments.seed)
    found = {
        "kills": done.count,
        "by_stage": dict(done.by_stage),
        "runs": done.runs,
        "different_weights": done.different,
        "failed": done.failed,
        "seconds": round(time.monotonic() - begun, 1),
    }
    write_result(arguments.output, about | found)
    print(f"{found}\nWritten: {arguments.output}")
    if done.different or done.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
