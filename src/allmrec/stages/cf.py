"""The CF model of a run as two stages: without the held-out targets for A-LLMRec, and on everything for use."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.cf.pretrain import pretrain
from allmrec.cf.registry import backbone_kind
from allmrec.core.artifacts import read_tensors
from allmrec.core.errors import ArtifactError
from allmrec.core.tensors import content_of, expected
from allmrec.data.splitting import Split, leave_one_out
from allmrec.pipeline.continuing import earlier_weights
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.recipes.config import RunConfig
from allmrec.stages.texts import TEXTS, text_vectors
from allmrec.store.stages import Stage, StageResult

__all__ = [
    "PRETRAIN",
    "REFERENCE",
    "backbone",
    "cf_in_use",
    "cf_shape",
    "cold_rows",
    "everything",
    "held_out_input",
    "known_counts",
    "train_counts",
]


def held_out_input(config: RunConfig) -> dict[str, str]:
    """What is withheld from the CF model, as it decides a stage's result."""
    found = {"held_out_targets": str(config.held_out_targets)}
    if config.held_out_users is None or not config.held_out_targets:
        return found
    return found | {"held_out_users": str(config.held_out_users)}


def everything(run: Run) -> Split:
    """Nothing held out: what a system that no stage 2 learns from may train on."""
    return leave_one_out(run.dataset)


def _settings(config: RunConfig) -> dict[str, Any]:
    return config.pretrain.model_dump(mode="json")


def _parents(config: RunConfig) -> tuple[StageKind, ...]:
    """Vectors of texts where the CF model's items are made of them."""
    return (TEXTS,) if getattr(config.pretrain.model, "items", "ids") == "texts" else ()


def _train(run: Run, stage: Stage, kind: StageKind, split: Split) -> StageResult:
    earlier = earlier_weights(run, kind)
    texts = text_vectors(run)[0] if _parents(run.config) else None
    model, log = pretrain(split, run.config.pretrain, run.config.seed, run.resume(stage), run.device, earlier, texts)
    return StageResult(model.state_dict(), log.as_json())


def cf_shape(config: RunConfig) -> dict[str, Any] | None:
    """What the CF model's weights depend on; None where it comes trained."""
    if backbone_kind(config.pretrain.backbone).ready is not None:
        return None
    return {"backbone": config.pretrain.backbone, "model": config.pretrain.model.model_dump(mode="json")}


PRETRAIN: StageKind = StageKind(
    "pretrain",
    _settings,
    lambda run, stage: _train(run, stage, PRETRAIN, run.split),
    parents=_parents,
    inputs=held_out_input,
    continuation=Continuation(cf_shape, lambda run: run.split.train_end),
)

REFERENCE: StageKind = StageKind(
    "reference",
    _settings,
    lambda run, stage: _train(run, stage, REFERENCE, everything(run)),
    parents=_parents,
    inputs=lambda config: {"held_out_targets": "0"},
    before=lambda config: (PRETRAIN,),
    continuation=Continuation(cf_shape, lambda run: everything(run).train_end),
)


def cf_in_use(config: RunConfig) -> StageKind:
    """The CF model that saw everything; where nothing is held out there is one only."""
    return REFERENCE if config.held_out_targets else PRETRAIN


def backbone(run: Run, kind: StageKind = PRETRAIN) -> Backbone:
    """A trained CF model.

    Args:
        run: the run.
        kind: `PRETRAIN`, the one inside A-LLMRec, or `cf_in_use`.

    Raises:
        ArtifactError: it is not trained, of other inputs, or damaged.
    """
    tensors = run.tensors(kind)
    with run.content(kind):
        made = backbone_kind(run.config.pretrain.backbone).load(tensors, run.config.pretrain.model)
        if made.n_items != run.dataset.n_items:
            raise ArtifactError(f"It knows {made.n_items} items, and the data has {run.dataset.n_items}.")
    return made.to(run.device)


def train_counts(run: Run) -> Int64[np.ndarray, " items_and_padding"]:
    """Training interactions per item number, as the CF model inside A-LLMRec saw them."""
    return run.split.train_counts() if run.published is None else _published_counts(run, "train_counts")


def known_counts(run: Run) -> Int64[np.ndarray, " items_and_padding"]:
    """The same with the items held out from that CF model: what the one in use knows."""
    return everything(run).train_counts() if run.published is None else _published_counts(run, "known_counts")


def cold_rows(run: Run, below: int) -> Bool[Tensor, " rows"]:
    """Which items have fewer training interactions than `below`."""
    rows: Bool[Tensor, " rows"] = torch.from_numpy(train_counts(run) < below)
    rows[0] = False
    return rows


def _published_counts(run: Run, name: str) -> Int64[np.ndarray, " items_and_padding"]:
    path = run.path / "published.safetensors"
    tensors = read_tensors(path)
    rows = run.dataset.n_items + 1
    with content_of(path, "Save the recommender again."):
        return expected(tensors, {name: ("int", (rows,))})[name].numpy()
