"""What is to be scored in bulk: a run's system, what is asked of it, for whom, in blocks of how many users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from allmrec.core.artifacts import versions
from allmrec.core.hashing import content_hash
from allmrec.pipeline.run import Run
from allmrec.recommend.request import Request
from allmrec.systems.recommending import recommending_stages
from allmrec.systems.registry import system_kind

__all__ = ["FORMAT_VERSION", "BulkJob", "usual_block"]

# Of a folder of recommendations. A change that an older version would misread raises it.
FORMAT_VERSION = 1

# Users whose answers a killed process loses at the most: minutes of work where the language model is asked, seconds elsewhere.
_PROMPTED_BLOCK, _BLOCK = 512, 16_384


def usual_block(system: str) -> int:
    """Users of a block where no number is given.

    Args:
        system: of SYSTEMS.
    """
    return _PROMPTED_BLOCK if system_kind(system).prompted else _BLOCK


@dataclass(frozen=True, eq=False)
class BulkJob:
    """Recommendations for many users, in blocks that are answered each by itself.

    Attributes:
        run: a trained run.
        system: of SYSTEMS, which recommends.
        request: what is asked for every user; its own history or user does not matter.
        users: user numbers, each once, in the order of the rows.
        block: users of a block; the last may have fewer.
        titles: whether titles are written beside ids.
    """

    run: Run
    system: str
    request: Request
    users: Int64[np.ndarray, " users"]
    block: int
    titles: bool = False

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return -(-len(self.users) // self.block)

    def users_of(self, number: int) -> Int64[np.ndarray, " block"]:
        """The users of a block, by its number from 0."""
        return self.users[number * self.block : (number + 1) * self.block]

    @cached_property
    def made_of(self) -> dict[str, Any]:
        """Everything that decides what is written, in a form for JSON: the run's data, stages and settings, what is asked,
        for whom, the kind of device and the versions.
        """
        run, request = self.run, asdict(self.request)
        config = run.config.model_dump(mode="json")
        # What an evaluation asks decides no recommendation.
        config.pop("evaluation")
        asked = {name: request[name] for name in ("k", "candidates", "exclude_seen", "unknown")}
        asked |= {name: None if request[name] is None else list(request[name]) for name in ("allow", "deny")}
        return {
            "format": FORMAT_VERSION,
            "data": run.data_hash,
            "stages": recommending_stages(run, self.system),
            "published": _hash_of(run.published),
            "config": config,
            "system": self.system,
            "request": asked | {"titles": self.titles},
            "users": {"count": len(self.users), "hash": content_hash(self.users)},
            "block": self.block,
            "device": run.device.partition(":")[0],
            "versions": versions(),
        }

    @cached_property
    def key(self) -> str:
        """A hash over all of it; blocks with the same key belong together."""
        return content_hash(json.dumps(self.made_of, sort_keys=True))


def _hash_of(published: Mapping[str, Any] | None) -> str | None:
    """Of what a saved recommender says of itself, its added items among it."""
    return None if published is None else content_hash(json.dumps(published, sort_keys=True))
