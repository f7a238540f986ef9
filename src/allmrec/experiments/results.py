"""What cells found, on disk: a small JSON file and a compressed file of ranks a cell.

cells/CELL.json         what was asked of whom, by what, at which cost, when and where
cells/CELL.npz          the target's rank for each user (`evaluation.rank_files`)
cells/CELL.failed.json  what went wrong, until the cell is done
protocols/HASH.npz      whom cells asked: users, targets, groups
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from allmrec.core.artifacts import atomic_write, read_json, write_json
from allmrec.core.errors import ArtifactError
from allmrec.evaluation import EvaluationProtocol
from allmrec.evaluation.rank_files import Asked, Kept, read_ranks, write_ranks
from allmrec.experiments.cells import Cell

__all__ = ["AskedUsers", "CellResult", "Results", "curve"]

_KIND, _FORMAT = "allmrec experiment cell", 1
_POINTS = 60


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
        ranks: as `rank_files` stores them, in the protocol's order.
    """

    cell: Cell
    about: Mapping[str, Any]
    ranks: Kept

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
        self._cells, self._protocols = folder / "cells", folder / "protocols"

    def key(self, cell: Cell) -> str | None:
        """The key of what stands there of a cell; none where nothing whole does."""
        try:
            about = read_json(self._cells / f"{cell.id}.json")
        except ArtifactError:
            return None
        there = about.get("kind") == _KIND and about.get("format") == _FORMAT and self._ranks(cell).is_file()
        return str(about.get("key")) if there else None

    def write(
        self,
        cell: Cell,
        key: str,
        about: Mapping[str, Any],
        protocol: EvaluationProtocol,
        groups: Mapping[str, Bool[np.ndarray, " users"]],
        ranks: Kept,
    ) -> None:
        """Keep what a cell found.

        Args:
            cell, key: which.
            about: name, note, users_per_second, costs, made_of, curves, config, device, date, commit, command, versions.
            protocol, groups: who was asked.
            ranks: one a user of the protocol.
        """
        asked = Asked.of(protocol)
        path = self._protocols / f"{protocol.hash[:24]}.npz"
        if not path.is_file():
            buffer = io.BytesIO()
            masks = {f"group {name}": mask for name, mask in groups.items()}
            np.savez_compressed(buffer, users=protocol.users, targets=protocol.targets, **masks)  # type: ignore[arg-type]  # numpy types names as flags
            atomic_write(path, buffer.getvalue())
        # Ranks first: a cell that has a JSON file has its ranks, whenever this is killed.
        write_ranks(self._ranks(cell), asked, {cell.system: ranks})
        write_json(
            self._cells / f"{cell.id}.json",
            {"kind": _KIND, "format": _FORMAT, "key": key, "protocol": asked.named(), **about},
        )
        self._failure(cell).unlink(missing_ok=True)

    def read(self, cell: Cell) -> CellResult | None:
        """What a cell found; none where it is not done.

        Raises:
            ArtifactError: its ranks are damaged, or of other users than it says.
        """
        if self.key(cell) is None:
            return None
        about = read_json(self._cells / f"{cell.id}.json")
        try:
            asked = Asked(**about["protocol"])
            ranks = read_ranks(self._ranks(cell), asked)[cell.system]
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"The results of {cell.id} are damaged ({error}); remove them to measure again."
            ) from error
        return CellResult(cell, about, ranks)

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

    def _ranks(self, cell: Cell) -> Path:
        return self._cells / f"{cell.id}.npz"

    def _failure(self, cell: Cell) -> Path:
        return self._cells / f"{cell.id}.failed.json"


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
