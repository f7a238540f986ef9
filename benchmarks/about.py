"""Where and when a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime

import torch

from allmrec.core.artifacts import versions

__all__ = ["measured_on"]


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
