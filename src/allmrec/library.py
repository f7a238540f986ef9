"""The library's front door: a data set in, a trained run out, in one call each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Int64

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.core.callbacks import Callback, called_back
from allmrec.core.devices import chosen_device
from allmrec.core.distributed import processes
from allmrec.core.errors import ConfigError
from allmrec.core.log import logger
from allmrec.core.progress import progress_shown
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation import Report
from allmrec.export.pretrained import TrainedALLMRec
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.pipeline import run as core
from allmrec.pipeline import schedule
from allmrec.pipeline.continuing import continued
from allmrec.pipeline.run import Log, StageKind
from allmrec.recipes.files import load_recipe
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.recommender import Recommender
from allmrec.stages.align import joint_table
from allmrec.stages.cf import backbone, cf_in_use, known_counts, train_counts
from allmrec.stages.frozen import language_model
from allmrec.stages.tune import ALLMREC_STAGES, TUNE, allmrec_stages, prompted_ranker, stages_until
from allmrec.store.stages import Stage
from allmrec.systems.asking import Candidates, Users, asked_protocol
from allmrec.systems.evaluating import evaluate_systems, run_protocol
from allmrec.systems.keeping import forget_results
from allmrec.systems.recommending import recommender
from allmrec.systems.registry import checked_settings, everything_of, open_systems
from allmrec.systems.towers import continuing_stages

__all__ = ["Run", "evaluate", "open_run", "train"]


@dataclass(frozen=True, eq=False)
class Run(core.Run):
    """A run as a program uses it: trains itself, gives its parts, recommends. See `allmrec.pipeline.run.Run`."""

    def train(self, log: Log = logger.info, until: str = "tune", callbacks: Sequence[Callback] = ()) -> None:
        """Train every stage of A-LLMRec up to `until` that is not there already, made of just these inputs.

        Up to the last stage, the systems that the configuration's `beside` names are trained too.

        Args:
            log: takes a line about each stage.
            until: the last stage.
            callbacks: called while stages are trained; see `Callback`.

        Raises:
            ModelNotFoundError: the encoder or the language model, before anything is trained.
            RunInUseError: another process is training the run.
            NoSpaceError: the disk is full; what is finished is kept.
            ArtifactError: a stage has another format.
        """
        with called_back(callbacks):
            own = [(self, stages_until(self.config, until))]
            schedule.train(everything_of(self) if until == TUNE.name else own, log)

    @overload
    def recommender(self) -> TrainedALLMRec: ...

    @overload
    def recommender(self, name: str, log: Log = ...) -> Recommender: ...

    def recommender(self, name: str | None = None, log: Log = logger.info) -> Recommender:
        """What recommends from the whole catalogue; see `allmrec.systems.recommending.open_recommender`.

        Args:
            name: of a system; none: A-LLMRec as this run trained it, which can also be saved and take up new items.
            log: takes a line where another system retrieves than might be expected.

        Raises:
            ConfigError: an unknown system, or one that the run cannot have.
            ArtifactError: a stage that it needs is not trained, or damaged.
        """
        return TrainedALLMRec.of(self) if name is None else recommender(self, name, log)

    @property
    def stages(self) -> list[str]:
        """Names of the stages that A-LLMRec has in this configuration, in order."""
        return [kind.name for kind in allmrec_stages(self.config)]

    def stage(self, kind: StageKind | str) -> Stage:
        """A stage with everything that decides its result; one of A-LLMRec's may be named.

        Raises:
            ConfigError: there is no such stage.
        """
        if isinstance(kind, StageKind):
            return super().stage(kind)
        found = {one.name: one for one in ALLMREC_STAGES}
        if kind not in found:
            raise ConfigError(f"There is no stage {kind!r}; known are {', '.join(found)}.")
        return super().stage(found[kind])

    def backbone(self, in_use: bool = False) -> Backbone:
        """The trained CF model inside A-LLMRec; or the one in use, which saw the held-out targets too."""
        return backbone(self, cf_in_use(self.config)) if in_use else backbone(self)

    def joint(self) -> JointItemTable:
        """Vectors of all items for stage 2; see `joint_table`."""
        return joint_table(self)

    def ranker(self, trained: bool = True) -> PromptedRanker:
        """Stage 2 around the frozen parts; see `prompted_ranker`."""
        return prompted_ranker(self, trained)

    @property
    def lm(self) -> TransformersLM:
        """The frozen language model; one for a run and all its variants."""
        return language_model(self)

    def train_counts(self) -> Int64[np.ndarray, " items_and_padding"]:
        """Training interactions per item number, as the CF model inside A-LLMRec saw them."""
        return train_counts(self)

    def known_counts(self) -> Int64[np.ndarray, " items_and_padding"]:
        """The same with the items held out from that CF model: what the one in use knows."""
        return known_counts(self)


def train(
    dataset: InteractionDataset,
    output: Path | str,
    recipe: str | None = None,
    *,
    llm: str | None = None,
    encoder: str | None = None,
    backbone: str | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    share_llm: bool = False,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    start: core.Run | Path | str | None = None,
) -> Run:
    """Train every stage that is not in `output` already: A-LLMRec's, and those of the systems that `beside` names.

    Args:
        dataset: who interacted with what.
        output: the run's folder; a second call with the same arguments does nothing more.
        recipe: a recipe's name, or a TOML file; None: `paper`, or with `start` that run's configuration.
        llm, encoder, backbone: names in place of the recipe's.
        changes: single fields of the recipe, e.g. `{"tune.training.epochs": 3}`.
        device: where to train and rank: cpu, cuda, cuda:1, mps; auto: the GPU where there is one.
        share_llm: each of several processes that train together holds a part of the language model's layers.
        progress: whether to show bars; None: unless the environment has ALLMREC_PROGRESS=0. What is done is logged by
            the logger `allmrec` in any case.
        callbacks: called while stages are trained; see `Callback`. They are no part of a stage's key: a stage that one of them
            ended counts as trained, and its `log.json` says `stopped`.
        start: an earlier run, on data before interactions, users or items were added, whose weights the stages go on from where
            they can (docs/updating.md). It stays as it is.

    Returns:
        The run; `run.recommender()` recommends.

    Raises:
        ConfigError: an unknown recipe, field or backbone, `output` holds something else, or `share_llm` without other processes.
        ModelNotFoundError: a language model or encoder that is not to be had.
    """
    named = {"llm.name": llm, "encoder.name": encoder, "pretrain.backbone": backbone}
    fields = {name: value for name, value in named.items() if value is not None} | dict(changes or {})
    device = chosen_device(device)
    here = processes(device)
    place = here.device(device)
    earlier = start if start is None or isinstance(start, core.Run) else Run.open(Path(start), place)
    if earlier is not None and recipe is None:
        config = earlier.config.changed(fields)
    else:
        config = load_recipe(recipe or "paper", fields)
    run = Run.draft(Path(output), dataset, checked_settings(config), place)
    if earlier is not None:
        run = continued(run, earlier, continuing_stages(earlier))
    if share_llm:
        run = run.sharing_llm()
    with progress_shown(progress):
        everything_of(run)
        run.keep()
        run.train(logger.info if here.is_main else logger.debug, callbacks=callbacks)
    return run


def open_run(path: Path | str, device: str = "auto") -> Run:
    """Open a run that was trained before.

    Args:
        path: its folder.
        device: where to rank; auto: the GPU where there is one.

    Raises:
        ArtifactError: it is no run, or damaged.
    """
    return Run.open(Path(path), device)


def evaluate(
    run: core.Run,
    systems: Sequence[str] | None = None,
    users: Users | None = None,
    candidates: Candidates | None = None,
    progress: bool | None = None,
    order_test: bool | None = None,
) -> Report:
    """Rank users' test items among candidates with systems of the run.

    While it goes on, what is found is kept in the run's folder: after a kill or Ctrl-C the same call goes on where it stood.
    The run's own `protocol.json` and reports are left as they are.

    Args:
        run: a trained run.
        systems: names; none named: all that it has.
        users: how many of the run's test users, or a list of their ids; none: as the run's configuration says.
        candidates: how many candidates a user, drawn for this call; or the candidates themselves, item ids by user id, the
            same number for each; none: the run's frozen ones.
        progress: whether to show bars; None: unless the environment has ALLMREC_PROGRESS=0.
        order_test: whether to ask every system again with each history shuffled; none: as the run's configuration says.

    Raises:
        ConfigError: an unknown system, a user who has no test item, or candidates that do not fit.
        UnknownIdError: a user or an item that the data does not hold.
        ArtifactError: a stage that a system needs is missing, of other inputs, or damaged.
    """
    if order_test is not None:
        run = run.with_config(run.config.changed({"evaluation.order_test": order_test}))
    with progress_shown(progress):
        own = run_protocol(run)
        if users is None and not isinstance(candidates, Mapping):
            users = run.config.evaluation.users
        protocol = asked_protocol(run, own, users, candidates)
        report = evaluate_systems(run, open_systems(run, systems), protocol)
        forget_results(run, report.protocol_hash)
        return report
