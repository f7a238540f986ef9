"""A sequence model over item texts beside the run's CF model, and both as one (EnsRec, Collins et al., 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from allmrec.cf.backbone import Backbone, SequenceBackbone
from allmrec.cf.fused import FusedBackbone, emphasis, rarity
from allmrec.cf.fused_weights import FusedConfig, fit_weights
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import backbone_kind
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.tensors import expected
from allmrec.pipeline.continuing import earlier_weights
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.ranking import Ranker
from allmrec.recipes.config import RunConfig, for_backbone
from allmrec.stages.cf import backbone, cf_in_use, everything
from allmrec.stages.texts import TEXTS, text_encoder, text_vectors
from allmrec.stages.tune import ALLMREC_STAGES
from allmrec.store.stages import Stage, StageResult
from allmrec.systems.kinds import Settings, SystemKind
from allmrec.systems.trained import logged, trained_system

__all__ = [
    "TEXT_TOWER",
    "TEXT_TOWER_TITLE",
    "TOWERS",
    "TOWERS_TITLE",
    "TOWER_SYSTEMS",
    "continuing_stages",
    "fused",
    "text_tower",
]


def _inherited(config: RunConfig) -> dict[str, Any]:
    """The run's CF training, on texts."""
    own = config.pretrain
    if not hasattr(own.model, "items"):
        own = for_backbone(own, "sasrec")
    values = own.model_dump(mode="json")
    values["model"]["items"] = "texts"
    return values


# As they stand in tables.
TEXT_TOWER_TITLE = "Text tower"
TOWERS_TITLE = "Both towers"

_TOWER = Settings("text-tower", PretrainConfig, _inherited)


def _checked(settings: PretrainConfig) -> PretrainConfig:
    if getattr(settings.model, "items", "ids") != "texts":
        raise ConfigError(
            f"systems.text-tower has a {settings.backbone} whose items are no texts; expected a sequence model with "
            "model.items = 'texts' (sasrec, gru4rec, nextitnet)."
        )
    return settings


def _train_tower(run: Run, stage: Stage, settings: PretrainConfig) -> StageResult:
    texts, _ = text_vectors(run)
    (kind,) = TEXT_TOWER.stages(run.config)
    earlier = earlier_weights(run, kind)
    model, log = pretrain(
        everything(run), _checked(settings), run.config.seed, run.resume(stage), run.device, earlier, texts
    )
    return logged(model.state_dict(), log)


def _tower(run: Run, weights: Mapping[str, Tensor], settings: PretrainConfig) -> SequenceBackbone:
    return backbone_kind(settings.backbone).load(weights, _checked(settings).model).to(run.device)


def _tower_shape(config: RunConfig) -> dict[str, Any]:
    """What the text tower's weights depend on, beside the texts' vectors."""
    own = _TOWER.of(config)
    return {"backbone": own.backbone, "model": own.model.model_dump(mode="json")}


TEXT_TOWER: SystemKind = trained_system(
    "text-tower",
    "a sequence model over item texts",
    _TOWER,
    _train_tower,
    lambda run, weights, settings: BackboneRecommender(_tower(run, weights, settings), TEXT_TOWER_TITLE),
    encoder=lambda config, settings: text_encoder(config),
    texts=True,
    parents=lambda config: (TEXTS,),
    continuation=Continuation(_tower_shape, lambda run: everything(run).train_end),
)


def continuing_stages(earlier: Run) -> tuple[StageKind, ...]:
    """Stages that may go on from those of an earlier run: A-LLMRec's, and the text tower where it is trained there."""
    return (*ALLMREC_STAGES, *(kind for kind in TEXT_TOWER.stages(earlier.config) if earlier.has(kind)))


def text_tower(run: Run) -> SequenceBackbone:
    """The trained text tower.

    Raises:
        ArtifactError: it is not trained, of other inputs or items, or damaged.
    """
    (stage,) = TEXT_TOWER.stages(run.config)
    tensors = run.tensors(stage)
    with run.content(stage):
        tower = _tower(run, tensors, _TOWER.of(run.config))
        if tower.n_items != run.dataset.n_items:
            raise ArtifactError(f"It knows {tower.n_items} items, and the data has {run.dataset.n_items}.")
    return tower


def _parts(run: Run) -> tuple[Backbone, SequenceBackbone]:
    return backbone(run, cf_in_use(run.config)), text_tower(run)


def _train_towers(run: Run, stage: Stage, settings: FusedConfig) -> StageResult:
    split = everything(run)
    found = fit_weights(_parts(run), split, settings, run.config.seed)
    log = {
        "weights": list(found.parts),
        "chosen": asdict(found.chosen),
        "ndcg@10 by share": found.by_share,
        "tried": [asdict(one) for one in found.tried],
    }
    counts = split.train_counts()
    tensors = {
        "weights": torch.tensor(found.parts),
        "rarity": rarity(counts, found.chosen.rarity),
        "emphasis": emphasis(counts, found.chosen.emphasis),
    }
    return StageResult(tensors, log)


def _joined(parts: Sequence[Backbone], weights: Mapping[str, Tensor]) -> FusedBackbone:
    rows = max(part.n_items for part in parts) + 1
    expected(weights, {"weights": ("float", (2,)), "rarity": ("float", (rows,)), "emphasis": ("float", (rows,))})
    return FusedBackbone(parts, weights["weights"].tolist(), weights["rarity"], weights["emphasis"])


def _load_towers(run: Run, weights: Mapping[str, Tensor], settings: FusedConfig) -> Ranker:
    return BackboneRecommender(_joined(_parts(run), weights), TOWERS_TITLE)


TOWERS = trained_system(
    "towers",
    "the CF model and the text tower, scores added",
    Settings("towers", FusedConfig),
    _train_towers,
    _load_towers,
    texts=True,
    parents=lambda config: (cf_in_use(config), *TEXT_TOWER.stages(config)),
)

TOWER_SYSTEMS = (TEXT_TOWER, TOWERS)


def fused(run: Run) -> FusedBackbone | None:
    """Both towers of a run; None where they are not trained.

    Raises:
        ArtifactError: one of their stages is damaged, or of other items than the run's.
    """
    (stage,) = TOWERS.stages(run.config)
    if not run.has(stage):
        return None
    parts, weights = _parts(run), run.tensors(stage)
    with run.content(stage):
        return _joined(parts, weights)
