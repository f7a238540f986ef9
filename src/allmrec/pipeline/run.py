"""A run: a data set, a configuration and a folder, and what a stage is; no particular stage is named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from allmrec.core.config import parse_config
from allmrec.core.devices import chosen_device
from allmrec.core.distributed import processes
from allmrec.core.errors import ConfigError
from allmrec.core.places import with_whole_places
from allmrec.core.resume import Checkpoint
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.pipeline.start import Start
from allmrec.recipes.config import RunConfig
from allmrec.store.folder import RunFolder, RunRecord
from allmrec.store.stages import Stage, StageResult

__all__ = ["Continuation", "Log", "Run", "StageKind"]

# Takes a line about what has been done.
Log = Callable[[str], None]


@dataclass(frozen=True)
class Continuation:
    """How a stage goes on from the same stage of a run on earlier data.

    Attributes:
        shape: settings that must be the same, because the weights depend on them; None where nothing is trained.
        seen: how many of each user's first interactions it trains on; None where it trains on none.
    """

    shape: Callable[[RunConfig], Mapping[str, Any] | None]
    seen: Callable[[Run], Int64[np.ndarray, " users"]] | None = None


@dataclass(frozen=True, eq=False)
class StageKind:
    """What can be trained, once per set of inputs, and is then stored.

    Attributes:
        name: of its folder.
        settings: the part of the configuration that decides its result.
        train: does the work; the stage is the one to be written.
        parents: the stages that it reads; their keys decide its result too.
        before: stages that are trained before it although it does not read them.
        inputs: what else decides its result, beside the data and the seed.
        seeded: whether the seed decides anything.
        check: raises where a model or a text is missing that the training needs; quick.
        load: loads the frozen models that it needs once, and raises where they cannot be used.
        system: the system that alone needs it; empty where it is one of A-LLMRec's own.
        continuation: how it goes on from the same stage of an earlier run; None: it is always trained anew.
    """

    name: str
    settings: Callable[[RunConfig], Mapping[str, Any]]
    train: Callable[[Run, Stage], StageResult]
    parents: Callable[[RunConfig], Sequence[StageKind]] = lambda config: ()
    before: Callable[[RunConfig], Sequence[StageKind]] = lambda config: ()
    inputs: Callable[[RunConfig], Mapping[str, str]] = lambda config: {}
    seeded: bool = True
    check: Callable[[Run], None] = lambda run: None
    load: Callable[[Run], None] = lambda run: None
    system: str = ""
    continuation: Continuation | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """A data set with a configuration, and the folder that its stages are stored in. It never changes.

    A run may hold variants of itself (`variant`): runs in the same folder with some fields changed. Stages that a variant
    has in common with the run stand where the run has them and are trained once.

    Attributes:
        path: the folder.
        dataset: its data.
        config: its configuration.
        device: where to train and rank; see `chosen_device`.
        save_every: seconds between two writes of an unfinished stage's resume state.
        share_llm: whether processes that train together hold a part of the language model's layers each, not all of them.
        trained_on: hash of the data that it is trained on, where `dataset` is only the catalogue of it.
        published: of a saved recommender: what `run.json` says of it.
        system, base: of a variant: its name, and the run that it is a variant of.
        start: the earlier run that it goes on from; None: it begins with nothing.
        loaded: large frozen models by name and precision, shared with the variants.
        fingerprints: of frozen models that were loaded, by what they are for and their name; shared with the variants.
        is_new: whether the configuration comes from whoever uses the run now, and not from a folder that was there.
    """

    path: Path
    dataset: InteractionDataset
    config: RunConfig
    device: str = "auto"
    save_every: float = 60.0
    _: KW_ONLY
    share_llm: bool = False
    trained_on: str | None = None
    published: Mapping[str, Any] | None = None
    system: str = ""
    base: Run | None = None
    start: Start | None = None
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)
    fingerprints: dict[str, str] = field(default_factory=dict, repr=False)
    is_new: bool = False

    def __post_init__(self) -> None:
        """Settle what `auto` is here.

        Raises:
            ConfigError: the device cannot be used.
        """
        object.__setattr__(self, "device", chosen_device(self.device))

    @classmethod
    def create(
        cls,
        path: Path | str,
        dataset: InteractionDataset,
        config: RunConfig,
        device: str = "auto",
        save_every: float = 60.0,
    ) -> Self:
        """Make a run of a data set, or take up the one that is there with the configuration given now.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
            RunInUseError: another process is training it.
        """
        run = cls.draft(path, dataset, config, device, save_every)
        run.keep()
        return run

    @classmethod
    def draft(
        cls,
        path: Path | str,
        dataset: InteractionDataset,
        config: RunConfig,
        device: str = "auto",
        save_every: float = 60.0,
    ) -> Self:
        """The run that `create` would make, with nothing written: what is refused must not change the one that is there.

        Raises:
            ConfigError: the folder is a run of other data, or something else.
        """
        path = Path(path)
        folder = RunFolder(path)
        folder.check_free(dataset)
        # Whoever goes on with a run goes on from where it began.
        start = Start.from_json(folder.start(), path / "run.json")
        is_new = not (path / "run.json").is_file()
        return cls(path, dataset, with_whole_places(config), device, save_every, start=start, is_new=is_new)

    @classmethod
    def open(cls, path: Path | str, device: str = "auto", save_every: float = 60.0) -> Self:
        """Open a run's folder.

        Raises:
            ArtifactError: it is no run, or damaged.
        """
        path = Path(path)
        record, dataset = RunFolder(path).read()
        config = parse_config(RunConfig, record.config, str(path / "run.json"))
        published, start = record.published, Start.from_json(record.start, path / "run.json")
        return cls(
            path, dataset, config, device, save_every, trained_on=record.data_hash, published=published, start=start
        )

    def keep(self) -> None:
        """Write what `draft` gave: from now on the folder is a run of this configuration.

        Raises:
            RunInUseError: another process is training it.
        """
        self.folder.keep(self.record(), self.dataset, self.device)

    def record(self) -> RunRecord:
        """What `run.json` says of this run as it is trained."""
        start = None if self.start is None else self.start.as_json()
        return RunRecord(self.data_hash, self.config.model_dump(mode="json"), start=start)

    @property
    def folder(self) -> RunFolder:
        """The run on disk."""
        return RunFolder(self.path, self.save_every)

    @cached_property
    def data_hash(self) -> str:
        """Of the data that it is trained on."""
        return self.trained_on or self.dataset.content_hash

    @cached_property
    def split(self) -> Split:
        """What stage 2 and the evaluation use: leave one out, with the held-out targets marked."""
        config = self.config
        return leave_one_out(
            self.dataset, config.held_out_targets, hold_out_users=config.held_out_users, seed=config.seed
        )

    @property
    def method(self) -> Literal["select", "score"]:
        """How its language model answers; see `RunConfig.method`."""
        return self.config.method

    def with_config(self, config: RunConfig) -> Self:
        """The same folder with another configuration."""
        return replace(self, config=config)

    def sharing_llm(self) -> Self:
        """The same run, of whose language model each of the processes that train together holds a part.

        Raises:
            ConfigError: this process is alone.
        """
        if processes(self.device).count < 2:
            raise ConfigError(
                "--share-llm shares the language model out among several processes, and this is one alone. Start several with torchrun "
                "(docs/training.md), or leave it out."
            )
        return replace(self, share_llm=True)

    def variant(self, name: str, config: RunConfig) -> Self:
        """The same run with another configuration, what differs kept under the variant's name."""
        return replace(self, config=config, system=name, base=self)

    def stage(self, kind: StageKind) -> Stage:
        """A stage of this run with everything that decides its result."""
        stage = self._stage(kind)
        if kind.system or self.base is None or self.base._stage(kind).key == stage.key:
            return stage
        return replace(stage, system=self.system)

    def _stage(self, kind: StageKind) -> Stage:
        config = self.config
        inputs = {"data": self.data_hash, **({"seed": str(config.seed)} if kind.seeded else {}), **kind.inputs(config)}
        parents = {parent.name: self._stage(parent) for parent in kind.parents(config)}
        if (start := self.start_key(kind)) is not None:
            inputs["start"] = start
            if self.keeps(kind):
                inputs["kept"] = "the weights of the start"
        return Stage(kind.name, kind.settings(config), inputs, parents, kind.system)

    def start_key(self, kind: StageKind) -> str | None:
        """The key of the earlier run's stage that a stage goes on from; None where it is trained anew.

        A variant's own stages are: an ablation that goes on from what was not ablated would be none.
        """
        if self.start is None or kind.continuation is None:
            return None
        if self.base is not None and self._anew(kind) != self.base._anew(kind):
            return None
        return self.start.key(kind.name, kind.continuation.shape(self.config))

    def keeps(self, kind: StageKind) -> bool:
        """Whether a stage takes the earlier run's weights as they are, without training."""
        return self.start is not None and kind.name in self.start.kept and self.start_key(kind) is not None

    def _anew(self, kind: StageKind) -> str:
        """The key that a stage would have in a run that begins with nothing."""
        return replace(self, start=None, base=None)._stage(kind).key

    def has(self, kind: StageKind) -> bool:
        """Whether a stage stands there, made of what the run has now."""
        return self.folder.has(self.stage(kind))

    def content(self, kind: StageKind, name: str = "weights") -> AbstractContextManager[None]:
        """For a block that makes something of what a stage stored; see `store.stages.content_checked`."""
        return self.folder.content(self.stage(kind), name)

    def tensors(self, kind: StageKind, name: str = "weights") -> dict[str, Tensor]:
        """What a stage stored.

        Raises:
            ArtifactError: it is not trained, of other inputs, or damaged.
        """
        return self.folder.tensors(self.stage(kind), name)

    def check(self, kinds: Sequence[StageKind]) -> None:
        """Make sure that stages can be read, before a large language model is loaded for nothing.

        Raises:
            ArtifactError: a stage is missing, of other inputs, or damaged.
        """
        for kind in kinds:
            self.folder.check(self.stage(kind))

    def resume(self, stage: Stage) -> Checkpoint:
        """Where a stage that is not finished is kept."""
        return self.folder.resume(stage)

    def check_unpublished(self) -> None:
        """Make sure that this is a run and not a saved recommender.

        Raises:
            ConfigError: it cannot be trained further.
        """
        if self.published is not None:
            raise ConfigError(f"{self.path} is a saved recommender, made to be used and not to be trained further.")
