"""Where and when a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime

import torch

from allmrec.core.artifacts import versions

__all__ = ["measured_by", "measured_on"]


def measured_on(command: str) -> dict[str, object]:
    """Device, date, commit, command and versions, to stand beside every figure.

    A machine that has the files without their history is told the commit as ALLMREC_COMMIT.
    """
    git = ["git", "rev-parse", "HEAD"]
    commit = os.environ.get("ALLMREC_COMMIT", "")
    if not commit:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    else:
        device = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return {
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "command": command,
        "versions": versions(),
    }


def measured_by(script: str) -> dict[str, object]:
    """The same for `python -m benchmarks.SCRIPT` with the arguments that it was given."""
    return measured_on(" ".join([f"python -m benchmarks.{script}", *sys.argv[1:]]))
