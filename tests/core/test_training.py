"""The training loop: rates by hand, when it stops, what it keeps, and that a resumed run is the same run."""

from __future__ import annotations

import itertools
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from allmrec.core.errors import AllmrecWarning, DivergedError
from allmrec.core.resume import Checkpoint, write_resume
from allmrec.core.training import TrainingConfig, TrainingLog, fit


class Parabola(nn.Module):
    """One weight a dimension; the loss is its squared distance from a point."""

    def __init__(self, start: Sequence[float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))


class ParabolaTask:
    """Draws towards a point; validation follows a script, or is the loss itself."""

    def __init__(
        self, module: Parabola, points: Sequence[Sequence[float]], script: Sequence[float] | None = None
    ) -> None:
        self.module, self.points, self.script = module, points, script
        self.seen: list[Tensor] = []
        self.validated: list[Tensor] = []

    def batches(self, epoch: int) -> Sequence[Tensor]:
        return [torch.tensor(point) for point in self.points]

    def losses(self, batch: Tensor) -> Mapping[str, Tensor]:
        self.seen.append(self.module.weight.detach().clone())
        return {"distance": (self.module.weight - batch).square().sum()}

    def validate(self) -> Mapping[str, float]:
        self.validated.append(self.module.weight.detach().clone())
        if self.script is None:
            return {}
        return {"figure": self.script[len(self.validated) - 1]}


class Regression:
    """A net with dropout on seeded data; all of it depends on epoch and batch number alone."""

    def __init__(
        self, size: int = 4, batches: int = 5, dropout: float = 0.3, tripwire: Callable[[str], None] = lambda at: None
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 1))
        self.size, self.n, self.tripwire = size, batches, tripwire

    def batches(self, epoch: int) -> Sequence[tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(epoch)
        x = torch.randn(self.size * self.n, 3, generator=draw)
        y = x.sum(1, keepdim=True).sin()
        return list(zip(x.split(self.size), y.split(self.size), strict=True))

    def losses(self, batch: tuple[Tensor, Tensor]) -> Mapping[str, Tensor]:
        self.tripwire("losses")
        x, y = batch
        return {"error": (self.net(x) - y).square().mean(), "size": 0.01 * self.net[0].weight.square().mean()}

    def validate(self) -> Mapping[str, float]:
        self.tripwire("validate")
        assert not self.net.training
        x, y = self.batches(99)[0]
        # Random as sampled validation is: the loop must seed it.
        return {"figure": -float((self.net(x + 0.1 * torch.randn(x.shape)) - y).square().mean())}


def test_a_parabola_is_descended_to_its_minimum() -> None:
    module = Parabola()
    task = ParabolaTask(module, [(1.0, -2.0)])
    log = fit(module, task, TrainingConfig(learning_rate=0.1, epochs=300, schedule="cosine"), "descend")
    torch.testing.assert_close(module.weight.detach(), torch.tensor([1.0, -2.0]), atol=1e-2, rtol=0)
    assert log.steps == 300
    assert not module.training
    # Without figures the last step counts, and each epoch leaves its loss.
    assert log.best_step == 300
    assert log.records[0] == {"step": 1, "epoch": 1, "loss/distance": pytest.approx(5.0)}


def test_accumulated_batches_are_one_larger_batch() -> None:
    results = []
    for size, batches, accumulation in ((8, 3, 1), (4, 6, 2), (2, 12, 4)):
        task = Regression(size, batches, dropout=0.0)
        task.validate = dict  # type: ignore[method-assign]  # its sample has the batch's size
        log = fit(task.net, task, TrainingConfig(epochs=2, batch_size=size, accumulation=accumulation), "accumulate")
        assert log.steps == 6
        results.append([p.detach() for p in task.net.parameters()])
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)


def test_an_epoch_that_does_not_fill_the_last_group_steps_on_what_there_is() -> None:
    task = Regression(batches=5)
    log = fit(task.net, task, TrainingConfig(epochs=2, accumulation=2), "accumulate")
    assert [(r["step"], r["epoch"]) for r in log.records] == [(3, 1), (6, 2)]


def test_a_steps_gradient_is_clipped_to_the_norm() -> None:
    for clip, expected in ((0.5, 0.5), (None, 10.0)):
        module = Parabola()
        fit(module, ParabolaTask(module, [(3.0, 4.0)]), TrainingConfig(epochs=1, clip_norm=clip), "clip")
        assert module.weight.grad is not None
        assert float(module.weight.grad.norm()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "warmup", "factors"),
    [
        ("constant", 0.0, [1.0] * 10),
        ("constant", 0.4, [0.25, 0.5, 0.75, 1.0] + [1.0] * 6),
        (
            "cosine",
            0.2,
            # Two steps up; then 0.1 + 0.45 (1 + cos(π t / 8)) for t = 0 … 7.
            [0.5, 1.0, 1.0, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802, 0.134254],
        ),
    ],
)
def test_rates_by_hand(schedule: str, warmup: float, factors: list[float]) -> None:
    # With both decay rates at 0 Adam moves by the rate itself, whatever the gradient's size.
    config = TrainingConfig.model_validate(
        {"learning_rate": 0.01, "betas": (0, 0), "epochs": 2, "schedule": schedule, "warmup": warmup}
    )
    module = Parabola((0.0,))
    task = ParabolaTask(module, [(100.0,)] * 5)
    fit(module, task, config, "rates")
    places = [*(float(w) for w in task.seen), float(module.weight.detach())]
    moves = [b - a for a, b in itertools.pairwise(places)]
    assert moves == pytest.approx([0.01 * f for f in factors], rel=1e-4)


def test_stops_when_patience_is_out_and_keeps_the_best_weights() -> None:
    module = Parabola()
    task = ParabolaTask(module, [(9.0, 9.0)] * 4, script=[1, 3, 3, 2, 99])
    log = fit(module, task, TrainingConfig(epochs=10, validate_every=2, patience=2), "stop")
    assert len(task.validated) == 4
    assert log.steps == 8
    assert (log.best_step, log.best_value) == (4, 3)
    assert torch.equal(module.weight, task.validated[1])
    assert [record["figure"] for record in log.records] == [1, 3, 3, 2]


def test_the_last_step_is_validated_once_whatever_the_rhythm() -> None:
    for every, steps in ((None, [4, 8]), (3, [3, 6, 8]), (4, [4, 8]), (100, [8])):
        module = Parabola()
        task = ParabolaTask(module, [(1.0, 1.0)] * 4)
        log = fit(module, task, TrainingConfig(epochs=2, validate_every=every), "rhythm")
        assert [record["step"] for record in log.records] == steps


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    task = Regression()
    fit(task.net, task, TrainingConfig(epochs=1), "random")
    assert torch.equal(before, torch.get_rng_state())


def test_another_seed_is_another_run() -> None:
    weights = []
    for seed in (0, 0, 1):
        task = Regression()
        fit(task.net, task, TrainingConfig(epochs=1), "seeds", seed=seed)
        weights.append(task.net[0].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# Fifteen steps of up to two batches (losses is called 25 times), four before each validation but the last.
CONFIG = TrainingConfig(
    learning_rate=0.05, epochs=5, accumulation=2, validate_every=4, clip_norm=1.0, warmup=0.2, schedule="cosine"
)


class Stopped(Exception):  # noqa: N818  # what happened is no error
    """The machine went away."""


def tripwire(where: str, count: int, error: type[BaseException]) -> Callable[[str], None]:
    """Raises at the `count`-th time that training comes to `where`."""
    passed = [0]

    def check(at: str) -> None:
        passed[0] += at == where
        if at == where and passed[0] == count:
            raise error

    return check


def outcome(log: TrainingLog) -> tuple[object, ...]:
    return log.steps, log.best_step, log.best_value, log.records


def assert_same_run(task: Regression, log: TrainingLog, config: TrainingConfig) -> None:
    whole = Regression()
    expected = fit(whole.net, whole, config, "uninterrupted")
    assert outcome(log) == outcome(expected)
    for mine, theirs in zip(task.net.parameters(), whole.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("where", "count"), [("losses", n) for n in (1, 2, 5, 7, 9, 12, 17, 25)] + [("validate", n) for n in (1, 2, 4)]
)
def test_a_run_that_was_stopped_and_started_again_is_the_same_run(
    where: str, count: int, error: type[BaseException], tmp_path: Path
) -> None:
    file = tmp_path / "resume.safetensors"
    # A crash leaves what was written before it; Ctrl-C writes, so it needs no more.
    every = 0.0 if error is Stopped else math.inf
    stopped = Regression(tripwire=tripwire(where, count, error))
    with pytest.raises(error):
        fit(stopped.net, stopped, CONFIG, "stopped", Checkpoint(file, every))
    again = Regression()
    log = fit(again.net, again, CONFIG, "again", Checkpoint(file))
    assert_same_run(again, log, CONFIG)


def test_a_run_may_be_stopped_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "resume.safetensors"
    for _ in range(5):
        task = Regression(tripwire=tripwire("losses", 5, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(task.net, task, CONFIG, "again and again", Checkpoint(file, math.inf))
    last = Regression()
    assert_same_run(last, fit(last.net, last, CONFIG, "for good", Checkpoint(file)), CONFIG)


@pytest.mark.parametrize("step", [1, 3, 4, 8, 15])
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(step: int, tmp_path: Path) -> None:
    file, taken = tmp_path / "resume.safetensors", [0]

    def interrupt(*_: object) -> None:
        taken[0] += 1
        if taken[0] == step:
            os.kill(os.getpid(), signal.SIGINT)

    hook = register_optimizer_step_post_hook(interrupt)
    try:
        task = Regression()
        with pytest.raises(KeyboardInterrupt):
            fit(task.net, task, CONFIG, "interrupted", Checkpoint(file, math.inf))
    finally:
        hook.remove()
    assert taken == [step]
    again = Regression()
    assert_same_run(again, fit(again.net, again, CONFIG, "again", Checkpoint(file)), CONFIG)


def test_a_run_out_of_patience_does_not_go_on_when_started_again(tmp_path: Path) -> None:
    file, points = tmp_path / "resume.safetensors", [(1.0, 1.0)] * 4
    config = TrainingConfig(epochs=9, validate_every=1, patience=2)
    logs = []
    for _ in range(2):
        module = Parabola()
        task = ParabolaTask(module, points, script=[5, 4, 3, 2, 1])
        logs.append(fit(module, task, config, "patience", Checkpoint(file, 0.0)))
    assert logs[0].steps == 3
    assert outcome(logs[1]) == outcome(logs[0])
    assert task.validated == []


def test_a_finished_run_started_again_gives_its_weights_at_once(tmp_path: Path) -> None:
    file = tmp_path / "resume.safetensors"
    first = Regression()
    fit(first.net, first, CONFIG, "finished", Checkpoint(file, 0.0))
    again = Regression(tripwire=tripwire("losses", 1, Stopped))
    log = fit(again.net, again, CONFIG, "finished", Checkpoint(file, 0.0))
    assert_same_run(again, log, CONFIG)


def damaged(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def of_another_model(file: Path) -> None:
    net = nn.Linear(2, 2)
    write_resume(file, net, torch.optim.AdamW(net.parameters()), None, {"log": {}, "at": {}})


def of_another_version(file: Path) -> None:
    net = Regression().net
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    write_resume(file, net, optimizer, None, {"log": {"loops": 3}, "at": {}})


@pytest.mark.parametrize("spoil", [damaged, cut, of_another_model, of_another_version])
def test_with_a_resume_state_that_cannot_be_used_training_starts_anew_and_says_so(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "resume"
    stopped = Regression(tripwire=tripwire("losses", 7, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit(stopped.net, stopped, CONFIG, "stopped", Checkpoint(file, math.inf))
    spoil(file)
    spoilt = file.read_bytes()
    again = Regression()
    with pytest.warns(AllmrecWarning, match=r"resume state .*resume .*It now lies in .*resume\.unusable.* starts anew"):
        log = fit(again.net, again, CONFIG, "again", Checkpoint(file, math.inf))
    assert_same_run(again, log, CONFIG)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("resume.unusable", spoilt)]


def test_a_loss_that_is_no_number_stops_training_before_the_step() -> None:
    module = Parabola()
    task = ParabolaTask(module, [[1.0, 1.0], [float("inf"), 0.0]])
    with pytest.raises(DivergedError, match=r"loss 'distance' is inf at step 2.*now 0\.001"):
        fit(module, task, TrainingConfig(learning_rate=1e-3, batch_size=1, epochs=1), "test")
    assert torch.isfinite(module.weight).all()


def test_the_log_as_json_has_no_infinity() -> None:
    assert TrainingLog().as_json()["best_value"] is None
    assert TrainingLog(best_value=0.5, best_step=3, steps=4, seconds=1.26, trained_parameters=7).as_json() == {
        "steps": 4,
        "seconds": 1.3,
        "trained_parameters": 7,
        "best_step": 3,
        "best_value": 0.5,
        "records": [],
    }
