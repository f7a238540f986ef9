"""Temporary folders: those of the dead go with the next call for the same output, those of the living stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from allmrec.core import temporary
from allmrec.core.artifacts import atomic_directory, sweep

MAKER = """
import sys, time
from pathlib import Path
from allmrec.core.artifacts import atomic_directory
with atomic_directory(sys.argv[1]) as folder:
    (folder / "work").mkdir()
    (folder / "work" / "spill").write_text("much")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def maker(path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that is filling a folder for `path`, and that folder."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def write(path: Path) -> None:
    with atomic_directory(path) as folder:
        (folder / "new").write_text("new")


def test_what_a_killed_process_left_goes_with_the_next_call(tmp_path: Path) -> None:
    with maker(tmp_path / "out") as (process, left):
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (left / "work" / "spill").exists()
    write(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["new"]


def test_a_living_process_keeps_its_folder(tmp_path: Path) -> None:
    with maker(tmp_path / "out") as (process, its):
        write(tmp_path / "out")
        assert os.listdir(tmp_path / "out") == ["new"]
        for names in (None, ["out"]):
            sweep(tmp_path, names)
        assert (its / "work" / "spill").exists()
        process.communicate("go on\n", timeout=60)
        assert process.returncode == 0
    assert os.listdir(tmp_path / "out") == ["work"]
    assert os.listdir(tmp_path) == ["out"]


def test_of_other_outputs_nothing_is_removed(tmp_path: Path) -> None:
    """Also of those whose names begin the same, or hold signs that mean something in patterns."""
    for name in ("out.csv", "o[u]t", "outer"):
        with maker(tmp_path / name) as (process, _):
            process.kill()
            process.wait()
    before = sorted(os.listdir(tmp_path))
    write(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])
    for name in ("out.csv", "o[u]t", "outer"):
        write(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["o[u]t", "out", "out.csv", "outer"]


def test_sweeping_takes_the_lock_of_a_dead_process_too(tmp_path: Path) -> None:
    with maker(tmp_path / "out") as (process, _):
        process.kill()
        process.wait()
    sweep(tmp_path, ["out"], older_than=60)
    assert len(os.listdir(tmp_path)) == 2
    sweep(tmp_path, ["out"])
    assert os.listdir(tmp_path) == []


def test_a_folder_without_a_lock_is_nobodys_to_remove(tmp_path: Path) -> None:
    (tmp_path / ".out.ab12cd34.tmp").mkdir()
    write(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == [".out.ab12cd34.tmp", "out"]


def test_a_lock_without_a_folder_goes_when_it_is_old(tmp_path: Path) -> None:
    """A process was killed between the two, or has the lock and is about to make the folder."""
    lock = tmp_path / ".out.ab12cd34.lock.tmp"
    lock.touch()
    write(tmp_path / "out")
    assert lock.exists()
    os.utime(lock, (time.time() - 3600,) * 2)
    with FileLock(lock):
        write(tmp_path / "out")
        assert lock.exists()
    os.utime(lock, (time.time() - 3600,) * 2)
    write(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_where_there_are_no_locks_a_folder_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileLock, *_: object, **__: object) -> None:
        Path(self.lock_file).touch()
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(temporary.FileLock, "acquire", refuse)
    write(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
