"""What cells found, on disk: a small JSON file and a compressed file of ranks a cell.

cells/CELL.json         what was asked of whom, by what, at which cost, when and where
cells/CELL.npz          the target's rank for each user (`evaluation.rank_files`), or what was said of each
cells/CELL.failed.json  what went wrong, until the cell is done
protocols/HASH.npz      whom cells asked: users, targets, groups
configs/HASH.json       what many cells share: settings; command, commit and versions
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from allmrec.core.artifacts import atomic_write, read_json, write_dense_json, write_json
from allmrec.core.errors import ArtifactError
from allmrec.core.hashing import content_hash
from allmrec.evaluation import EvaluationProtocol
from allmrec.evaluation.order import shuffled_name
from allmrec.evaluation.rank_files import Asked, read_ranks, write_ranks
from allmrec.experiments.answers import Ranks, Words
from allmrec.experiments.cells import Cell

__all__ = ["AskedUsers", "CellResult", "Results", "curve"]

_KIND, _FORMAT = "allmrec experiment cell", 3
_POINTS = 60
# The same for most cells of an experiment.
_SHARED = ("command", "commit", "versions")


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
    """The results of an experiment.

    Args:
        folder: the experiment's.
    """

    def __init__(self, folder: Path) -> None:
        self._cells, self._protocols, self._configs = folder / "cells", folder / "protocols", folder / "configs"

    def key(self, cell: Cell) -> str | None:
        """The key of what stands there of a cell; none where nothing whole does."""
        try:
            about = read_json(self._cells / f"{cell.id}.json")
        except ArtifactError:
            return None
        there = about.get("kind") == _KIND and about.get("format") == _FORMAT and self._found(cell).is_file()
        return str(about.get("key")) if there else None

    def write(
        self,
        cell: Cell,
        key: str,
        about: Mapping[str, Any],
        protocol: EvaluationProtocol,
        groups: Mapping[str, Bool[np.ndarray, " users"]],
        found: Ranks | Words,
    ) -> None:
        """Keep what a cell found.

        Args:
            cell, key: which.
            about: name, note, users_per_second, costs, made_of, curves, config, device, date, commit, command, versions.
            protocol, groups: who was asked.
            found: of each user of the protocol.
        """
        asked = Asked.of(protocol)
        path = self._protocols / f"{protocol.hash[:24]}.npz"
        if not path.is_file():
            buffer = io.BytesIO()
            # Any: numpy's type of a name beside its own is that of its flag.
            masks: dict[str, Any] = {f"group {name}": mask for name, mask in groups.items()}
            np.savez_compressed(buffer, users=protocol.users, targets=protocol.targets, **masks)
            atomic_write(path, buffer.getvalue())
        # This first: a cell that has a JSON file has what it found, whenever this is killed.
        if isinstance(found, Words):
            _write_words(self._found(cell), asked, found)
        else:
            again = {} if found.shuffled is None else {shuffled_name(cell.system): found.shuffled}
            write_ranks(self._found(cell), asked, {cell.system: found.ranks} | again)
        form = "words" if isinstance(found, Words) else "ranks"
        shared = {name: about[name] for name in _SHARED if name in about}
        own = {name: value for name, value in about.items() if name not in _SHARED}
        write_dense_json(
            self._cells / f"{cell.id}.json",
            {"kind": _KIND, "format": _FORMAT, "key": key, "form": form, "protocol": asked.named(), **own}
            | {"config": self._kept(about["config"]), "measured": self._kept(shared)},
        )
        self._failure(cell).unlink(missing_ok=True)

    def read(self, cell: Cell) -> CellResult | None:
        """What a cell found; none where it is not done.

        Raises:
            ArtifactError: what it found is damaged, or of other users than it says.
        """
        if self.key(cell) is None:
            return None
        about = read_json(self._cells / f"{cell.id}.json")
        try:
            asked = Asked(**about["protocol"])
            about["config"] = read_json(self._configs / f"{about['config']}.json")
            about |= read_json(self._configs / f"{about.pop('measured')}.json")
            if about.get("form") == "words":
                return CellResult(cell, about, _read_words(self._found(cell), asked))
            ranks = read_ranks(self._found(cell), asked)
            found = Ranks(ranks[cell.system], ranks.get(shuffled_name(cell.system)))
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"The results of {cell.id} are damaged ({error}); remove them to measure again."
            ) from error
        return CellResult(cell, about, found)

    def take(self, cell: Cell, key: str, other: Results) -> Cell | None:
        """Take what another experiment found under the same key: equal keys, equal results.

        Args:
            cell, key: which, as they are called here.
            other: where it may be found.

        Returns:
            The cell as it is called there; none where nothing whole of that key is.
        """
        for path in sorted(other._cells.glob("*.json")):
            try:
                about = read_json(path)
                if about.get("key") != key or other.read(there := Cell(**about["cell"])) is None:
                    continue
                other.asked(str(about["protocol"]["hash"]))
                shared = [other._configs / f"{about[name]}.json" for name in ("config", "measured")]
                protocol = other._protocols / f"{str(about['protocol']['hash'])[:24]}.npz"
                files = [(source, self._configs / source.name) for source in shared]
                files += [(protocol, self._protocols / protocol.name), (other._found(there), self._found(cell))]
                for source, target in files:
                    atomic_write(target, source.read_bytes())
            except (ArtifactError, OSError, KeyError, TypeError):
                continue  # damaged there: it is measured here
            write_dense_json(self._cells / f"{cell.id}.json", about | {"cell": cell.__dict__})
            self.forget_failure(cell)
            return there
        return None

    def _kept(self, shared: Mapping[str, Any]) -> str:
        """Keep once what cells share; the name of its file."""
        name = content_hash(json.dumps(shared, sort_keys=True))[:24]
        if not (path := self._configs / f"{name}.json").is_file():
            write_dense_json(path, shared)
        return name

    def asked(self, protocol_hash: str) -> AskedUsers:
        """Whom a protocol asks.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        path = self._protocols / f"{protocol_hash[:24]}.npz"
        try:
            with np.load(io.BytesIO(path.read_bytes())) as stored:
                groups = {name.removeprefix("group "): stored[name] for name in stored if name.startswith("group ")}
                return AskedUsers(stored["users"], stored["targets"], groups)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                f"{path} says not whom cells asked ({error}); remove `cells` and measure again."
            ) from error

    def fail(self, cell: Cell, about: Mapping[str, Any]) -> None:
        """Keep why a cell is not done."""
        write_json(self._failure(cell), about)

    def forget_failure(self, cell: Cell) -> None:
        """Whether it fails again is about to be seen."""
        self._failure(cell).unlink(missing_ok=True)

    def failure(self, cell: Cell) -> dict[str, Any] | None:
        """Why a cell is not done; none where it is, or was never tried."""
        path = self._failure(cell)
        return read_json(path) if path.is_file() else None

    def _found(self, cell: Cell) -> Path:
        return self._cells / f"{cell.id}.npz"

    def _failure(self, cell: Cell) -> Path:
        return self._cells / f"{cell.id}.failed.json"


def _write_words(path: Path, asked: Asked, words: Words) -> None:
    """What was said, in order, and a row of values a metric."""
    about = {"protocol": asked.named(), "metrics": list(words.scores), "items": words.of_items, "users": words.of_users}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.asarray(json.dumps(about)), values=np.stack(list(words.scores.values())))
    atomic_write(path, buffer.getvalue())


def _read_words(path: Path, asked: Asked) -> Words:
    """What `_write_words` wrote.

    Raises:
        ArtifactError: the file is damaged, or of other users.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            about, values = json.loads(str(stored["about"])), stored["values"]
        metrics, of_items, of_users = (list(map(str, about[name])) for name in ("metrics", "items", "users"))
        fits = about["protocol"] == asked.named() and len(of_items) == len(of_users) == asked.users
        if not fits or values.dtype != np.float64 or values.shape != (len(metrics), asked.users):
            raise ValueError(f"{values.dtype} of shape {values.shape} for {asked.users} users")
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path} does not hold what users were told ({error}); remove it to measure again."
        ) from error
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
