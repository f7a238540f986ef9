"""Actors of `--engine ray` that can be ended in the middle, or that end themselves; workers of a cluster import them from here."""

from __future__ import annotations

import os
import time
from pathlib import Path

from allmrec.bulk.ray_engine import Answer, BlockActor

__all__ = ["DeadlyActor", "SlowActor"]


class SlowActor(BlockActor):
    """Leaves its process's number in the folder `pids` beside the run, and takes 0.3 s a block more."""

    def _answer(self, number: int) -> Answer:
        place = Path(self._parts.path).parent / "pids"
        place.mkdir(exist_ok=True)
        (place / f"{os.getpid()}").touch()
        time.sleep(0.3)
        return super()._answer(number)


class DeadlyActor(BlockActor):
    """Ends its process over block 1."""

    def _answer(self, number: int) -> Answer:
        if number == 1:
            os._exit(1)
        return super()._answer(number)
