"""The one training loop; knows a task that yields batches and losses, and nothing of what is being learned.

Several processes may train together (`core.distributed`). Each then computes its part of every batch, and the gradients
add up to those that one process would have had.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from allmrec.core.callbacks import listeners
from allmrec.core.config import Config
from allmrec.core.distributed import Processes, processes
from allmrec.core.divergence import check_figures, check_losses, check_weights, largest
from allmrec.core.errors import AllmrecWarning, ArtifactError, ConfigError, ProcessLostError
from allmrec.core.interrupts import interrupts_postponed
from allmrec.core.optimizers import RowAdamW, clip_norm
from allmrec.core.progress import progress_bar
from allmrec.core.resume import Checkpoint, read_resume, set_aside, write_resume
from allmrec.core.seeding import seeded_torch
from allmrec.core.training_log import Position, TrainingLog

__all__ = ["SharedTask", "Task", "TrainingConfig", "TrainingLog", "fit"]

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


@runtime_checkable
class SharedTask(Protocol[B]):
    """A `Task` whose batches several processes can share; of any other each process computes every batch whole."""

    def shares(self, batch: B, count: int) -> Sequence[tuple[B, Mapping[str, float]]] | None:
        """A batch in `count` parts, each with its share of what every term of the loss is divided by.

        A term that is a mean over rows has a part's share of the rows, one that is a mean over positions its share of
        the positions, and so on: the parts' terms times these shares add up to the batch's term. A part may be empty; its
        shares are 0 then. None where a term is no such mean: then each process computes the batch whole.
        """
        ...


def fit(
    module: nn.Module,
    task: Task[B],
    config: TrainingConfig,
    description: str,
    resume: Checkpoint | None = None,
    validate_first: bool = False,
    *,
    seed: int = 0,
) -> TrainingLog:
    """Train `module` on `task` and leave it with the weights of the best validation.

    Every step draws its randomness from a stream named by its number, so a run that was killed and started again goes
    through the same numbers as one that was not.

    With several processes all validate and the main one's figures count; it alone writes and shows progress. Their
    dropout differs: each part of a batch has a stream of its own. A resume state that cannot be used is set aside with a
    warning that names it, and training starts anew.

    Args:
        module: whatever is trained; frozen parts are no part of its parameters.
        task: batches, losses and validation.
        config: rates, sizes and patience.
        description: the progress bar's label.
        resume: where to keep the resume state; read first if it exists, removed at the end by the caller.
        validate_first: validate before the first step, so that the weights that come in may be the best.
        seed: names every draw.

    Callbacks (`core.callbacks.called_back`) are called after each step and validation. Where one raises, the resume state is
    written and the exception goes on.

    Returns:
        The log, one record per validation.

    Raises:
        DivergedError: a term of the loss, a weight or a validation figure is no finite number, or has grown as nothing
            that learns does (`core.divergence`); the resume state stays where it was last written.
        NoSpaceError: the disk has no room for the resume state; the one before is untouched.
        ProcessLostError: another process is gone; the main one has written the resume state.
        ConfigError: processes see different resume states.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    # One pass over the parameters instead of a dozen; a table of a million items notices.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    optimizer = RowAdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=fused
    )
    steps_per_epoch = math.ceil(len(task.batches(0)) / config.accumulation)
    total = max(1, steps_per_epoch * config.epochs)
    here = processes(next((p.device for p in parameters), "cpu"))
    log, at, best = _begun(resume, module, optimizer, here)
    if here.from_main(log.steps) != log.steps:
        raise ConfigError(
            f"Process {here.index} is at step {log.steps} of this stage and the main process is not: they read different folders. Every "
            "host must see the run's folder under the same path, on a shared drive."
        )
    at.due = at.due or (validate_first and not log.steps and not log.records)
    log.trained_parameters = sum(parameter.numel() for parameter in parameters)
    started = time.monotonic() - log.seconds
    saved = time.monotonic()

    def save() -> None:
        log.seconds = time.monotonic() - started
        if resume is not None and here.is_main:
            write_resume(resume.path, module, optimizer, best, {"log": vars(log), "at": vars(at)})

    def validate() -> None:
        nonlocal best
        check_weights(parameters, at.first_weight or 0.0, config.learning_rate, log.steps)
        module.eval()
        with torch.no_grad(), seeded_torch(seed, "validate", log.steps), here.within():
            figures = here.from_main(dict(task.validate()))
        module.train()
        with interrupts_postponed():
            check_figures(figures, config.learning_rate, log.steps)
            means = {f"loss/{name}": value / max(1, at.counted) for name, value in at.sums.items()}
            log.records.append({"step": log.steps, "epoch": at.epoch + 1, **means, **figures})
            watched = next(iter(figures.values()), float(log.steps))
            at.sums, at.counted, at.due = {}, 0, False
            if watched > log.best_value:
                log.best_value, log.best_step, at.since_best = watched, log.steps, 0
                best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            else:
                at.since_best += 1
        heard(partial(called.validated, description, log.steps, figures))

    def heard(call: Callable[[], bool]) -> None:
        try:
            if called and here.from_main(call() if here.is_main else False):
                log.stopped = True
        except BaseException:  # whatever a callback raises, Ctrl-C too, loses no finished step
            save()
            raise

    def stopped() -> bool:
        return log.stopped or (config.patience is not None and at.since_best >= config.patience)

    called = listeners()
    if at.first_weight is None:
        at.first_weight = largest(parameters)
    module.train()
    with progress_bar(description, total, log.steps, silent=not here.is_main) as bar:
        try:
            if at.due:
                validate()
            while at.epoch < config.epochs and not stopped():
                batches = task.batches(at.epoch)
                while at.batch < len(batches) and not stopped():
                    group = batches[at.batch : at.batch + config.accumulation]
                    _set_rate(optimizer, config, log.steps, total)
                    terms = _gradients(task, group, optimizer, parameters, config, seed, log.steps, here)
                    check_losses(terms, at.first_losses, config.learning_rate, log.steps)
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
                    heard(partial(called.stepped, description, log.steps, terms))
                    if at.due or (log.stopped and at.counted):
                        validate()
                    if resume is not None and time.monotonic() - saved >= resume.every:
                        save()
                        saved = time.monotonic()
                with interrupts_postponed():
                    at.epoch, at.batch = at.epoch + 1, 0
        except (KeyboardInterrupt, ProcessLostError):
            save()
            raise
    if best is not None:
        module.load_state_dict(best)
    module.eval()
    log.seconds = time.monotonic() - started
    return log


def _begun(
    resume: Checkpoint | None, module: nn.Module, optimizer: torch.optim.Optimizer, here: Processes
) -> tuple[TrainingLog, Position, dict[str, Tensor] | None]:
    """Log, position and best weights to go on from: those of the resume state, or of a beginning."""
    with here.main_first():
        if resume is not None and resume.path.exists():
            try:
                (log, at), best = read_resume(resume.path, module, optimizer, _restored)
                return log, at, best
            except ArtifactError as error:
                if not here.is_main:
                    raise
                place = set_aside(resume.path)
                warnings.warn(
                    f"{error} It now lies in {place}, and this stage starts anew.", AllmrecWarning, stacklevel=3
                )
    return TrainingLog(), Position(), None


def _restored(state: Mapping[str, Any]) -> tuple[TrainingLog, Position]:
    """Log and position from a resume file's state."""
    return TrainingLog(**state["log"]), Position(**state["at"])


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
    seed: int,
    step: int,
    here: Processes,
) -> dict[str, float]:
    """Gradients of a group of batches, clipped, ready for a step; the terms of the loss, averaged over the group."""
    sums: dict[str, float] = {}
    optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(group):
        part, shares, stream = _part(task, batch, here)
        terms: Mapping[str, Tensor] = {}
        if shares is None or any(shares.values()):
            with seeded_torch(seed, "step", step, number, *stream), here.within():
                terms = task.losses(part)
                if here.count > 1:
                    terms = {
                        name: term * (1 / here.count if shares is None else shares[name])
                        for name, term in terms.items()
                    }
                loss = torch.stack(list(terms.values())).sum() / len(group)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        for name in shares or terms:
            value = float(terms[name].detach()) if name in terms else 0.0
            sums[name] = sums.get(name, 0.0) + value / len(group)
    here.sum_gradients(parameters)
    if config.clip_norm is not None:
        clip_norm(parameters, config.clip_norm)
    return here.sum_values(sums, parameters[0].device)


def _part(task: Task[B], batch: B, here: Processes) -> tuple[B, Mapping[str, float] | None, tuple[str | int, ...]]:
    """This process's part of a batch, its shares of the terms, and what tells its random stream from the others'.

    Without shares it is the whole batch, and every process draws alike.
    """
    if here.count > 1 and isinstance(task, SharedTask):
        parts = task.shares(batch, here.count)
        if parts is not None:
            part, shares = parts[here.index]
            return part, shares, ("process", here.index)
    return batch, None, ()


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


def _status(at: Position, log: TrainingLog) -> str:
    """A few characters beside the bar: the loss since the last validation and the best figure so far."""
    loss = sum(at.sums.values()) / max(1, at.counted)
    best = "" if log.best_value == -math.inf else f" best {log.best_value:.3f}"
    return f"loss {loss:.3f}{best}"
