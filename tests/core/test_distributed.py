"""Shares of a batch, and the training loop as several processes run it, one after another in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from allmrec.core import distributed, training
from allmrec.core.distributed import Processes, processes, slices
from allmrec.core.errors import ConfigError, ProcessLostError
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


def test_a_launcher_that_starts_one_of_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch --cpu` does on each host where there is no MPI: every process would train alone."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun"):
        processes()


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan", "1e9"])
def test_how_long_to_wait_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(distributed.TIMEOUT, value)
    with pytest.raises(ConfigError, match=f"{distributed.TIMEOUT} is '{value}'"):
        processes()


@pytest.mark.parametrize("call", [
    lambda here: here.wait(),
    lambda here: here.from_main(1),
    lambda here: here.sum_values({"loss": 1.0}, torch.device("cpu")),
    lambda here: here.sum_gradients([nn.Parameter(torch.ones(1))]),
])  # fmt: skip
def test_whoever_waits_for_one_that_is_gone_says_so(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Processes], object]
) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise RuntimeError(
            "[/somewhere/pair.cc:553] Connection closed by peer [10.0.0.2]:7. This is typical.\nMore of it."
        )

    for name in ("barrier", "broadcast_object_list", "all_reduce"):
        monkeypatch.setattr(torch.distributed, name, fails)
    with pytest.raises(ProcessLostError, match=r"Process 1 of 3 .*\(Connection closed by peer \[10\.0\.0\.2\]:7\)$"):
        call(Processes(1, 3))


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
