"""Why cells of an experiment are not done, on disk.

failed/CELL.json    what went wrong, until the cell is done
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allmrec.core.artifacts import read_json, write_json
from allmrec.experiments.cells import Cell

__all__ = ["Failures"]


class Failures:
    """The failures of an experiment.

    Args:
        folder: the experiment's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "failed"

    def write(self, cell: Cell, about: Mapping[str, Any]) -> None:
        """Keep why a cell is not done: message, traceback, date."""
        write_json(self._file(cell), about)

    def forget(self, cell: Cell) -> None:
        """It is done, or whether it fails again is about to be seen."""
        self._file(cell).unlink(missing_ok=True)

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """Why a cell is not done; none where it is, or was never tried."""
        path = self._file(cell)
        return read_json(path) if path.is_file() else None

    def _file(self, cell: Cell) -> Path:
        return self._folder / f"{cell.id}.json"
