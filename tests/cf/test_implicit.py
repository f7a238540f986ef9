"""ALS of the package `implicit` as a backbone: the worked example keeps what every backbone must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.docs.conftest import ROOT, program

from allmrec.cf import Backbone
from allmrec.data import SequenceBatch, Split, leave_one_out
from allmrec.ranking import Query
from allmrec.testing.conformance import check_backbone
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.testing.worlds import taste_world
from allmrec.text import EncoderConfig, load_encoder

pytest.importorskip("implicit", reason="implicit is not installed: pip install implicit==0.7.3")
EXAMPLE = program(ROOT / "examples" / "implicit_als.py")


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(taste_world(users=48, tastes=4, items_per_taste=12, length=9))


def test_it_conforms(split: Split) -> None:
    assert set(check_backbone(lambda split: EXAMPLE.ALSBackbone.fit(split, factors=8)).values()) == {"passed"}


def test_vectors_of_known_users_are_the_models_own(split: Split) -> None:
    backbone = EXAMPLE.ALSBackbone.fit(split, factors=8)
    assert isinstance(backbone, Backbone)
    histories = np.stack([split.train(user) for user in range(5)]).astype(np.int64)
    found = backbone.user_vectors(SequenceBatch(np.full(5, -1), histories))
    E = backbone.item_vectors().double()
    regularisation, alpha = backbone.model.regularization, backbone.model.alpha
    for row, history in enumerate(histories):
        # Hu et al., ICDM 2008, equation 4, with confidence alpha for what was taken and 1 for everything else.
        taken = E[torch.from_numpy(history)]
        normal = E[1:].T @ E[1:] + (alpha - 1) * taken.T @ taken + regularisation * torch.eye(8, dtype=torch.float64)
        wanted = torch.linalg.solve(normal, alpha * taken.sum(0))
        torch.testing.assert_close(found[row].double(), wanted, atol=1e-3, rtol=1e-3)


def test_both_stages_run_around_it(split: Split, tmp_path: Path) -> None:
    backbone = EXAMPLE.ALSBackbone.fit(split, factors=8)
    before = backbone.item_vectors().clone()
    encoder = load_encoder(EncoderConfig(name=str(save_tiny_encoder(tmp_path)), tune=1))
    recommender = EXAMPLE.with_language_model(split, backbone, encoder, tiny_language_model(), samples=8)
    candidates = np.array([5, 1, 30])
    ranking = recommender.rank([Query(split.test_history(0))], [candidates])[0]
    assert sorted(ranking.items.tolist()) == [1, 5, 30]
    assert torch.equal(backbone.item_vectors(), before)
