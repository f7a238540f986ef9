"""Answers that experiments share: a cell that was measured for one plan is taken by others that ask the same.

answers/KEY/            a cell's files, as an experiment has them (`results.Results`)
"""

from __future__ import annotations

from pathlib import Path

from allmrec.experiments.cells import Cell
from allmrec.experiments.results import Results

__all__ = ["AnswerStore"]


class AnswerStore:
    """Cells that are done, by their keys, beside the stages that experiments share.

    Args:
        stages: the folder of the stages; need not exist.
    """

    def __init__(self, stages: Path) -> None:
        self._folder = stages / "answers"

    def take(self, results: Results, cell: Cell, key: str) -> Cell | None:
        """Bring a cell that another experiment has measured into this one's results.

        Returns:
            The cell as the other one calls it; none where none was measured.
        """
        return results.take(cell, key, Results(self._folder / key))

    def keep(self, results: Results, cell: Cell, key: str) -> None:
        """Leave a cell that is done here for others."""
        Results(self._folder / key).take(cell, key, results)
