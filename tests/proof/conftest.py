"""Parts that the proofs share: the real language model, and stage 2 on top of a small backbone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.ranking import Query, Ranker
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker


@pytest.fixture(scope="session")
def smollm2() -> TransformersLM:
    """SmolLM2-135M-Instruct, from its package."""
    return load_language_model("smollm2-135m-instruct", precision="float32")


def cf_table(backbone: Backbone) -> JointItemTable:
    """A joint table that holds the CF model's own item vectors: stage 2 without stage 1 (MLP-LLM)."""
    vectors = backbone.item_vectors().detach()
    return JointItemTable.of(vectors, torch.zeros_like(vectors), torch.ones(len(vectors), dtype=torch.bool))


def stage_two(
    lm: TransformersLM, backbone: Backbone, data: InteractionDataset, joint: JointItemTable, **prompt: object
) -> PromptedRanker:
    return PromptedRanker(lm, backbone, joint, data.catalogue.titles, PromptConfig.model_validate(prompt))


def hit_at_1(system: Ranker, queries: Sequence[Query], targets: np.ndarray, candidates: np.ndarray) -> float:
    rankings = system.rank(queries, list(candidates))
    return float(np.mean([r.items[0] == t for r, t in zip(rankings, targets, strict=True)]))


def asked_about(
    split: Split, users: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[list[Query], np.ndarray, np.ndarray]:
    """Queries, targets and shuffled candidates of users' test items."""
    targets = split.test[users]
    candidates = rng.permuted(np.concatenate([targets[:, None], others], axis=1), axis=1)
    return [Query(split.test_history(int(u)), int(u)) for u in users], targets, candidates
