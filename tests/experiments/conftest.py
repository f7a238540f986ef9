"""A trained run of the tiny world, as the command line's tests have it, and cells that start quickly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.conftest import workplace
from tests.support.forked import Forked

from allmrec.experiments import scheduler

__all__ = ["forked_cells", "workplace"]

JOB = "allmrec.experiments.job"


@pytest.fixture
def forked_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell in a process of its own, as always, but forked from one that has imported the libraries, which takes seconds a cell."""

    def popen(words: list[str], stdout: Any, env: Mapping[str, str], **_: Any) -> Forked:
        assert words[:3] == [sys.executable, "-m", JOB]
        return Forked(words[3:], Path(stdout.name), env, JOB)

    names = ("DEVNULL", "STDOUT", "TimeoutExpired")
    monkeypatch.setattr(
        scheduler, "subprocess", SimpleNamespace(Popen=popen, **{name: getattr(subprocess, name) for name in names})
    )
