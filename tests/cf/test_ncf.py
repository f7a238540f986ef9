"""NCF: known users and others, towers by hand, what a later stage may ask of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from allmrec.cf import NCF, NCFConfig, PretrainConfig, pretrain
from allmrec.cf.fold_in import least_squares
from allmrec.core.errors import ArtifactError, UnknownIdError
from allmrec.core.seeding import seeded_torch
from allmrec.data import SequenceBatch, leave_one_out, left_pad
from allmrec.testing.worlds import taste_world


@pytest.fixture
def model() -> NCF:
    with seeded_torch(0, "ncf"):
        model = NCF(12, 5, NCFConfig(dim=4, hidden=(6,), max_history=5))
    model.user_trained[:3] = True
    return model.eval()


def vectors(model: NCF, users: list[int], histories: list[list[int]]) -> torch.Tensor:
    padded = left_pad([np.array(history, dtype=np.int64) for history in histories], 6)
    with torch.no_grad():
        return model.user_vectors(SequenceBatch(np.array(users), padded))


@torch.no_grad()
def test_the_score_by_hand(model: NCF) -> None:
    def through(tower: torch.nn.Sequential, vector: torch.Tensor) -> torch.Tensor:
        return tower[2].weight @ F.relu(tower[0].weight @ vector + tower[0].bias) + tower[2].bias

    x = through(model.user_tower, model.user_emb.weight[2])
    E = through(model.item_tower, model.item_emb.weight[7])
    found = vectors(model, [2], [[1, 3]]) @ model.item_vectors()[7]
    torch.testing.assert_close(found[0], x @ E)
    assert not model.item_vectors()[0].any()
    torch.testing.assert_close(model.vectors_of(torch.tensor([[7, 0]])), model.item_vectors()[[7, 0]][None])


def test_a_known_users_vector_has_nothing_to_do_with_the_history(model: NCF) -> None:
    found = vectors(model, [1, 1, 2], [[3, 4], [], [3, 4]])
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_anybody_else_is_folded_in_from_the_most_recent_items(model: NCF) -> None:
    # 3 and 4 are users of the data set that had nothing to train on: their rows of the table are random.
    found = vectors(model, [-1, 3, 4, -1, 0], [[9, 3, 4], [9, 3, 4], [4, 9, 3], [], [9, 3, 4]])
    with torch.no_grad():
        wanted = least_squares(model.item_vectors(), torch.tensor([[9, 3, 4]]), 1.0, 0.1)[0]
    torch.testing.assert_close(found[:3], wanted.expand(3, -1))
    assert not found[3].any()
    assert not torch.allclose(found[4], wanted)
    torch.testing.assert_close(vectors(model, [-1], [[1, 2, 3, 4, 5, 6]]), vectors(model, [-1], [[2, 3, 4, 5, 6]]))


@torch.no_grad()
def test_every_position_is_the_vector_of_what_came_before(model: NCF) -> None:
    found = model.position_vectors(torch.tensor([[0, 9, 3], [0, 9, 3]]), torch.tensor([-1, 1]))
    torch.testing.assert_close(found[0], vectors(model, [-1] * 3, [[], [9], [9, 3]]))
    torch.testing.assert_close(found[1], vectors(model, [1] * 3, [[], [9], [9, 3]]))


def test_a_user_whom_no_table_holds_is_an_error(model: NCF) -> None:
    for user in (5, -2):
        with pytest.raises(UnknownIdError, match=rf"User number {user} came; this model knows users 0 to 4"):
            vectors(model, [user], [[1]])


def test_training_marks_who_was_trained() -> None:
    split = leave_one_out(taste_world(users=20, tastes=4), train_users=np.arange(12))
    training = {"epochs": 1, "batch_size": 8}
    config = PretrainConfig.model_validate({"backbone": "ncf", "model": {"dim": 4}, "training": training})
    backbone, _ = pretrain(split, config, seed=0)
    assert isinstance(backbone, NCF)
    assert backbone.user_trained.tolist() == [True] * 12 + [False] * 8
    assert NCF.from_arrays(backbone.state_dict(), backbone.config).user_trained.sum() == 12


def test_sizes_must_be_those_of_the_weights(model: NCF) -> None:
    assert NCFConfig().dim == 50
    with pytest.raises(ArtifactError, match=r"user_tower\.0\.weight has shape \(6, 4\), expected \(4, 4\)"):
        NCF.from_arrays(model.state_dict(), NCFConfig(dim=4, hidden=()))
    with pytest.raises(ArtifactError, match=r"no user_emb\.weight"):
        NCF.from_arrays({"item_emb.weight": torch.zeros(3, 4)}, NCFConfig(dim=4))
