"""What an evaluation has found so far, on disk: a killed one goes on where it stood and asks no system twice."""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from allmrec.core.artifacts import read_json, write_json
from allmrec.core.errors import AllmrecError, AllmrecWarning, ArtifactError
from allmrec.core.hashing import content_hash

__all__ = ["Found", "PartialResults"]

_KIND, _FORMAT = "allmrec partial evaluation", 1


@dataclass(frozen=True)
class Found:
    """A system's ranks for the first users of a protocol.

    Attributes:
        ranks: the target's rank, infinity for a miss.
        seconds: how long the system ranked.
        note: what a reader must know of it; none while users are missing.
    """

    ranks: Float64[np.ndarray, " users"]
    seconds: float
    note: str | None = None


class PartialResults:
    """One file a system, in a folder of the protocol.

    Args:
        folder: where evaluations that are not finished are kept.
        protocol_hash: of the users and candidates.
        made_of: by system, everything else that decides its ranks; what is kept under anything else is not read.
        whole: systems that cannot go on in the middle, such as those whose note counts their own answers.
        every: seconds between two writes while a system ranks.
    """

    def __init__(
        self,
        folder: Path,
        protocol_hash: str,
        made_of: Mapping[str, str],
        whole: Collection[str] = (),
        every: float = 20.0,
    ) -> None:
        self._folder = folder / protocol_hash[:24]
        self._protocol_hash = protocol_hash
        self._made_of, self._whole, self._every = dict(made_of), frozenset(whole), every
        self._written = time.monotonic()
        self._failed = False

    def read(self, name: str, users: int) -> Found | None:
        """What is kept of a system that is asked about so many users; none where that is nothing, or of no use."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            found = self._parse(read_json(path), name, users)
        except ArtifactError as error:
            warnings.warn(f"{error} {name} is evaluated anew.", AllmrecWarning, stacklevel=2)
            return None
        return None if found.note is None and name in self._whole else found

    def write(self, name: str, found: Found) -> None:
        """Keep what a system found, whole or not at all. A disk that takes no file is a warning: the work goes on."""
        self._written = time.monotonic()
        if self._failed or (found.note is None and (name in self._whole or not len(found.ranks))):
            return
        value = {
            "kind": _KIND,
            "format": _FORMAT,
            "key": self._key(name),
            "seconds": found.seconds,
            "note": found.note,
            "ranks": [int(rank) if np.isfinite(rank) else None for rank in found.ranks],
        }
        try:
            write_json(self._path(name), value | {"hash": content_hash(json.dumps(value))})
        except (AllmrecError, OSError) as error:
            self._failed = True
            warnings.warn(f"{error} The evaluation goes on and keeps nothing.", AllmrecWarning, stacklevel=2)

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written >= self._every

    def clear(self) -> None:
        """Remove what is kept; the report is written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _key(self, name: str) -> str:
        return content_hash(_KIND, self._protocol_hash, name, self._made_of.get(name, ""))

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._key(name)[:24]}.json"

    def _parse(self, value: dict[str, Any], name: str, users: int) -> Found:
        path, said = self._path(name), value.pop("hash", None)
        ranks, seconds, note = value.get("ranks"), value.get("seconds"), value.get("note")
        if (
            said != content_hash(json.dumps(value))
            or value.get("key") != self._key(name)
            or not isinstance(ranks, list)
            or not all(rank is None or (type(rank) is int and rank >= 1) for rank in ranks)
            or not (isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0)
            or not (note is None or isinstance(note, str))
        ):
            raise ArtifactError(f"{path} is damaged, or was written by another version.")
        # Another limit on the users: fewer are the beginning of more.
        kept = np.array([np.inf if rank is None else rank for rank in ranks[:users]], dtype=np.float64)
        if len(ranks) == users:
            return Found(kept, float(seconds), note)
        return Found(kept, float(seconds) * len(kept) / max(1, len(ranks)), None)
