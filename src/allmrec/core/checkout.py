"""By which code a figure was made."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

__all__ = ["code_commit"]


def code_commit() -> str | None:
    """The commit of the package where it runs from a checkout, with `+` where files were changed; ALLMREC_COMMIT says another."""
    return os.environ.get("ALLMREC_COMMIT") or _of_checkout()


@cache
def _of_checkout() -> str | None:
    """As it was when first asked: what is imported does not change with the files."""
    git, here = shutil.which("git"), Path(__file__).parents[1]
    if git is None:
        return None

    def asked(*words: str) -> str | None:
        found = subprocess.run([git, "-C", str(here), *words], capture_output=True, text=True, check=False)  # noqa: S603  # no word is a user's
        return found.stdout.strip() if found.returncode == 0 else None

    # Somebody's own repository may hold the environment that the package is installed in.
    if asked("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit, changed = asked("rev-parse", "HEAD"), asked("status", "--porcelain", "--untracked-files=no", ".")
    return None if commit is None else commit + ("+" if changed else "")
