"""Shares of a batch, and the training loop as several processes run it, one after another in one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from allmrec.core import training
from allmrec.core.distributed import Processes, processes, slices
from allmrec.core.training import TrainingConfig


@given(st.integers(0, 100), st.integers(1, 30))
def test_slices_cover_all_rows_in_order_and_differ_by_one_at_the_most(rows: int, count: int) -> None:
    parts = [list(range(rows))[part] for part in slices(rows, count)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert len(parts) == count
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_is_alone_and_waits_for_nobody() -> None:
    here = processes()
    assert here == Processes(0, 1, 0)
    assert here.is_main
    here.wait()
    with here.main_first():
        pass
    assert here.from_main("mine") == "mine"
    assert here.device("cuda") == "cuda"
    assert here.sum_values({"loss": 2.0}, torch.device("cpu")) == {"loss": 2.0}


def test_among_several_each_takes_its_own_gpu() -> None:
    assert Processes(5, 8, 1).device("cuda") == "cuda:1"
    assert Processes(5, 8, 1).device("cuda:3") == "cuda:3"
    assert Processes(5, 8, 1).device("cpu") == "cpu"
    assert not Processes(5, 8, 1).is_main


@dataclass(frozen=True)
class Imagined(Processes):
    """One of several processes, with nobody to add gradients to: the test does that."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        pass

    def sum_values(self, values: Mapping[str, float], device: torch.device) -> dict[str, float]:
        return dict(values)


class Squares:
    """A mean of squares over rows; `terms` differ in what they are means over."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.net = nn.Linear(3, 1)

    def batches(self, epoch: int) -> Sequence[Tensor]:
        return [torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows)) for rows in (5, 3)]

    def losses(self, batch: Tensor) -> Mapping[str, Tensor]:
        found = self.net(batch).square()
        return {"rows": found.mean(), "positive": found[batch[:, 0] > 0].sum() / max(1, int((batch[:, 0] > 0).sum()))}

    def validate(self) -> Mapping[str, float]:
        return {}


class SharedSquares(Squares):
    """The same for several processes."""

    def shares(self, batch: Tensor, count: int) -> list[tuple[Tensor, dict[str, float]]]:
        positive = batch[:, 0] > 0
        return [
            (
                batch[part],
                {"rows": len(batch[part]) / len(batch), "positive": float(positive[part].sum() / positive.sum())},
            )
            for part in slices(len(batch), count)
        ]


@pytest.mark.parametrize("kind", [Squares, SharedSquares])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_gradients_and_terms_add_up_to_those_of_one_process(kind: type[Squares], count: int) -> None:
    """Of uneven parts, of empty ones, over an accumulated group, and where every process computes the whole batch."""

    def found(here: Processes) -> tuple[list[Tensor], dict[str, float]]:
        task = kind()
        parameters = list(task.net.parameters())
        optimizer = torch.optim.SGD(parameters)
        terms = training._gradients(task, task.batches(0), optimizer, parameters, TrainingConfig(), 0, 0, here)
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters], terms

    expected, wanted = found(Processes())
    parts = [found(Imagined(index, count)) for index in range(count)]
    for number, gradient in enumerate(expected):
        torch.testing.assert_close(sum(part[0][number] for part in parts), gradient, atol=1e-6, rtol=1e-5)
    assert {name: sum(part[1][name] for part in parts) for name in wanted} == pytest.approx(wanted, rel=1e-5)
