"""Exchanged vectors: the same weights and words, others' vectors in the slots, and the trained ranker is left alone."""

from __future__ import annotations

import numpy as np
import torch
from tests.recommend.conftest import WORLD, queries, ranker

from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.splitting import leave_one_out
from allmrec.testing.exchanged import OthersVectors, exchanged_ranker
from allmrec.testing.tiny_lm import tiny_language_model


def test_each_user_has_the_vector_of_the_other() -> None:
    split, backbone = leave_one_out(WORLD), ranker(tiny_language_model()).backbone
    other = np.roll(np.arange(WORLD.n_users), 1)
    users = np.array([3, 0, 7])

    def batch(chosen: np.ndarray) -> SequenceBatch:
        return SequenceBatch(chosen, left_pad([split.test_history(int(u)) for u in chosen], backbone.max_history))

    strange = OthersVectors(backbone, split, other)
    torch.testing.assert_close(strange.user_vectors(batch(users)), backbone.user_vectors(batch(other[users])))
    assert not torch.allclose(strange.user_vectors(batch(users)), backbone.user_vectors(batch(users)))
    assert torch.equal(strange.item_vectors(), backbone.item_vectors())


def test_items_change_vectors_among_one_another_and_the_own_ranker_stays() -> None:
    own = ranker(tiny_language_model()).eval()
    candidates = [np.array([1, 5, 9, 13])] * 3
    weights = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    before = own.title_likelihoods(queries(3), candidates)
    others = exchanged_ranker(own, leave_one_out(WORLD), numpy_generator(0, "exchanged")).eval()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in others.state_dict().items())
    rows, theirs = own.joint.vectors(), others.joint.vectors()
    assert torch.equal(rows[0], theirs[0])
    assert not torch.equal(rows, theirs)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, theirs.tolist()))
    for a, b, c in zip(
        before,
        own.title_likelihoods(queries(3), candidates),
        others.title_likelihoods(queries(3), candidates),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
        assert not torch.allclose(a, c)
