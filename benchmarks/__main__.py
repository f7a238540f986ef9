"""`make bench`: run every benchmark, one after the other; each prints a table and writes benchmarks/results/."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from allmrec.core.packaged import movielens_100k
from allmrec.data.build import read_movielens


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "ml-100k"
        read_movielens(movielens_100k()).save(data)
        commands = [
            ["benchmarks.stages_speed"],
            ["benchmarks.generate_speed"],
            ["benchmarks.titles_speed"],
            ["benchmarks.cf_speed", str(data)],
            ["benchmarks.memory"],
            ["benchmarks.kills", "--kills", "200"],
            ["benchmarks.prepare_speed"],
        ]
        missed = []
        for command in commands:
            print(f"\n$ python -m {shlex.join(command)}", flush=True)
            if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
                missed.append(command[0])
    if missed:
        sys.exit(f"Missed their aim or failed: {', '.join(missed)}.")


if __name__ == "__main__":
    main()
