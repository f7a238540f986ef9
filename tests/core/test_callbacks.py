"""Callbacks: what they are told, that they can end a phase, and that one that raises loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from allmrec.core.callbacks import Callback, called_back, stage_named
from allmrec.core.errors import ConfigError
from allmrec.core.resume import Checkpoint
from allmrec.core.training import TrainingConfig, TrainingLog, fit

CONFIG = TrainingConfig(learning_rate=0.1, epochs=3, validate_every=2)


class Task:
    """Draws one weight towards 1 in four batches an epoch; the figure is how near it is."""

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)

    def batches(self, epoch: int) -> Sequence[int]:
        return [0, 1, 2, 3]

    def losses(self, batch: int) -> Mapping[str, Tensor]:
        return {"distance": (self.module.weight - 1).square().sum()}

    def validate(self) -> Mapping[str, float]:
        return {"nearness": -float((self.module.weight.detach() - 1).abs())}

    def fit(self, resume: Path | None = None) -> TrainingLog:
        return fit(self.module, self, CONFIG, "draw", None if resume is None else Checkpoint(resume, 1e9))


class Recorder(Callback):
    """Keeps what it is told."""

    def __init__(self, stop_at: int | None = None, raise_at: int | None = None) -> None:
        self.steps: list[tuple[str, int, dict[str, float]]] = []
        self.validations: list[tuple[str, int, dict[str, float]]] = []
        self._stop_at, self._raise_at = stop_at, raise_at

    def on_step(self, stage: str, step: int, losses: Mapping[str, float]) -> bool | None:
        self.steps.append((stage, step, dict(losses)))
        if step == self._raise_at:
            raise RuntimeError("enough")
        return step == self._stop_at

    def on_validation(self, stage: str, step: int, figures: Mapping[str, float]) -> bool | None:
        self.validations.append((stage, step, dict(figures)))
        return None


def test_every_step_and_validation_is_told() -> None:
    heard, task = Recorder(), Task()
    with called_back([heard]):
        log = task.fit()
    assert [step for _, step, _ in heard.steps] == list(range(1, 13))
    assert heard.steps[0] == ("draw", 1, {"distance": 1.0})
    assert [step for _, step, _ in heard.validations] == [2, 4, 6, 8, 10, 12]
    assert heard.validations[-1][2]["nearness"] == log.records[-1]["nearness"]
    assert not log.stopped
    assert "stopped" not in log.as_json()


def test_it_has_the_stages_name_and_is_heard_in_the_block_alone() -> None:
    heard = Recorder()
    with called_back([heard]), stage_named("tune"):
        Task().fit()
    assert {stage for stage, _, _ in heard.steps} == {"tune"}
    Task().fit()
    assert len(heard.steps) == 12


def test_a_callback_changes_no_result() -> None:
    plain, watched = Task(), Task()
    plain.fit()
    with called_back([Recorder()]):
        watched.fit()
    assert torch.equal(plain.module.weight, watched.module.weight)


def test_true_ends_the_phase_with_a_last_validation_and_the_best_weights() -> None:
    first, second, task = Recorder(stop_at=3), Recorder(), Task()
    with called_back([first, second]):
        log = task.fit()
    assert log.steps == log.best_step == 3
    assert log.stopped
    assert log.as_json()["stopped"] is True
    assert [step for _, step, _ in second.steps] == [1, 2, 3], "all are called"
    assert [step for _, step, _ in second.validations] == [2, 3]
    assert task.validate()["nearness"] == pytest.approx(log.best_value)


def test_a_validation_may_end_it_too() -> None:
    class Enough(Callback):
        def on_validation(self, stage: str, step: int, figures: Mapping[str, float]) -> bool | None:
            return step == 4

    with called_back([Enough()]):
        log = Task().fit()
    assert log.steps == 4
    assert [record["step"] for record in log.records] == [2, 4]


def test_an_exception_reaches_the_caller_and_the_next_call_goes_on_from_there(tmp_path: Path) -> None:
    state, whole = tmp_path / "state.safetensors", Task()
    wanted = whole.fit()
    with called_back([Recorder(raise_at=5)]), pytest.raises(RuntimeError, match="enough"):
        Task().fit(state)
    heard, task = Recorder(), Task()
    with called_back([heard]):
        log = task.fit(state)
    assert [step for _, step, _ in heard.steps] == list(range(6, 13))
    assert log.records == wanted.records
    assert torch.equal(task.module.weight, whole.module.weight)


def test_an_exception_at_a_validation_does_not_repeat_it(tmp_path: Path) -> None:
    class Broken(Callback):
        def on_validation(self, stage: str, step: int, figures: Mapping[str, float]) -> bool | None:
            raise OSError("no disk for metrics")

    state, whole = tmp_path / "state.safetensors", Task()
    wanted = whole.fit()
    with called_back([Broken()]), pytest.raises(OSError, match="metrics"):
        Task().fit(state)
    assert Task().fit(state).records == wanted.records


def test_the_weights_that_come_in_may_be_the_best() -> None:
    task = Task()
    nn.init.ones_(task.module.weight)
    log = fit(task.module, task, CONFIG.model_copy(update={"learning_rate": 1.0}), "draw", validate_first=True)
    assert (log.records[0]["step"], log.records[0]["nearness"]) == (0, 0.0)
    assert log.best_step == 0
    assert task.module.weight.item() == 1.0


@pytest.mark.parametrize("wrong", [Recorder, print, "metrics.csv", None])
def test_what_is_no_callback_is_refused(wrong: object) -> None:
    with (
        pytest.raises(ConfigError, match=r"expected an object of a subclass of allmrec\.Callback"),
        called_back([wrong]),
    ):  # type: ignore[list-item]  # what is wrong in it is the test
        pass
