"""What a system of a run is: its name, the stages that it takes, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from allmrec.core.config import Config, defaults, merged, parse_config
from allmrec.core.errors import AllmrecError
from allmrec.evaluation.evaluator import Note
from allmrec.pipeline.run import Run, StageKind
from allmrec.pipeline.schedule import Job
from allmrec.ranking import Ranker
from allmrec.recipes.config import RunConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.store.stages import Stage

__all__ = ["AbsentError", "Answers", "Settings", "System", "SystemKind", "stages_of"]

C = TypeVar("C", bound=Config)


class AbsentError(AllmrecError):
    """A run's configuration has no such system; the message says why."""


@dataclass(frozen=True)
class Answers:
    """A-LLMRec's stage 2 and how it answers.

    Attributes:
        prompted: stage 2 around the frozen parts.
        ranker_of: makes what ranks of it, or of the same on other joint vectors.
        scores_each: whether it gives every candidate a score of its own, so that many can go in rounds.
    """

    prompted: PromptedRanker
    ranker_of: Callable[[PromptedRanker], Ranker]
    scores_each: bool = True


@dataclass(frozen=True)
class System:
    """A system of a run, ready to rank.

    Attributes:
        ranker: puts given candidates in order.
        titles: whether it scores titles with the language model, which is slow, so that fewer users may be asked about.
        note: what a reader of the table must know.
        answers: how A-LLMRec answers, where it is that.
        stages: what was trained for it, so that its cost can be told; `open_systems` fills it in.
    """

    ranker: Ranker
    titles: bool = False
    note: Note = ""
    answers: Answers | None = None
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, eq=False)
class Settings(Generic[C]):
    """The settings of a system: the group `systems.NAME` of a run's configuration, checked by the system's own class.

    Attributes:
        name: of the group.
        config: the class.
        inherited: what the run's own configuration says of fields that are not given in the group.
    """

    name: str
    config: type[C]
    inherited: Callable[[RunConfig], Mapping[str, Any]] = lambda config: {}

    def of(self, config: RunConfig) -> C:
        """A run's settings of the system.

        Raises:
            ConfigError: the group has an unknown field, or a value that does not fit.
        """
        start = merged(defaults(self.config), self.inherited(config))
        given = config.systems.get(self.name, {})
        return parse_config(self.config, merged(start, given), f"systems.{self.name}")


@dataclass(frozen=True, eq=False)
class SystemKind:
    """One entry of the table of systems.

    Attributes:
        name: as the command line calls it.
        about: what it is, in a line.
        open: makes it from what is stored. Raises an AbsentError where the configuration has no such system.
        stages: what is trained for it; none where nothing is.
        run_of: the run, or the variant of it that the system is. Raises a ConfigError where the run has no room for it.
        own: whether it comes with A-LLMRec's stages, so that it is in the table as soon as these are trained.
        prompted: whether it asks the language model, so that it ranks few items at a time.
        settings: its group of the configuration, where it has one.
    """

    name: str
    about: str
    open: Callable[[Run], System]
    stages: Callable[[RunConfig], Sequence[StageKind]] = lambda config: ()
    run_of: Callable[[Run], Run] = lambda run: run
    own: bool = False
    prompted: bool = False
    settings: Settings[Any] | None = None

    def job(self, run: Run) -> Job:
        """The run, or the variant of it, and the stages that are trained for the system.

        Raises:
            ConfigError: the run's configuration has no room for the system.
        """
        of = self.run_of(run)
        return of, self.stages(of.config)


def stages_of(run: Run, kind: SystemKind) -> tuple[Stage, ...]:
    """All stages that a system is made of, each once, parents first."""
    of, kinds = kind.job(run)
    found: dict[str, Stage] = {}

    def visit(wanted: StageKind) -> None:
        for parent in wanted.parents(of.config):
            visit(parent)
        stage = of.stage(wanted)
        found.setdefault(stage.label, stage)

    for wanted in kinds:
        visit(wanted)
    return tuple(found.values())
