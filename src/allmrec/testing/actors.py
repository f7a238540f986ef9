"""Actors of `--engine ray` that can be ended in the middle, or that end themselves; workers of a cluster import them from here."""

from __future__ import annotations

import os
import time
from pathlib import Path

from allmrec.bulk.ray_engine import Answer, BlockActor

__all__ = ["DeadlyActor", "SlowActor"]


class SlowActor(BlockActor):
    """Leaves its process's number in the folder `pids` beside the run, and takes 0.3 s a block more."""

    def answer(self, number: int) -> Answer:
        """Answer a block, later."""
        place = Path(self._parts.path).parent / "pids"
        place.mkdir(exist_ok=True)
        (place / f"{os.getpid()}").touch()
        time.sleep(0.3)
        return super().answer(number)


class DeadlyActor(BlockActor):
    """Ends its process over block 1."""

    def answer(self, number: int) -> Answer:
        """Answer any other block."""
        if number == 1:
            os._exit(1)
        return super().answer(number)
