"""MovieLens: what A-LLMRec knows of a user comes through that user's own vectors. Others' vectors must cost it."""

from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.core.packaged import movielens_100k
from allmrec.core.seeding import numpy_generator
from allmrec.data.build import read_movielens
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.testing.exchanged import exchanged_ranker

pytestmark = pytest.mark.slow


def test_others_vectors_lower_hit_at_1(tmp_path: Path) -> None:
    data = read_movielens(movielens_100k())
    # By the title loss alone, without head, prior and stage 1: everything must come through the slots.
    changes = {
        "pretrain.training.epochs": 25,
        "tune.items": "backbone",
        "tune.validation_users": 0,
        "beside": [],
        "tune.training.batch_size": 8,
        "tune.training.epochs": 1,
    }
    run = Run.create(tmp_path / "run", data, load_recipe("demo", changes))
    run.train()
    own = run.ranker()
    others = exchanged_ranker(own, run.split, numpy_generator(0, "shuffle"))
    systems = [
        LanguageRanker(own, "score", "own vectors"),
        LanguageRanker(others, "score", "others' vectors"),
    ]
    protocol = draw_protocol(run.split, "test", 120, seed=1)
    report = evaluate_rankers(systems, protocol, run.split, reference="own vectors")
    difference = report.difference("others' vectors")
    assert difference is not None
    hits = {s.name: round(s.metrics["Hit@1"].value, 3) for s in report.systems}
    print(f"Hit@1 {hits}; difference {difference.estimate}")
    assert difference.estimate.high < 0
    # Chance is 0.05.
    assert report.by_name["others' vectors"].metrics["Hit@1"].low <= 0.05
    assert report.by_name["own vectors"].metrics["Hit@1"].low > 0.1
