"""MovieLens: what A-LLMRec knows of a user comes through that user's own vectors. Others' vectors must cost it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float
from torch import Tensor

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.core.packaged import movielens_100k
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.build import read_movielens
from allmrec.data.splitting import Split
from allmrec.evaluation import draw_protocol, judge
from allmrec.library import Run
from allmrec.pipeline.config import load_recipe
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompted import PromptedRanker

pytestmark = pytest.mark.slow


class OthersVectors:
    """A backbone that gives each user the vector of another one."""

    def __init__(self, backbone: Backbone, split: Split, other: np.ndarray) -> None:
        self._backbone, self._split, self._other = backbone, split, other
        self.width, self.max_length, self.n_items = backbone.width, backbone.max_length, backbone.n_items

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        return self._backbone.item_vectors()

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        others = self._other[batch.users]
        histories = left_pad([self._split.test_history(int(u)) for u in others], self.max_length)
        return self._backbone.user_vectors(SequenceBatch(others, histories))


def test_others_vectors_lower_hit_at_1(tmp_path: Path) -> None:
    data = read_movielens(movielens_100k())
    # By the title loss alone, without head, prior and stage 1: everything must come through the slots.
    changes = {
        "pretrain.training.epochs": 25,
        "tune.items": "backbone",
        "tune.validation_users": 0,
        "tune.training.epochs": 1,
    }
    run = Run.create(tmp_path / "run", data, load_recipe("demo", changes))
    run.train()
    own = run.ranker()
    rng = numpy_generator(0, "shuffle")
    order = np.concatenate([[0], rng.permutation(np.arange(1, data.n_items + 1))])
    swapped = JointItemTable.from_tensors({name: tensor[order] for name, tensor in own.joint.tensors().items()})
    strangers = OthersVectors(run.backbone(), run.split, np.roll(rng.permutation(data.n_users), 1))
    others = PromptedRanker(run.lm, strangers, swapped, data.catalogue.titles, run.config.tune.prompt)
    others.load_state_dict(own.state_dict())
    systems = [
        LanguageRanker(own, "score", "own vectors"),
        LanguageRanker(others, "score", "others' vectors"),
    ]
    protocol = draw_protocol(run.split, "test", 120, seed=1)
    report = judge(systems, protocol, run.split, reference="own vectors")
    difference = report.difference("others' vectors")
    assert difference is not None
    hits = {s.name: round(s.metrics["Hit@1"].value, 3) for s in report.systems}
    print(f"Hit@1 {hits}; difference {difference.estimate}")
    assert difference.estimate.high < 0
    # Chance is 0.05.
    assert report.by_name["others' vectors"].metrics["Hit@1"].low <= 0.05
    assert report.by_name["own vectors"].metrics["Hit@1"].low > 0.1
