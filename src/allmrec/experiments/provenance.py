"""Where and by which code a figure was made."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch

__all__ = ["BESIDE", "code_commit", "device_name"]

BESIDE = "ALLMREC_CELLS_AT_A_TIME"
"""Says how many cells share a machine; their seconds say little then."""


def device_name(device: str) -> str:
    """A device by the name that its maker gave it, and how many cells are measured on the machine at a time where it is not one."""
    beside = int(os.environ.get(BESIDE, "1"))
    shared = "" if beside == 1 else f", {beside} cells at a time"
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) + shared
    threads = torch.get_num_threads()
    return f"{platform.machine()} {device.upper()}, {threads} thread{'' if threads == 1 else 's'}{shared}"


def code_commit() -> str | None:
    """The commit of the package where it runs from a checkout, with `+` where files were changed; ALLMREC_COMMIT says another."""
    named, git = os.environ.get("ALLMREC_COMMIT"), shutil.which("git")
    if named or git is None:
        return named
    here = Path(__file__).parents[1]

    def asked(*words: str) -> str | None:
        found = subprocess.run([git, "-C", str(here), *words], capture_output=True, text=True, check=False)  # noqa: S603  # no word is a user's
        return found.stdout.strip() if found.returncode == 0 else None

    # Somebody's own repository may hold the environment that the package is installed in.
    if asked("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit, changed = asked("rev-parse", "HEAD"), asked("status", "--porcelain", "--untracked-files=no", ".")
    return None if commit is None else commit + ("+" if changed else "")
