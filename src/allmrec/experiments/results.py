"""What cells found, on disk: a file a cell, by its key. Experiments that keep their results in one folder measure equal cells once.

cells/KEY.npz      what was asked of whom, by what, at which cost, when and where; and the target's rank for each user, or what was said
protocols/HASH.npz whom cells asked: users and targets
groups/HASH.npz    which of them count for which group
configs/HASH.json  what many cells share: settings; command, commit and versions
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Int

from allmrec.core.arrays import read_arrays, write_arrays
from allmrec.core.artifacts import read_json, write_dense_json
from allmrec.core.errors import ArtifactError
from allmrec.core.hashing import content_hash
from allmrec.evaluation import EvaluationProtocol
from allmrec.evaluation.order import shuffled_name
from allmrec.evaluation.rank_files import Asked, packed_ranks, unpacked_ranks
from allmrec.experiments.answers import Ranks, Words
from allmrec.experiments.cells import Cell

__all__ = ["AskedUsers", "CellResult", "Results", "curve"]

_KIND, _FORMAT = "allmrec experiment cell", 4
_POINTS = 60
# The same for most cells of an experiment.
_SHARED = ("command", "commit", "versions")
# Of a hash, in the name of a file.
_LETTERS = 24


@dataclass(frozen=True, eq=False)
class AskedUsers:
    """Whom cells asked about.

    Attributes:
        users, targets: numbers, in the protocol's order.
        groups: for each group who counts for it.
    """

    users: Int[np.ndarray, " users"]
    targets: Int[np.ndarray, " users"]
    groups: Mapping[str, Bool[np.ndarray, " users"]]


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell that is done.

    Attributes:
        cell: which.
        about: its JSON, as `Results.write` describes it.
        found: of each user, in the protocol's order.
    """

    cell: Cell
    about: Mapping[str, Any]
    found: Ranks | Words

    @property
    def protocol(self) -> str:
        """Hash of the users and candidates."""
        return str(self.about["protocol"]["hash"])


class Results:
    """Results of one experiment, or of several.

    Args:
        folder: where they are; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._cells, self._protocols = folder / "cells", folder / "protocols"
        self._groups, self._configs = folder / "groups", folder / "configs"

    def has(self, key: str) -> bool:
        """Whether a cell of this key is done, and what it found is whole."""
        try:
            found = self._read(key)
            if found is not None:
                self._asked(found[0])
        except ArtifactError:
            return False
        return found is not None

    def write(
        self,
        cell: Cell,
        key: str,
        about: Mapping[str, Any],
        protocol: EvaluationProtocol,
        groups: Mapping[str, Bool[np.ndarray, " users"]],
        found: Ranks | Words,
    ) -> None:
        """Keep what a cell found. The cell's own file comes last: where it is, all of it is.

        Args:
            cell, key: which.
            about: name, note, users_per_second, costs, made_of, curves, config, device, date, commit, command, versions.
            protocol, groups: who was asked.
            found: of each user of the protocol.
        """
        asked = Asked.of(protocol)
        write_arrays(
            self._protocol(protocol.hash),
            users=_smallest(np.diff(protocol.users, prepend=0)),
            targets=_smallest(protocol.targets),
        )
        if isinstance(found, Words):
            said = {"metrics": list(found.scores), "items": found.of_items, "users": found.of_users}
            arrays = {"said": _text(said), "values": np.stack(list(found.scores.values()))}
        else:
            again = {} if found.shuffled is None else {shuffled_name(cell.system): found.shuffled}
            ranks = {cell.system: found.ranks} | again
            arrays = {"ranks": packed_ranks(asked, ranks)}
        own = {name: value for name, value in about.items() if name not in _SHARED}
        own |= {"kind": _KIND, "format": _FORMAT, "key": key, "protocol": asked.named()}
        own |= {"groups": self._kept_groups(groups), "config": self._kept(about["config"])}
        own |= {"measured": self._kept({name: about[name] for name in _SHARED if name in about})}
        write_arrays(self._cell(key), about=_text(own), **arrays)

    def read(self, cell: Cell, key: str) -> CellResult | None:
        """What a cell found; none where it is not done.

        Raises:
            ArtifactError: what it found is damaged, or of other users than it says.
        """
        found = self._read(key)
        return None if found is None else CellResult(cell, *found)

    def abouts(self) -> Iterator[dict[str, Any]]:
        """What each cell says of itself but what many share; of whichever experiment, and without those that are damaged."""
        for path in sorted(self._cells.glob("*.npz")):
            try:
                about = _parsed(read_arrays(path)["about"])
                if (about["kind"], about["format"]) == (_KIND, _FORMAT):
                    yield about
            except _DAMAGE:
                continue

    def asked(self, found: CellResult) -> AskedUsers:
        """Whom a cell asked.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        return self._asked(found.about)

    def _read(self, key: str) -> tuple[dict[str, Any], Ranks | Words] | None:
        path = self._cell(key)
        if not path.is_file():
            return None
        try:
            stored = read_arrays(path)
            about = _about(stored, key)
            asked = Asked(**about["protocol"])
            about["config"] = read_json(self._config(about["config"]))
            about |= read_json(self._config(about.pop("measured")))
            found = _words(stored, asked) if "said" in stored else _ranks(stored, asked)
        except (ArtifactError, *_DAMAGE) as error:
            raise _damaged(path, error) from error
        return about, found

    def _asked(self, about: Mapping[str, Any]) -> AskedUsers:
        protocol = Asked(**about["protocol"])
        path, of_groups = self._protocol(protocol.hash), self._groups / f"{about['groups']}.npz"
        try:
            stored, masks = read_arrays(path), read_arrays(of_groups)
            groups = {name: np.unpackbits(bits, count=protocol.users).astype(bool) for name, bits in masks.items()}
            users, targets = (np.asarray(stored[name], dtype=np.int64) for name in ("users", "targets"))
            if not users.shape == targets.shape == (protocol.users,):
                raise ValueError(f"{users.shape} users and {targets.shape} targets; expected {protocol.users}")
        except _DAMAGE as error:
            raise ArtifactError(
                f"{path}, or {of_groups}, does not say whom cells asked ({error}); remove {self._cells} to measure again."
            ) from error
        return AskedUsers(np.cumsum(users), targets, groups)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Hold a cell while it is measured, so that another process does not measure the same; wait until it is free."""
        path = self._cells / f".{key[:_LETTERS]}.lock"
        self._cells.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
        # Whoever waits for it finds that the cell is done; where that failed, the next one holds the same file.
        path.unlink(missing_ok=True)

    def keep_only(self, keys: Collection[str], older_than: float = 3600.0) -> int:
        """Remove cells of other keys, and what no cell names any more.

        Args:
            keys: of the cells that stay.
            older_than: in seconds; what is younger may be of a cell that is just being written, and stays.

        Returns:
            How many cells went.

        Raises:
            ArtifactError: a cell that stays is damaged; nothing is removed.
        """
        kept = {path: key for key in keys if (path := self._cell(key)).is_file()}
        needed = set()
        for path, key in kept.items():
            try:
                about = _about(read_arrays(path), key)
            except _DAMAGE as error:
                raise _damaged(path, error) from error
            needed |= {self._protocol(about["protocol"]["hash"]), self._groups / f"{about['groups']}.npz"}
            needed |= {self._config(about["config"]), self._config(about["measured"])}
        before = time.time() - older_than

        def old(path: Path) -> bool:
            return not path.name.startswith(".") and path.stat().st_mtime <= before

        gone = [path for path in self._cells.glob("*.npz") if path not in kept and old(path)]
        # What a cell that stays for being young names was written shortly before it.
        rest = [path for folder in (self._protocols, self._groups, self._configs) for path in folder.glob("*")]
        for path in [*gone, *(path for path in rest if path not in needed and old(path))]:
            path.unlink()
        return len(gone)

    def _kept(self, shared: Mapping[str, Any]) -> str:
        """Keep once what cells share; the name of its file."""
        name = content_hash(json.dumps(shared, sort_keys=True))[:_LETTERS]
        write_dense_json(self._config(name), shared)
        return name

    def _kept_groups(self, groups: Mapping[str, Bool[np.ndarray, " users"]]) -> str:
        """Keep groups once; the name of their file."""
        bits = {name: np.packbits(mask) for name, mask in groups.items()}
        name = content_hash(json.dumps({group: part.tolist() for group, part in bits.items()}))[:_LETTERS]
        write_arrays(self._groups / f"{name}.npz", **bits)
        return name

    def _cell(self, key: str) -> Path:
        return self._cells / f"{key[:_LETTERS]}.npz"

    def _protocol(self, of: str) -> Path:
        return self._protocols / f"{of[:_LETTERS]}.npz"

    def _config(self, name: str) -> Path:
        return self._configs / f"{name}.json"


# What a damaged file raises, whatever reads it.
_DAMAGE = (OSError, KeyError, TypeError, ValueError)


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"The results in {path} are damaged ({error}); remove the file to measure again.")


def _about(stored: Mapping[str, np.ndarray], key: str) -> dict[str, Any]:
    about = _parsed(stored["about"])
    if (about["kind"], about["format"], about["key"]) != (_KIND, _FORMAT, key):
        raise ValueError(f"{about['kind']} of format {about['format']}; expected {_KIND} of {_FORMAT}")
    return about


def _smallest(values: np.ndarray) -> np.ndarray:
    """Numbers in the smallest type that holds them."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return values.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))


def _text(values: Any) -> np.ndarray:
    """JSON as bytes of UTF-8."""
    return np.frombuffer(json.dumps(values, ensure_ascii=False).encode(), dtype=np.uint8)


def _parsed(stored: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stored.tobytes())
    return found


def _ranks(stored: Mapping[str, np.ndarray], asked: Asked) -> Ranks:
    return Ranks(*unpacked_ranks(asked, stored["ranks"]))


def _words(stored: Mapping[str, np.ndarray], asked: Asked) -> Words:
    about, values = _parsed(stored["said"]), stored["values"]
    metrics, of_items, of_users = (list(map(str, about[name])) for name in ("metrics", "items", "users"))
    fits = len(of_items) == len(of_users) == asked.users and values.shape == (len(metrics), asked.users)
    if not fits or values.dtype != np.float64:
        raise ValueError(f"{values.dtype} of shape {values.shape} for {asked.users} users")
    return Words(dict(zip(metrics, values, strict=True)), of_items, of_users)


def curve(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A learning curve by columns, at most sixty points, rounded; none where a record lacks a value."""
    chosen = (
        [records[int(place)] for place in np.unique(np.linspace(0, len(records) - 1, _POINTS).astype(int))]
        if records
        else []
    )
    names = dict.fromkeys(name for record in chosen for name in record)
    values = {name: [record.get(name) for record in chosen] for name in names}
    return {name: [round(v, 5) if isinstance(v, float) else v for v in column] for name, column in values.items()}
