"""One process at a time: a folder that only one may write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from allmrec.core.errors import RunInUseError

__all__ = ["LOCK_NAME", "held"]

LOCK_NAME = ".lock"


@contextmanager
def held(folder: Path, doing: str = "being trained", wait: bool = False) -> Iterator[None]:
    """Hold a folder for the length of the block. The operating system lets go of it when the process ends or is killed.

    Args:
        folder: which.
        doing: what whoever holds it does with it, for the message.
        wait: until nobody else holds it.

    Raises:
        RunInUseError: another process holds it, and `wait` is not set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / LOCK_NAME).is_symlink():
        (folder / LOCK_NAME).unlink()  # locking empties the file, and this one would be somebody else's
    lock = FileLock(folder / LOCK_NAME, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise RunInUseError(
            f"{folder} is {doing} by another process. Wait until that one is done, or end it; then run the same "
            "command again."
        ) from None
    try:
        yield
    finally:
        lock.release()
