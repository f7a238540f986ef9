"""Systems that are one stage of their own, and the CF models among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import BACKBONES, backbone_kind
from allmrec.core.errors import DataError
from allmrec.core.training import TrainingLog
from allmrec.pipeline.cf_stage import backbone, cf_in_use, everything, held_out_input
from allmrec.pipeline.config import RunConfig, for_backbone
from allmrec.pipeline.frozen import (
    check_encoder,
    check_language_model,
    language_model_input,
    try_encoder,
    try_language_model,
)
from allmrec.pipeline.run import Run, StageKind
from allmrec.ranking import Ranker
from allmrec.store.stages import Stage, StageResult
from allmrec.systems.kinds import System, SystemKind

__all__ = ["CF_SYSTEMS", "cf_system", "logged", "own_backbone", "trained_system"]

Settings = Callable[[RunConfig], Mapping[str, Any]]


def trained_system(
    name: str,
    about: str,
    settings: Settings,
    train: Callable[[Run, Stage], StageResult],
    load: Callable[[Run, Mapping[str, Tensor]], Ranker],
    *,
    parents: Callable[[RunConfig], Sequence[StageKind]] = lambda config: (),
    encoder: bool = False,
    llm: bool = False,
    texts: bool = False,
    titles: Callable[[RunConfig], bool] = lambda config: False,
    note: Callable[[RunConfig], str] = lambda config: "",
) -> SystemKind:
    """A system that is one stage of its own.

    Args:
        name: of the system and of its stage.
        about: what it is, in a line.
        settings: everything of a run's config that decides its result.
        train: trains it; the stage is the one to be written.
        load: makes the system from what `train` stored.
        parents: stages that it reads.
        encoder, llm: whether it needs the sentence encoder or the language model.
        texts: whether it knows items by their texts alone, and so nothing where there are none.
        titles: whether it scores titles with the language model, which is slow.
        note: what a reader of the table must know of how the run trained it.
    """

    def all_settings(config: RunConfig) -> Mapping[str, Any]:
        return {**settings(config), **({"encoder_name": config.encoder.name} if encoder else {})}

    def inputs(config: RunConfig) -> Mapping[str, str]:
        return {**language_model_input(config), **held_out_input(config)} if llm else {}

    def check(run: Run) -> None:
        catalogue = run.dataset.catalogue
        if texts and not (any(catalogue.titles) or any(catalogue.descriptions)):
            raise DataError(
                f"{name} knows items by their texts, and none of the {run.dataset.n_items:,} items of {run.path} has one. "
                "Prepare the data with titles (allmrec prepare table … --items)."
            )
        if encoder:
            check_encoder(run)
        if llm:
            check_language_model(run)

    def load_models(run: Run) -> None:
        if encoder:
            try_encoder(run)
        if llm:
            try_language_model(run)

    stage = StageKind(name, all_settings, train, parents, inputs=inputs, check=check, load=load_models, system=name)

    def opened(run: Run) -> System:
        return System(load(run, run.tensors(stage)), titles(run.config), note(run.config))

    return SystemKind(name, about, opened, lambda config: (stage,), prompted=llm)


def logged(weights: Mapping[str, Tensor], log: TrainingLog, **more: TrainingLog) -> StageResult:
    """A stage's result with the log of its training, and those of earlier phases by name."""
    parts = {name: part.as_json() for name, part in more.items()}
    return StageResult(weights, log.as_json() | parts)


def own_backbone(run: Run) -> BackboneRecommender:
    """The run's CF model that saw everything."""
    kind = backbone_kind(run.config.pretrain.backbone)
    return BackboneRecommender(backbone(run, cf_in_use(run.config)), kind.title)


def cf_system(name: str) -> SystemKind:
    """A CF model trained on everything: the run's own where it is that, else a stage beside it."""

    def settings(config: RunConfig) -> PretrainConfig:
        return for_backbone(config.pretrain, name)

    def train(run: Run, stage: Stage) -> StageResult:
        model, log = pretrain(everything(run), settings(run.config), run.config.seed, run.resume(stage), run.device)
        return logged(model.state_dict(), log)

    def load(run: Run, weights: Mapping[str, Tensor]) -> Ranker:
        kind = backbone_kind(name)
        return BackboneRecommender(kind.load(weights, settings(run.config).model).to(run.device), kind.title)

    def is_own(config: RunConfig) -> bool:
        return config.pretrain.backbone == name

    beside = trained_system(
        name, "a CF model by itself", lambda config: settings(config).model_dump(mode="json"), train, load
    )
    return replace(
        beside,
        open=lambda run: System(own_backbone(run)) if is_own(run.config) else beside.open(run),
        stages=lambda config: (cf_in_use(config),) if is_own(config) else beside.stages(config),
    )


# What comes with vectors has nothing to train beside a run that is made of them.
CF_SYSTEMS = tuple(cf_system(name) for name in BACKBONES if name != "imported")
