"""Stage 2 can learn: 32 users by heart with the real language model, by `select` and by `score`."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.packaged import movielens_100k
from allmrec.core.seeding import seeded_torch
from allmrec.data.build import read_movielens
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.tune import TuneConfig, stage_two_batches, tune
from tests.proof.conftest import cf_table, stage_two

pytestmark = pytest.mark.slow


def few_users(count: int = 32, length: int = 8) -> InteractionDataset:
    """The ends of some MovieLens users' histories."""
    films = read_movielens(movielens_100k())
    ids = [films.items.id(i) for i in range(1, films.n_items + 1)]
    sequences = {films.users.id(u): [films.items.id(int(i)) for i in films.sequence(u)[-length:]] for u in range(count)}
    titles = {name: title for name, title in zip(ids, films.catalogue.titles[1:], strict=True) if title}
    return InteractionDataset.from_sequences(sequences, items=ids, titles=titles)


SHORT = {
    "head": "{user}",
    "history": "{history}",
    "no_history": "",
    "question": " Titles: [{candidates}].",
    "answer": " Best:",
}


@pytest.mark.parametrize(
    ("method", "rate", "epochs", "prompt"),
    [
        ("select", 2e-3, 40, {"budget": {"max_history": 2, "title_tokens": 6}, "pointer": {"layers": 1}}),
        # All layers and the paper's title loss: a short template keeps it within minutes on a CPU.
        ("score", 3e-3, 40, {"budget": {"max_history": 1, "title_tokens": 4}, "template": SHORT}),
    ],
)
def test_thirty_two_users_by_heart(
    smollm2: TransformersLM, method: Literal["select", "score"], rate: float, epochs: int, prompt: dict[str, object]
) -> None:
    data = few_users()
    with seeded_torch(0, "overfit"):
        backbone = SASRec(data.n_items, SASRecConfig(max_history=8)).eval()
    ranker = stage_two(smollm2, backbone, data, cf_table(backbone), **prompt)
    config = TuneConfig.model_validate(
        {
            "title_weight": float(method == "score"),
            "select_weight": float(method == "select"),
            "candidates": 3,
            "redraw": False,
            "validation_users": 0,
            "training": {
                "learning_rate": rate,
                "batch_size": 8,
                "epochs": epochs,
                "clip_norm": 1.0,
                "schedule": "cosine",
            },
        }
    )
    split = leave_one_out(data)
    tune(ranker, split, config)
    model = LanguageRanker(ranker, method, batch_size=32)
    hits = []
    for batch in stage_two_batches(ranker, split, config, epoch=epochs - 1):
        rankings = model.rank(batch.queries, batch.candidates)
        hits += [r.items[0] == c[t] for r, c, t in zip(rankings, batch.candidates, batch.targets, strict=True)]
    print(f"training Hit@1 by {method}: {np.mean(hits):.3f}")
    assert np.mean(hits) == 1
