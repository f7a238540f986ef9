"""LLM-SRec as an entry of the table: which CF model it hears, how it is trained, stored and opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from allmrec.baselines.llm_srec import LLMSRec, LLMSRecConfig
from allmrec.baselines.llm_srec_training import train_llm_srec
from allmrec.cf.recommender import BackboneRecommender
from allmrec.core.errors import ConfigError
from allmrec.pipeline.run import Run, StageKind
from allmrec.ranking import Ranker
from allmrec.recipes.config import RunConfig
from allmrec.stages.cf import PRETRAIN, backbone, cf_in_use, everything
from allmrec.stages.frozen import language_model
from allmrec.store.stages import Stage, StageResult
from allmrec.systems.kinds import Settings
from allmrec.systems.trained import logged, trained_system

__all__ = ["LLM_SREC"]

# Of stage 2: whom it learns from, and what of its training goes by the size of the data.
_SAMPLES = ("positions", "users", "samples_per_epoch", "redraw", "validation_users")
_TRAINING = ("epochs", "clip_norm", "warmup", "schedule", "weight_decay")


def _inherited(config: RunConfig) -> dict[str, Any]:
    """Samples, words and lengths of stage 2; rate, batch and patience are LLM-SRec's own."""
    tune = config.tune.model_dump(mode="json")
    budget = tune["prompt"]["budget"]
    return {
        **{name: tune[name] for name in _SAMPLES},
        **{name: budget[name] for name in ("title_tokens", "prompt_tokens")},
        "max_history": max(1, budget["max_history"]),
        "words": {"words": tune["prompt"]["template"]["words"]},
        "training": {name: tune["training"][name] for name in _TRAINING},
    }


_SETTINGS = Settings("llm-srec", LLMSRecConfig, _inherited)


def _cf(config: RunConfig) -> StageKind:
    """The CF model that knows everything, unless it is to be learned from targets that it never saw.

    Raises:
        ConfigError: there are no such targets.
    """
    if _SETTINGS.of(config).positions != "held_out":
        return cf_in_use(config)
    if config.held_out_targets == 0:
        raise ConfigError(
            "systems.llm-srec.positions is 'held_out', which needs held_out_targets of at least 1 in the run; or give 'last' "
            "or 'all'."
        )
    return PRETRAIN


def _train(run: Run, stage: Stage, settings: LLMSRecConfig) -> StageResult:
    split = run.split if settings.positions == "held_out" else everything(run)
    cf, titles = backbone(run, _cf(run.config)), run.dataset.catalogue.titles
    model, log = train_llm_srec(split, language_model(run), cf, titles, settings, run.config.seed, run.resume(stage))
    return logged(model.tensors(), log)


def _load(run: Run, weights: Mapping[str, Tensor], settings: LLMSRecConfig) -> Ranker:
    cf, titles = backbone(run, _cf(run.config)), run.dataset.catalogue.titles
    return BackboneRecommender(LLMSRec.from_arrays(weights, language_model(run), cf, titles, settings), "LLM-SRec")


def _parents(config: RunConfig) -> Sequence[StageKind]:
    return (_cf(config),)


def _note(settings: LLMSRecConfig) -> str:
    return "" if settings.layers is None else f"the first {settings.layers} layers of its language model"


# It needs the language model, and gives vectors: every item is scored by one product, so nothing else retrieves for it.
LLM_SREC = replace(
    trained_system(
        "llm-srec",
        "LLM-SRec: user and item vectors of the frozen language model",
        _SETTINGS,
        _train,
        _load,
        parents=_parents,
        llm=True,
        note=_note,
    ),
    prompted=False,
)
