"""The stage `align`, stage 1 of A-LLMRec: the joint item table, and the text half for items that come later."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from allmrec.alignment.align import align
from allmrec.alignment.autoencoders import Alignment
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.text_side import TextSide
from allmrec.core.seeding import seeded_torch
from allmrec.core.tensors import Shape, check_parameters, expected
from allmrec.pipeline.continuing import earlier_tensors, training_of
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.recipes.config import RunConfig
from allmrec.stages.cf import PRETRAIN, backbone, cf_shape
from allmrec.stages.frozen import check_encoder, try_encoder, tuned_encoder
from allmrec.stages.texts import item_texts, new_text_vectors
from allmrec.store.stages import Stage, StageResult

__all__ = ["ALIGN", "align_shape", "joint_table", "text_side"]


def _train(run: Run, stage: Stage) -> StageResult:
    config = run.config
    alignment, joint, log = align(
        run.split,
        backbone(run),
        item_texts(run),
        tuned_encoder(run),
        config.align.model_copy(update={"training": training_of(run, ALIGN, config.align.training)}),
        config.seed,
        run.resume(stage),
        run.device,
        earlier_tensors(run, ALIGN),
    )
    return StageResult(alignment.state_dict(), log.as_json(), {"joint": joint.tensors()})


def align_shape(config: RunConfig) -> dict[str, Any] | None:
    """What stage 1's weights depend on; None where nothing is to go on from."""
    cf = cf_shape(config)
    if cf is None:
        return None
    return {"cf": cf, "encoder": config.encoder.deciding, "joint_dim": config.align.joint_dim}


def _settings(config: RunConfig) -> dict[str, Any]:
    parts: dict[str, Any] = {part: getattr(config, part).model_dump(mode="json") for part in ("align", "item_text")}
    return parts | {"encoder": config.encoder.deciding}


ALIGN = StageKind(
    "align",
    _settings,
    _train,
    parents=lambda config: (PRETRAIN,),
    check=check_encoder,
    load=try_encoder,
    continuation=Continuation(align_shape, lambda run: run.split.train_end),
)


def joint_table(run: Run) -> JointItemTable:
    """Vectors of all items for stage 2: as stage 1 left them, or what `tune.items` puts in their place.

    Raises:
        ArtifactError: a stage is not trained, of other inputs, or damaged.
    """
    if run.config.tune.items == "joint":
        tensors, rows = run.tensors(ALIGN, "joint"), run.dataset.n_items + 1
        wanted: dict[str, Shape] = dict.fromkeys(("has_cf", "has_text", "from_text"), ("bool", (rows,)))
        wanted |= dict.fromkeys(("cf", "text"), ("float", (rows, run.config.align.joint_dim)))
        with run.content(ALIGN, "joint"):
            expected(tensors, wanted)
            return JointItemTable.from_tensors(tensors)
    vectors = backbone(run).item_vectors().detach().cpu()
    if run.config.tune.items == "random":
        with seeded_torch(run.config.seed, "random joint vectors"):
            vectors = torch.randn(len(vectors), run.config.align.joint_dim)
    none = torch.zeros(len(vectors), dtype=torch.bool)
    return JointItemTable.of(vectors, torch.zeros_like(vectors), none)


def text_side(run: Run) -> TextSide:
    """The text half of stage 1 with its encoder, for items that come later.

    Raises:
        ArtifactError: stage 1 is not trained, of other inputs, or damaged; or the encoder has other weights.
    """
    encoder = tuned_encoder(run)
    alignment = Alignment(backbone(run).dim, encoder, run.config.align.joint_dim)
    tensors = run.tensors(ALIGN)
    with run.content(ALIGN):
        check_parameters(alignment.state_dict(), tensors, "alignment")
        alignment.load_state_dict(tensors)
    return TextSide(alignment.to(run.device), encoder, run.config.item_text, partial(new_text_vectors, run))
