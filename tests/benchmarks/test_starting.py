"""Every benchmark can be started as its page says: `python -m benchmarks.NAME`, from the root and without what pytest adds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import benchmarks

ROOT = Path(benchmarks.__file__).parents[1]
# They run beside packages that are no dependencies of ours.
_OF_OTHERS = {"recbole_side", "rectools_side"}


def test_every_benchmark_finds_what_it_imports() -> None:
    names = sorted({path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")} - _OF_OTHERS)
    assert len(names) > 30
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(f'benchmarks.{name}')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
