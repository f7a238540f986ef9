"""A small world, and a ranker on it whose CF model and item vectors are random."""

from __future__ import annotations

import torch

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.frozen import Frozen
from allmrec.core.seeding import seeded_torch
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.ranking import Query
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.testing.worlds import taste_world

WORLD = taste_world(users=24, tastes=4, items_per_taste=8, length=6)


def ranker(lm: TransformersLM, world: InteractionDataset = WORLD, seed: int = 0, **config: object) -> PromptedRanker:
    """Untrained."""
    with seeded_torch(5, "backbone"):
        backbone = SASRec(world.n_items, SASRecConfig(dim=8, max_history=6))
    Frozen(backbone)
    generator = torch.Generator().manual_seed(1)
    rows = world.n_items + 1
    cf, text = (torch.rand(rows, 12, generator=generator) for _ in range(2))
    table = JointItemTable.of(cf, text, torch.ones(rows, dtype=torch.bool))
    counts = leave_one_out(world).train_counts()
    parsed = PromptConfig.model_validate(config)
    return PromptedRanker(lm, backbone, table, world.catalogue.titles, parsed, seed, counts=counts)


def queries(count: int) -> list[Query]:
    """Of the world's first users, with histories of different lengths; every fifth is empty."""
    split = leave_one_out(WORLD)
    return [Query(split.test_history(u)[: u % 5], u) for u in range(count)]
