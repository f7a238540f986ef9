"""Requests drawn from the API's own description, and no answer may be 5xx: `python -m benchmarks.serve_fuzz --cases 10000`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.serve.conftest import serving, train_tiny
from tests.support.serve_fuzz import fuzzed

from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=50, help="of a kind, a route and a turn")
    parser.add_argument("--output", type=Path, default=RESULTS / "serve_fuzz.json")
    arguments = parser.parse_args()
    about = measured_by("serve_fuzz")
    begun = time.monotonic()
    total: dict[int, int] = {}
    failed: list[str] = []
    turns = 0
    with tempfile.TemporaryDirectory() as folder:
        run = train_tiny(Path(folder) / "world")
        with serving(run.path, database=f"sqlite:///{folder}/state.sqlite3") as server:
            while sum(total.values()) < arguments.cases:
                statuses, wrong = fuzzed(server.url, arguments.examples, turns)
                turns += 1
                failed += wrong
                for status, count in statuses.items():
                    total[status] = total.get(status, 0) + count
    found = {
        "cases": sum(total.values()),
        "by_status": {str(status): total[status] for status in sorted(total)},
        "answers_5xx": sum(count for status, count in total.items() if status >= 500),
        "turns": turns,
        "seconds": round(time.monotonic() - begun, 1),
    }
    write_result(arguments.output, about | found)
    print(f"{found}\nWritten: {arguments.output}")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
