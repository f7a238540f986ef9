"""Two models as one: scores add up, weights are the best on validation, new items come in by their texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf import SASRec, SASRecConfig
from allmrec.cf.fused import FusedBackbone, FusedConfig, fit_shares
from allmrec.cf.text_items import of_texts
from allmrec.core.errors import ConfigError
from allmrec.data.batching import SequenceBatch
from allmrec.data.splitting import leave_one_out
from allmrec.testing.worlds import taste_world

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


class Knows:
    """Gives the items of every other user's taste a high score, whatever their scale."""

    dim, max_history, n_items = 10, 5, 120

    def __init__(self, tastes: np.ndarray, parity: int, scale: float) -> None:
        self._table = torch.zeros(121, 10)
        self._table[torch.arange(1, 121), torch.from_numpy(tastes[1:])] = scale
        self._parity = parity

    def item_vectors(self) -> torch.Tensor:
        return self._table

    def user_vectors(self, batch: SequenceBatch) -> torch.Tensor:
        taste = self._table[torch.from_numpy(batch.histories[:, -1])].sign()
        return taste * torch.from_numpy((batch.users % 2 == self._parity).astype(np.float32))[:, None]


def test_the_share_is_the_best_on_validation() -> None:
    data = taste_world()
    split = leave_one_out(data)
    tastes = np.zeros(121, dtype=np.int64)
    for user in range(data.n_users):
        tastes[data.sequence(user)] = user % 10
    even, odd = Knows(tastes, 0, 1.0), Knows(tastes, 1, 100.0)
    weights, figures = fit_shares((even, odd), split, FusedConfig(), 0)
    both = float(max(figures.values()))
    assert both > 1.5 * max(figures["0.0"], figures["1.0"])
    # Scores of a hundred times the size do not drown the others.
    assert 30 < weights[0] / weights[1] < 300
    nothing = Knows(np.zeros(121, dtype=np.int64), 0, 1.0)
    (first, second), _ = fit_shares((even, nothing), split, FusedConfig(), 0)
    assert first > 0
    assert second >= 0
