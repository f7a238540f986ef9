"""Kill a server at random moments under writes and look for what it acknowledged: `python -m benchmarks.serve_kills --kills 50`."""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from pathlib import Path

from tests.serve.conftest import train_tiny
from tests.support.serve_kills import killed_while_writing

from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "serve_kills.json")
    arguments = parser.parse_args()
    about = measured_by("serve_kills")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        run = train_tiny(Path(folder) / "world")
        lost = killed_while_writing(run.path, Path(folder), port, arguments.kills, arguments.seed)
    found = {
        "kills": arguments.kills,
        "acknowledged_events": lost.events,
        "acknowledged_items": lost.items,
        "lost_events": len(lost.lost_events),
        "lost_items": len(lost.lost_items),
        "seconds": round(time.monotonic() - begun, 1),
    }
    write_result(arguments.output, about | found)
    print(f"{found}\nWritten: {arguments.output}")
    if lost.lost_events or lost.lost_items:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
