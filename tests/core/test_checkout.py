"""By which commit a figure was made: of the package's own checkout, and of nobody else's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allmrec.core import checkout


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    return subprocess.run(
        ["git", *who, "-C", str(folder), *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def found_by(package: Path) -> str:
    """What a process says that imports the module from a package of this folder."""
    code = f"import sys; sys.path.insert(0, {str(package.parent)!r}); from pack.core.checkout import code_commit; print(code_commit())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ALLMREC_COMMIT", raising=False)
    made = tmp_path / "repository" / "pack"
    (made / "core").mkdir(parents=True)
    for name in ("__init__.py", "core/__init__.py"):
        (made / name).touch()
    shutil.copy(checkout.__file__, made / "core" / "checkout.py")
    git(tmp_path, "init", "--quiet", str(made.parent))
    return made


def test_a_checkout_has_its_commit_and_says_whether_files_were_changed(package: Path) -> None:
    git(package, "add", ".")
    git(package, "commit", "--quiet", "-m", "all")
    commit = git(package, "rev-parse", "HEAD")
    assert found_by(package) == commit
    (package / "core" / "__init__.py").write_text("changed = True\n")
    assert found_by(package) == f"{commit}+"


def test_a_package_inside_somebody_elses_repository_has_none(package: Path) -> None:
    (package.parent / "other.txt").touch()
    git(package.parent, "add", "other.txt")
    git(package.parent, "commit", "--quiet", "-m", "theirs")
    assert found_by(package) == "None"


def test_a_commit_that_is_named_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMREC_COMMIT", "1234567")
    assert checkout.code_commit() == "1234567"
