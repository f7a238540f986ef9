"""Systems that are one stage of their own, and the CF models among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import BACKBONES, backbone_kind
from allmrec.core.config import Config
from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.core.training import TrainingLog
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.ranking import Ranker
from allmrec.recipes.config import RunConfig, for_backbone
from allmrec.stages.cf import backbone, cf_in_use, everything, held_out_input
from allmrec.stages.frozen import (
    check_encoder,
    check_language_model,
    language_model_input,
    try_encoder,
    try_language_model,
)
from allmrec.store.stages import Stage, StageResult
from allmrec.systems.kinds import Settings, System, SystemKind
from allmrec.text.encoder import EncoderConfig

__all__ = ["CF_SYSTEMS", "cf_system", "logged", "own_backbone", "trained_system"]

C = TypeVar("C", bound=Config)


def trained_system(
    name: str,
    about: str,
    settings: Settings[C],
    train: Callable[[Run, Stage, C], StageResult],
    load: Callable[[Run, Mapping[str, Tensor], C], Ranker],
    *,
    more: Callable[[RunConfig], Mapping[str, Any]] = lambda config: {},
    parents: Callable[[RunConfig], Sequence[StageKind]] = lambda config: (),
    encoder: Callable[[RunConfig, C], EncoderConfig | None] = lambda config, settings: None,
    llm: bool = False,
    texts: bool = False,
    titles: Callable[[RunConfig], bool] = lambda config: False,
    note: Callable[[C], str] = lambda settings: "",
    continuation: Continuation | None = None,
) -> SystemKind:
    """A system that is one stage of its own.

    Args:
        name: of the system and of its stage.
        about: what it is, in a line.
        settings: its group of a run's configuration; all of it decides the result.
        train: trains it; the stage is the one to be written.
        load: makes the system from what `train` stored.
        more: what else of a run's configuration decides the result.
        parents: stages that it reads.
        encoder: the sentence encoder that it needs; none: it needs none.
        llm: whether it needs the run's language model.
        texts: whether it knows items by their texts alone, and so nothing where there are none.
        titles: whether it scores titles with the language model, which is slow.
        note: what a reader of the table must know of how it was trained.
        continuation: how its stage goes on from that of a run on earlier data; None: it is always trained anew.
    """

    def all_settings(config: RunConfig) -> Mapping[str, Any]:
        own = settings.of(config)
        needed = encoder(config, own)
        of_encoder = {} if needed is None else {"encoder_name": needed.name}
        return {**_deciding(own.model_dump(mode="json")), **more(config), **of_encoder}

    def inputs(config: RunConfig) -> Mapping[str, str]:
        return {**language_model_input(config), **held_out_input(config)} if llm else {}

    def check(run: Run) -> None:
        own = settings.of(run.config)
        catalogue = run.dataset.catalogue
        if texts and not (any(catalogue.titles) or any(catalogue.descriptions)):
            raise DataError(
                f"{name} knows items by their texts, and none of the {run.dataset.n_items:,} items of {run.path} has one. "
                "Prepare the data with titles (allmrec prepare table … --items)."
            )
        if (needed := encoder(run.config, own)) is not None:
            check_encoder(run, needed)
        if llm:
            check_language_model(run)

    def load_models(run: Run) -> None:
        if (needed := encoder(run.config, settings.of(run.config))) is not None:
            try_encoder(run, needed)
        if llm:
            try_language_model(run)

    def trained(run: Run, stage: Stage) -> StageResult:
        return train(run, stage, settings.of(run.config))

    stage = StageKind(
        name,
        all_settings,
        trained,
        parents,
        inputs=inputs,
        check=check,
        load=load_models,
        system=name,
        continuation=continuation,
    )

    def opened(run: Run) -> System:
        own = settings.of(run.config)
        tensors = run.tensors(stage)
        with run.content(stage):
            made = load(run, tensors, own)
            if isinstance(made, BackboneRecommender) and made.backbone.n_items != run.dataset.n_items:
                raise ArtifactError(f"It knows {made.backbone.n_items} items, and the data has {run.dataset.n_items}.")
        return System(made, titles(run.config), note(own))

    return SystemKind(name, about, opened, lambda config: (stage,), prompted=llm, settings=settings)


def _deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what decides no result: whose code may run."""
    return {
        name: _deciding(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name != "trust_remote_code"
    }


def logged(weights: Mapping[str, Tensor], log: TrainingLog, **more: TrainingLog) -> StageResult:
    """A stage's result with the log of its training, and those of earlier phases by name."""
    parts = {name: part.as_json() for name, part in more.items()}
    return StageResult(weights, log.as_json() | parts)


def own_backbone(run: Run) -> BackboneRecommender:
    """The run's CF model that saw everything."""
    kind = backbone_kind(run.config.pretrain.backbone)
    return BackboneRecommender(backbone(run, cf_in_use(run.config)), kind.title)


def cf_system(name: str) -> SystemKind:
    """A CF model trained on everything: the run's own where it is that, else a stage beside it.

    Its settings are `pretrain`'s; what is not given is as in the run's own CF model.
    """

    def checked(settings: PretrainConfig) -> PretrainConfig:
        if settings.backbone != name:
            raise ConfigError(
                f"systems.{name}.backbone is {settings.backbone!r}; the system {name!r} is that backbone."
            )
        return settings

    def train(run: Run, stage: Stage, settings: PretrainConfig) -> StageResult:
        model, log = pretrain(everything(run), checked(settings), run.config.seed, run.resume(stage), run.device)
        return logged(model.state_dict(), log)

    def load(run: Run, weights: Mapping[str, Tensor], settings: PretrainConfig) -> Ranker:
        kind = backbone_kind(name)
        return BackboneRecommender(kind.load(weights, checked(settings).model).to(run.device), kind.title)

    def is_own(config: RunConfig) -> bool:
        return config.pretrain.backbone == name

    beside = trained_system(
        name,
        "a CF model by itself",
        Settings(name, PretrainConfig, lambda config: for_backbone(config.pretrain, name).model_dump(mode="json")),
        train,
        load,
    )
    return replace(
        beside,
        open=lambda run: System(own_backbone(run)) if is_own(run.config) else beside.open(run),
        stages=lambda config: (cf_in_use(config),) if is_own(config) else beside.stages(config),
    )


# What comes with vectors has nothing to train beside a run that is made of them.
CF_SYSTEMS = tuple(cf_system(name) for name in BACKBONES if name != "imported")
