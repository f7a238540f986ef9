"""What a program may do while stages are trained: look at losses and figures, and end a stage early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from allmrec.core.errors import ConfigError

__all__ = ["Callback", "Listeners", "called_back", "listeners", "stage_named"]


class Callback:
    """Base of what is called while stages are trained; every method does nothing until it is overridden.

    Several processes that train together all have the callbacks, and the main process alone calls them.

    An exception from any of these methods ends the training and reaches the caller. The unfinished stage's resume state is
    written first, so the same call goes on from there.

    Stages have the names of their folders (`pretrain`, `align`, `tune`, `systems/NAME` as `NAME`); what is trained outside a run
    has the label of its progress bar. A stage with several phases, such as copying before stage 2's samples, counts each phase's
    steps from 1.
    """

    def on_stage_start(self, stage: str) -> None:
        """A stage of a run is about to be trained; one that is there already is not."""

    def on_step(self, stage: str, step: int, losses: Mapping[str, float]) -> bool | None:
        """A step has been made.

        Args:
            stage: its name.
            step: counted from 1.
            losses: the weighted terms of the loss, averaged over the step's samples.

        Returns:
            True to end the phase here: a last validation is made, and the weights of the best one are kept.
        """
        return None

    def on_validation(self, stage: str, step: int, figures: Mapping[str, float]) -> bool | None:
        """Validation figures have been taken.

        Args:
            stage: its name.
            step: after how many steps.
            figures: the first one is watched, higher is better; none where nothing is validated.

        Returns:
            True to end the phase here, with the weights of the best validation.
        """
        return None

    def on_stage_end(self, stage: str, log: Mapping[str, Any]) -> None:
        """A stage of a run has been trained and stored.

        Args:
            stage: its name.
            log: what `log.json` of the stage holds.
        """


class Listeners:
    """The callbacks of a training and the stage that it is at.

    Args:
        callbacks: called in order.
        stage: of a run; empty outside a run.
    """

    def __init__(self, callbacks: Sequence[Callback] = (), stage: str = "") -> None:
        self._callbacks, self._stage = tuple(callbacks), stage

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._callbacks)

    def at(self, stage: str) -> Listeners:
        """The same at a stage."""
        return Listeners(self._callbacks, stage)

    def started(self) -> None:
        """Call `on_stage_start`."""
        for one in self._callbacks:
            one.on_stage_start(self._stage)

    def stepped(self, description: str, step: int, losses: Mapping[str, float]) -> bool:
        """Call `on_step`; whether any wants to stop. All are called."""
        return self._any(lambda one, stage: one.on_step(stage, step, losses), description)

    def validated(self, description: str, step: int, figures: Mapping[str, float]) -> bool:
        """Call `on_validation`; whether any wants to stop. All are called."""
        return self._any(lambda one, stage: one.on_validation(stage, step, figures), description)

    def ended(self, log: Mapping[str, Any]) -> None:
        """Call `on_stage_end`."""
        for one in self._callbacks:
            one.on_stage_end(self._stage, log)

    def _any(self, call: Callable[[Callback, str], bool | None], description: str) -> bool:
        answers = [call(one, self._stage or description) for one in self._callbacks]
        return any(answer is True for answer in answers)


_current: ContextVar[Listeners] = ContextVar("allmrec_callbacks", default=Listeners())  # noqa: B039  # never changes


def listeners() -> Listeners:
    """Who is called now."""
    return _current.get()


@contextmanager
def called_back(callbacks: Iterable[object]) -> Iterator[None]:
    """Call these while anything is trained within the block, in place of those around it.

    Raises:
        ConfigError: something is no `Callback`.
    """
    given: list[Callback] = []
    for one in callbacks:
        if not isinstance(one, Callback):
            raise ConfigError(
                f"A callback is a {type(one).__name__}; expected an object of a subclass of allmrec.Callback."
            )
        given.append(one)
    before = _current.set(Listeners(given))
    try:
        yield
    finally:
        _current.reset(before)


@contextmanager
def stage_named(stage: str) -> Iterator[Listeners]:
    """Within the block a stage of this name is trained."""
    here = listeners().at(stage)
    before = _current.set(here)
    try:
        yield here
    finally:
        _current.reset(before)
