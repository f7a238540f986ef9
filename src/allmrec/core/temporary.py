"""Temporary folders beside an output, each held by its maker: what a killed process left is told from what is being written.

.NAME.XXXXXXXX.tmp        the folder
.NAME.XXXXXXXX.lock.tmp   held while the folder is being filled; the operating system lets go of it when the maker dies
"""

from __future__ import annotations

import glob
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["LOCK_SUFFIX", "is_held", "remove_abandoned", "remove_lock", "temporary_folder"]

LOCK_SUFFIX = ".lock.tmp"

# A maker has the lock a moment before the folder; a lock without a folder that is older, in seconds, was left behind.
_MOMENT = 60.0


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Make a private folder beside `path` and hold it for the length of the block; what is left of it then is removed.

    On a file system without locks nothing is held, and what a killed process leaves there stays.

    Raises:
        OSError: the folder cannot be made.
    """
    folder, lock = _locked_name(path)
    try:
        folder.mkdir(mode=0o700)  # behind the lock, so that no folder is ever seen without it
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        remove_lock(folder)


def remove_abandoned(path: Path) -> None:
    """Remove the temporary folders of `path` whose makers are dead. One without a lock is left alone: nobody knows whose it is."""
    for lock in path.parent.glob(f".{glob.escape(path.name)}.*{LOCK_SUFFIX}"):
        token = lock.name[len(path.name) + 2 : -len(LOCK_SUFFIX)]
        if "." not in token:  # else it is of an output with a longer name
            _remove_if_dead(path.with_name(f".{path.name}.{token}.tmp"))


def is_held(folder: Path) -> bool:
    """Whether a process is filling a temporary folder now, or may be, as its lock cannot be tried."""
    if not _lock_of(folder).exists():
        return False
    lock = FileLock(_lock_of(folder), timeout=0)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):  # Timeout is an OSError too
        return True
    lock.release()
    return False


def remove_lock(folder: Path) -> None:
    """Remove the lock of a temporary folder that is gone."""
    if not folder.exists():
        with suppress(OSError):  # on Windows somebody else may have it open
            _lock_of(folder).unlink(missing_ok=True)


def _locked_name(path: Path) -> tuple[Path, FileLock]:
    """A name that is new and nobody's, and its lock."""
    while True:
        folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        lock = FileLock(_lock_of(folder), timeout=0)
        if folder.exists() or _lock_of(folder).exists():
            continue
        try:
            lock.acquire()
        except Timeout:
            continue
        except (OSError, NotImplementedError):
            with suppress(OSError):
                _lock_of(folder).unlink(missing_ok=True)
        return folder, lock


def _remove_if_dead(folder: Path) -> None:
    """Remove a temporary folder with its lock unless its maker holds it."""
    lock = FileLock(_lock_of(folder), timeout=0)
    try:
        if not folder.exists() and time.time() - _lock_of(folder).stat().st_mtime < _MOMENT:
            return
        lock.acquire()
    except (OSError, NotImplementedError):
        return
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
    remove_lock(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name.removesuffix(".tmp") + LOCK_SUFFIX)
