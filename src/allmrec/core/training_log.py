"""What happened in a training, and where it stands: what a resume state holds beside tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Position", "TrainingLog"]


@dataclass
class TrainingLog:
    """What happened: one record per validation, and the one whose weights were kept.

    `stopped` is whether a callback ended the training.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_value: float = -math.inf
    steps: int = 0
    seconds: float = 0.0
    trained_parameters: int = 0
    stopped: bool = False

    def as_json(self) -> dict[str, Any]:
        """The log as plain values."""
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "trained_parameters": self.trained_parameters,
            "best_step": self.best_step,
            "best_value": None if self.best_value == -math.inf else self.best_value,
            "records": self.records,
        } | ({"stopped": True} if self.stopped else {})


@dataclass
class Position:
    """Where training stands: enough, with the tensors, to go on as if nothing had happened."""

    epoch: int = 0
    batch: int = 0
    due: bool = False
    since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    first_losses: dict[str, float] = field(default_factory=dict)
    first_weight: float | None = None
