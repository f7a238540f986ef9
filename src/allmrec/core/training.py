"""The one training loop; knows a task that yields batches and losses, and nothing of what is being learned."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from allmrec.core.config import Config
from allmrec.core.errors import ArtifactError
from allmrec.core.interrupts import interrupts_postponed
from allmrec.core.progress import progress_bar
from allmrec.core.resume import read_resume, write_resume
from allmrec.core.seeding import seeded_torch

__all__ = ["Task", "TrainingConfig", "TrainingLog", "fit"]

B = TypeVar("B")


class TrainingConfig(Config):
    """How a module is trained. Every stage has one; the names mean the same in each."""

    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size after the warm-up.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decay rates.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay (AdamW); 0 is plain Adam.")
    batch_size: int = Field(128, ge=1, description="Samples in a forward pass.")
    accumulation: int = Field(1, ge=1, description="Batches whose gradients are averaged into one step.")
    epochs: int = Field(10, ge=1, description="Passes over the training samples at the most.")
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of a step's gradient; none: unlimited.")
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of all steps over which the rate rises linearly from 0.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="The rate after the warm-up.")
    validate_every: int | None = Field(None, ge=1, description="Steps between validations; none: each epoch's end.")
    patience: int | None = Field(None, ge=1, description="Validations without a new best before stopping; none: never.")
    seed: int = Field(0, ge=0, description="Seed of initialisation, order, negatives and dropout.")


@runtime_checkable
class Task(Protocol[B]):
    """What a stage hands to `fit`. All of it must depend on its arguments alone, so that a run can be resumed."""

    def batches(self, epoch: int) -> Sequence[B]:
        """The epoch's batches in order, the same each time they are asked for."""
        ...

    def losses(self, batch: B) -> Mapping[str, Tensor]:
        """The terms of the loss, already weighted; their sum is what is minimised."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Figures on validation data; the first one is watched and higher is better. Empty: the last step counts."""
        ...


@dataclass
class TrainingLog:
    """What happened: one record per validation, and the one whose weights were kept."""

    records: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_value: float = -math.inf
    steps: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The log as plain values."""
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "best_step": self.best_step,
            "best_value": None if self.best_value == -math.inf else self.best_value,
            "records": self.records,
        }


@dataclass
class _Position:
    """Where training stands: enough, with the tensors, to go on as if nothing had happened."""

    epoch: int = 0
    batch: int = 0
    due: bool = False
    since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0


def fit(
    module: nn.Module,
    task: Task[B],
    config: TrainingConfig,
    description: str,
    resume: Path | None = None,
    resume_every: float = 60.0,
) -> TrainingLog:
    """Train `module` on `task` and leave it with the weights of the best validation.

    Every step draws its randomness from a stream named by its number, so a run that was killed and started again goes
    through the same numbers as one that was not.

    Args:
        module: whatever is trained; frozen parts are no part of its parameters.
        task: batches, losses and validation.
        config: rates, sizes and patience.
        description: the progress bar's label.
        resume: file to keep the resume state in; read first if it exists, removed at the end by the caller.
        resume_every: seconds between two writes of that file. Ctrl-C writes it as well.

    Returns:
        The log, one record per validation.

    Raises:
        ArtifactError: the resume state is damaged or another model's.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    steps_per_epoch = math.ceil(len(task.batches(0)) / config.accumulation)
    total = max(1, steps_per_epoch * config.epochs)
    log, at = TrainingLog(), _Position()
    best: dict[str, Tensor] | None = None
    if resume is not None and resume.exists():
        state, best = read_resume(resume, module, optimizer)
        log, at = _restored(state, resume)
    started = time.monotonic() - log.seconds
    saved = time.monotonic()

    def save() -> None:
        log.seconds = time.monotonic() - started
        if resume is not None:
            write_resume(resume, module, optimizer, best, {"log": vars(log), "at": vars(at)})

    def validate() -> None:
        nonlocal best
        module.eval()
        with torch.no_grad(), seeded_torch(config.seed, "validate", log.steps):
            figures = dict(task.validate())
        module.train()
        with interrupts_postponed():
            means = {f"loss/{name}": value / max(1, at.counted) for name, value in at.sums.items()}
            log.records.append({"step": log.steps, "epoch": at.epoch + 1, **means, **figures})
            watched = next(iter(figures.values()), float(log.steps))
            at.sums, at.counted, at.due = {}, 0, False
            if watched > log.best_value:
                log.best_value, log.best_step, at.since_best = watched, log.steps, 0
                best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            else:
                at.since_best += 1

    def stopped() -> bool:
        return config.patience is not None and at.since_best >= config.patience

    module.train()
    with progress_bar(description, total, log.steps) as bar:
        try:
            if at.due:
                validate()
            while at.epoch < config.epochs and not stopped():
                batches = task.batches(at.epoch)
                while at.batch < len(batches) and not stopped():
                    group = batches[at.batch : at.batch + config.accumulation]
                    _set_rate(optimizer, config, log.steps, total)
                    terms = _gradients(task, group, optimizer, parameters, config, log.steps)
                    # Weights and position move together, or a resumed run would do a step twice or not at all.
                    with interrupts_postponed():
                        optimizer.step()
                        for name, value in terms.items():
                            at.sums[name] = at.sums.get(name, 0.0) + value
                        at.counted += 1
                        at.batch += len(group)
                        log.steps += 1
                        at.due = _validation_is_due(config, log.steps, at.epoch, at.batch >= len(batches))
                    bar.advance(1, _status(at, log))
                    if at.due:
                        validate()
                    if resume is not None and time.monotonic() - saved >= resume_every:
                        save()
                        saved = time.monotonic()
                with interrupts_postponed():
                    at.epoch, at.batch = at.epoch + 1, 0
        except KeyboardInterrupt:
            save()
            raise
    if best is not None:
        module.load_state_dict(best)
    module.eval()
    log.seconds = time.monotonic() - started
    return log


def _restored(state: Mapping[str, Any], resume: Path) -> tuple[TrainingLog, _Position]:
    """Log and position from a resume file's state."""
    try:
        return TrainingLog(**state["log"]), _Position(**state["at"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"The resume state {resume} is of another version of allmrec ({error}). Remove it to start this stage anew."
        ) from error


def _validation_is_due(config: TrainingConfig, step: int, epoch: int, epoch_ends: bool) -> bool:
    """At its time, and in any case behind the last step."""
    if config.validate_every is None:
        return epoch_ends
    return step % config.validate_every == 0 or (epoch_ends and epoch + 1 == config.epochs)


def _gradients(
    task: Task[B],
    group: Sequence[B],
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    config: TrainingConfig,
    step: int,
) -> dict[str, float]:
    """Gradients of a group of batches, clipped, ready for a step; the terms of the loss, averaged over the group."""
    sums: dict[str, float] = {}
    optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(group):
        with seeded_torch(config.seed, "step", step, number):
            terms = task.losses(batch)
            loss = torch.stack(list(terms.values())).sum() / len(group)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach()) / len(group)
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    return sums


def _set_rate(optimizer: torch.optim.Optimizer, config: TrainingConfig, step: int, total: int) -> None:
    """Warm-up, then a constant or a half cosine down to a tenth."""
    warm = int(config.warmup * total)
    if step < warm:
        factor = (step + 1) / warm
    elif config.schedule == "cosine":
        factor = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
    else:
        factor = 1.0
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor


def _status(at: _Position, log: TrainingLog) -> str:
    """A few characters beside the bar: the loss since the last validation and the best figure so far."""
    loss = sum(at.sums.values()) / max(1, at.counted)
    best = "" if log.best_value == -math.inf else f" best {log.best_value:.3f}"
    return f"loss {loss:.3f}{best}"
