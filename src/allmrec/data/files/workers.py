"""Parts of a large file read by several processes, and handed over in their order."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import loky

from allmrec.core.errors import DataError
from allmrec.data.files.lines import read_ahead

__all__ = ["results", "workers_for"]

T = TypeVar("T")
R = TypeVar("R")

# A file of fewer bytes is read before processes have started and loaded what they need. A packed one takes several times as long.
_LARGE, _LARGE_PACKED = 1 << 27, 1 << 25
# One process hands over what so many read.
_MOST = 6
# glibc keeps the memory of a block for the next one; given back and asked for anew each time, it cost much of the reading.
# Large pages, where the system has them, took a twentieth from the reading.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "GLIBC_TUNABLES": ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), "glibc.malloc.hugetlb=1"])),
}


def workers_for(path: Path) -> int:
    """How many processes read a file: one where it is small or missing."""
    size = path.stat().st_size if path.is_file() else 0
    if size < (_LARGE_PACKED if path.suffix.lower() == ".gz" else _LARGE):
        return 1
    return min(int(loky.cpu_count()), _MOST)


def results(function: Callable[[T], R], items: Iterator[T], workers: int, path: Path) -> Generator[R]:
    """What a function makes of each item, in the items' order.

    What goes wrong with an item, here or in `items`, is raised behind the results of those before it.

    Args:
        function: can be sent to another process where there are several workers.
        items: are read ahead, by twice as many as there are workers.
        workers: processes; one: this one.
        path: the file that is read, for messages.

    Raises:
        DataError: a process was killed.
    """
    ahead = read_ahead(items)
    if workers < 2:
        for item in ahead:
            yield function(item)
        return
    # Unlike the standard library's, these need no guard in the program that called this.
    pool = loky.ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),), env=_ENVIRONMENT)
    try:
        coming: deque[Future[R]] = deque()
        failed: Exception | None = None
        more = True
        while more or coming:
            while more and len(coming) < 2 * workers:
                try:
                    item = next(ahead)
                except StopIteration:
                    more = False
                except Exception as error:  # whatever it is, it has its place behind what comes before it
                    more, failed = False, error
                else:
                    coming.append(pool.submit(function, item))
            if coming:
                yield _result(coming.popleft(), path)
        if failed is not None:
            raise failed
    finally:
        ahead.close()
        pool.shutdown(kill_workers=True)


def _result(found: Future[R], path: Path) -> R:
    """What a process found.

    Raises:
        DataError: it was killed.
    """
    try:
        return found.result()
    except loky.process_executor.TerminatedWorkerError as error:
        raise DataError(
            f"a process that read it was ended from outside ({str(error).splitlines()[0]}); the system does so when memory runs "
            "out: free some, or let fewer processes read with `taskset` or a container's limit of CPUs",
            path,
        ) from error


def _begin(parent: int) -> None:
    """Python warns of an unknown escape in a text, which a damaged line may hold; and nobody waits for results any more when the one who
    asked for them was killed."""
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
