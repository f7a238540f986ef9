"""Ranks of a table's users, one compressed file a table: the only place that reads and writes them.

A file holds a rank for each system and user, in the order of the protocol's users, and names the protocol: its SHA-256, part,
seed and size. Ranks are int16; on disk they take 8 bits where all of a table fit. Users and candidates themselves are not stored. `draw_protocol` draws them again from the same data and seed, and
the hash tells whether they are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float64, Int8, Int16

from allmrec.core.arrays import read_arrays, write_arrays
from allmrec.core.errors import ArtifactError, DataError
from allmrec.evaluation.protocol import EvaluationProtocol

__all__ = [
    "MISS",
    "NOT_ASKED",
    "Asked",
    "Kept",
    "as_ranks",
    "asked_in",
    "kept",
    "packed_ranks",
    "placed",
    "read_ranks",
    "unpacked_ranks",
    "write_ranks",
]

NOT_ASKED, MISS = 0, -1

Kept = Int16[np.ndarray, " users"]


@dataclass(frozen=True)
class Asked:
    """Which protocol the ranks belong to.

    Attributes:
        hash: SHA-256 of users, targets and candidates.
        part: whether targets are test or validation items.
        seed: what it was drawn with.
        users: how many there are.
        candidates: of each user.
    """

    hash: str
    part: str
    seed: int
    users: int
    candidates: int

    @classmethod
    def of(cls, protocol: EvaluationProtocol) -> Self:
        """The name of a protocol."""
        return cls(protocol.hash, protocol.part, protocol.seed, *map(int, protocol.candidates.shape))

    def named(self) -> dict[str, Any]:
        """As it stands in a table's JSON."""
        return asdict(self)


def kept(ranks: Iterable[float | None]) -> Kept:
    """Ranks as they are stored.

    Args:
        ranks: from 1; None or infinity where the target was not in the answer.

    Raises:
        DataError: a rank is below 1 or does not fit 16 bits.
    """
    found = np.array([np.inf if rank is None else rank for rank in ranks], dtype=np.float64)
    missed = np.isposinf(found)
    wrong = found[~missed & ~((found >= 1) & (found <= np.iinfo(np.int16).max))]
    if len(wrong):
        raise DataError(f"A rank is {wrong[0]}; expected 1 to 32,767, or infinity for a miss.")
    return np.where(missed, MISS, found).astype(np.int16)


def placed(protocol: EvaluationProtocol, users: Iterable[int], ranks: Iterable[float | None]) -> Kept:
    """Ranks of some of a protocol's users in the protocol's order; the others were not asked.

    Args:
        protocol: whose order it is.
        users: their numbers.
        ranks: one each, as `kept` takes them.

    Raises:
        DataError: the protocol does not ask one of them.
    """
    places = {user: place for place, user in enumerate(protocol.users.tolist())}
    row = np.full(len(protocol), NOT_ASKED, dtype=np.int16)
    try:
        row[[places[user] for user in users]] = kept(ranks)
    except KeyError as error:
        raise DataError(f"User {error} is none of the protocol's; its ranks belong to another protocol.") from None
    return row


def as_ranks(stored: Kept) -> Float64[np.ndarray, " users"]:
    """Stored ranks as metrics read them: infinity for a miss.

    Raises:
        DataError: somebody among them was not asked.
    """
    if np.any(stored == NOT_ASKED):
        raise DataError(
            f"{int((stored == NOT_ASKED).sum())} of {len(stored)} users were not asked; leave them out first."
        )
    return np.where(stored == MISS, np.inf, stored.astype(np.float64))


def packed_ranks(
    asked: Asked, ranks: Mapping[str, Kept]
) -> Int8[np.ndarray, "users systems"] | Int16[np.ndarray, "users systems"]:
    """Ranks of several systems as they are stored: a row a user, in 8 bits where all fit.

    Args:
        asked: the protocol, whose order the users have.
        ranks: of each system by name: from 1, `MISS` or `NOT_ASKED`.

    Raises:
        DataError: a system has ranks of more or fewer users than the protocol.
    """
    for name, row in ranks.items():
        if row.shape != (asked.users,) or row.dtype != np.int16:
            raise DataError(
                f"{name} has ranks of shape {row.shape} and type {row.dtype}; expected int16 of {asked.users} users."
            )
    # A row a user: what is hard for one system is hard for the next, which compresses better than a row a system.
    rows = np.stack(list(ranks.values()), axis=1) if ranks else np.zeros((asked.users, 0), dtype=np.int16)
    return rows if np.any(rows > np.iinfo(np.int8).max) else rows.astype(np.int8)


def unpacked_ranks(asked: Asked, rows: np.ndarray) -> list[Kept]:
    """What `packed_ranks` packed, system by system.

    Raises:
        DataError: it is of more or fewer users than the protocol, or no ranks.
    """
    if rows.dtype not in (np.int8, np.int16) or rows.ndim != 2 or len(rows) != asked.users:
        raise DataError(
            f"{rows.dtype} of shape {rows.shape}; expected int8 or int16, a row for each of {asked.users} users"
        )
    return list(rows.T.astype(np.int16))


def write_ranks(path: Path, asked: Asked, ranks: Mapping[str, Kept]) -> None:
    """Write a table's ranks, whole or not at all.

    Args:
        path: the file, .npz.
        asked: the protocol, whose order the users have.
        ranks: of each system by name: from 1, `MISS` or `NOT_ASKED`.

    Raises:
        DataError: a system has ranks of more or fewer users than the protocol.
    """
    rows = packed_ranks(asked, ranks)
    write_arrays(path, about=np.asarray(json.dumps(asked.named() | {"systems": list(ranks)})), ranks=rows)


def asked_in(path: Path) -> Asked:
    """Which protocol a file's ranks belong to.

    Raises:
        ArtifactError: the file is missing or holds no ranks.
    """
    return _read(path)[0]


def read_ranks(path: Path, asked: Asked) -> dict[str, Kept]:
    """Ranks of each system by name, users in the protocol's order.

    Raises:
        ArtifactError: the file is missing, holds no ranks, or has those of another protocol.
    """
    found, ranks = _read(path)
    if found != asked:
        differing = [f"{name} {value!r}, expected {asked.named()[name]!r}" for name, value in found.named().items()
                     if value != asked.named()[name]]  # fmt: skip
        raise ArtifactError(
            f"{path} has ranks of another protocol ({'; '.join(differing)}). Take the data and the seed that it was drawn "
            "from, or remove the file to measure all of it anew."
        )
    return ranks


def _read(path: Path) -> tuple[Asked, dict[str, Kept]]:
    try:
        stored = read_arrays(path)
        about, rows = json.loads(str(stored["about"])), stored["ranks"]
        names = about.pop("systems")
        asked = Asked(**about)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected ranks that a benchmark wrote.") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} holds no ranks ({error}); restore it or measure again.") from error
    try:
        ranks = unpacked_ranks(asked, rows)
        return asked, dict(zip(names, ranks, strict=True))
    except ValueError as error:
        raise ArtifactError(
            f"{path} has not the ranks that it names ({error}). Restore it or measure again."
        ) from error
