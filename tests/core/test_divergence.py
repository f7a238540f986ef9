"""Training that has diverged says so, NaN or not; training that learns is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from allmrec.core.errors import DivergedError
from allmrec.core.training import TrainingConfig, fit


class Regression:
    """Fits a line; of `classes` a choice among two instead."""

    def __init__(self, module: nn.Linear, classes: bool = False, figure: float = 0.0) -> None:
        self.module, self.classes, self.figure = module, classes, figure

    def batches(self, epoch: int) -> Sequence[int]:
        return [0, 1, 2, 3]

    def losses(self, batch: int) -> Mapping[str, Tensor]:
        x = torch.linspace(-1, 1, 8)[:, None] * (batch + 1)
        if self.classes:
            # Odd batches have the other class: what a step too long is sure of is wrong in the next.
            target = torch.full((8,), batch % 2)
            return {"choice": nn.functional.cross_entropy(self.module(x.abs()), target)}
        return {"distance": (self.module(x) - 2 * x).square().mean()}

    def validate(self) -> Mapping[str, float]:
        return {"figure": self.figure}


@pytest.mark.parametrize("rate", [1e4, 1e6, 1e12])
def test_a_rate_that_gives_absurd_scores_is_said(rate: float) -> None:
    for task in (Regression(nn.Linear(1, 1)), Regression(nn.Linear(1, 2), classes=True)):
        with pytest.raises(
            DivergedError, match=rf"at first.*smaller training.learning_rate \(now {rate:g}\)".replace("+", r"\+")
        ):
            fit(task.module, task, TrainingConfig(learning_rate=rate, epochs=3), "diverge")


def test_one_step_is_enough_to_see_it() -> None:
    class One(Regression):
        def batches(self, epoch: int) -> Sequence[int]:
            return [0]

    task = One(nn.Linear(1, 1))
    with pytest.raises(DivergedError, match=r"The largest weight is 1e\+06 after step 1"):
        fit(task.module, task, TrainingConfig(learning_rate=1e6, epochs=1), "diverge")


def test_a_validation_figure_that_is_none_is_said() -> None:
    task = Regression(nn.Linear(1, 1), figure=float("nan"))
    with pytest.raises(DivergedError, match="validation's 'figure' is nan after step 4"):
        fit(task.module, task, TrainingConfig(epochs=1), "diverge")


def test_large_numbers_from_the_start_are_no_divergence() -> None:
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(5e4)
    log = fit(module, Regression(module), TrainingConfig(learning_rate=0.1, epochs=2), "large")
    assert log.steps == 8
    assert log.records[-1]["loss/distance"] > 1e9
