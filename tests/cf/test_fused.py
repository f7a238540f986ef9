"""Two models as one: scores add up, and new items come in by their texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf import SASRec, SASRecConfig
from allmrec.cf.fused import FusedBackbone, emphasis, rarity
from allmrec.cf.text_items import of_texts
from allmrec.core.errors import ConfigError
from allmrec.data.batching import SequenceBatch

BATCH = SequenceBatch(np.array([-1, -1, -1]), np.array([[0, 0, 3], [7, 1, 2], [0, 0, 0]]))


def model(seed: int, dim: int = 4) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(30, SASRecConfig(dim=dim, max_history=5)).eval()


def test_scores_add_up() -> None:
    one, two = model(0), model(1, 6)
    fused = FusedBackbone([one, two], [0.3, 2.0])
    assert (fused.dim, fused.n_items, fused.max_history) == (10, 30, 5)
    with torch.no_grad():
        single = [part.user_vectors(BATCH) @ part.item_vectors().T for part in (one, two)]
        scores = (fused.user_vectors(BATCH) @ fused.item_vectors().T)[:, 1:]
    # To a number a user: each model's mean over the items is taken out.
    added = (0.3 * single[0] + 2 * single[1])[:, 1:]
    torch.testing.assert_close(scores[:2], (added - added.mean(dim=1, keepdim=True))[:2])
    assert (scores[2] == 0).all(), "nothing is known of an empty history"
    with pytest.raises(ConfigError, match="2 models came with 1 weights"):
        FusedBackbone([one, two], [1.0])


def test_new_items_are_known_to_the_texts_alone() -> None:
    texts = torch.randn(31, 8, generator=torch.Generator().manual_seed(0))
    texts[0] = 0
    one, two = model(0), of_texts(model(1), texts).eval()
    fused = FusedBackbone([one, two], [1.0, 1.0])
    wider = fused.with_new_items(texts[[4]])
    items = wider.item_vectors()
    assert (fused.n_items, wider.n_items, len(items)) == (30, 31, 32)
    assert items[31, :4].abs().sum() == 0
    # It changes nothing of the others, so that an index of them stays what it is.
    torch.testing.assert_close(items[:31], fused.item_vectors())
    torch.testing.assert_close(items[31, 4:], items[4, 4:])
    # So its score is the model's mean over the items that it knows.
    torch.testing.assert_close(items[1:31, :4].mean(dim=0), torch.zeros(4))
    # The model of ids reads a history without the item that it does not know.
    with_new = SequenceBatch(np.array([-1]), np.array([[7, 31, 2]]))
    found = wider.user_vectors(with_new)
    with torch.no_grad():
        torch.testing.assert_close(found[:, :4], one.user_vectors(SequenceBatch(np.array([-1]), np.array([[7, 2]]))))
    # Of one with nothing else in it, it has nothing to say.
    assert (wider.user_vectors(SequenceBatch(np.array([-1]), np.array([[0, 31, 31]])))[:, :4] == 0).all()


def test_rarity_takes_the_logarithm_of_an_items_interactions_off() -> None:
    counts = np.array([0, *range(30)])
    rare = rarity(counts, 0.5)
    assert rare[0] == 0
    assert rare[1] == 0
    assert rare[4] == pytest.approx(-0.5 * np.log(4))
    one, two = model(0), model(1, 6)
    plain, fused = FusedBackbone([one, two], [0.3, 2.0]), FusedBackbone([one, two], [0.3, 2.0], rare)
    assert fused.dim == 11
    x, E = fused.user_vectors(BATCH), fused.item_vectors()
    less = ((x @ E.T) - plain.user_vectors(BATCH) @ plain.item_vectors().T)[:, 1:]
    wanted = rare[1:] - rare[1:].mean()
    torch.testing.assert_close(less[:2], torch.stack([wanted, wanted]), rtol=1e-4, atol=1e-4)
    assert (less[2] == 0).all(), "of nobody it says nothing"
    # A new item is as rare as one that nobody interacted with.
    texts = torch.randn(31, 8, generator=torch.Generator().manual_seed(0))
    texts[0] = 0
    wider = FusedBackbone([one, of_texts(model(1), texts).eval()], [1.0, 1.0], rare).with_new_items(texts[[4]])
    assert wider.item_vectors()[31, -1] == wider.item_vectors()[1, -1] == wider.item_vectors()[1:, -1].max()


def test_emphasis_raises_what_the_last_model_says_of_rare_items() -> None:
    counts = np.array([0, *range(30)])
    more = emphasis(counts, 2.0)
    assert more[1] == pytest.approx(3.0)
    assert more[4] == pytest.approx(1 + 2 * np.exp(-1))
    assert more[30] == pytest.approx(1, abs=1e-3)
    one, two = model(0), model(1, 6)
    fused = FusedBackbone([one, two], [0.3, 2.0], emphasis=more)
    plain = FusedBackbone([one, two], [0.3, 2.0]).item_vectors()
    torch.testing.assert_close(fused.item_vectors()[:, :4], plain[:, :4])
    torch.testing.assert_close(fused.item_vectors()[:, 4:], plain[:, 4:] * more[:, None])
    # A new item counts as one that nobody interacted with.
    texts = torch.randn(31, 8, generator=torch.Generator().manual_seed(0))
    texts[0] = 0
    of_one = FusedBackbone([one, of_texts(model(1), texts).eval()], [1.0, 1.0], emphasis=more)
    wider = of_one.with_new_items(texts[[1]]).item_vectors()
    torch.testing.assert_close(wider[31, 4:], wider[1, 4:])
    torch.testing.assert_close(wider[:31], of_one.item_vectors())


def test_vectors_of_later_items_are_those_of_the_whole_table() -> None:
    counts = np.array([0, *range(30)])
    texts = torch.randn(41, 8, generator=torch.Generator().manual_seed(0))
    texts[0] = 0
    known = FusedBackbone(
        [model(0), of_texts(model(1, 6), texts[:31]).eval()], [0.3, 2.0], rarity(counts, 0.5), emphasis(counts, 2.0)
    )
    before = known.item_vectors()
    for count in (1, 10):
        wider = known.with_new_items(texts[31 : 31 + count])
        later = wider.item_vectors_from(31)
        assert len(later) == count
        torch.testing.assert_close(later, wider.item_vectors()[31:])
        torch.testing.assert_close(wider.item_vectors()[:31], before)
        torch.testing.assert_close(wider.item_vectors_from(20), wider.item_vectors()[20:])
    batch = SequenceBatch(np.array([-1]), np.array([[0, 0, 3, 35]]))
    anew = FusedBackbone(wider.parts, known.weights, known.rarity, known.emphasis, 30)
    torch.testing.assert_close(wider.user_vectors(batch), anew.user_vectors(batch))
