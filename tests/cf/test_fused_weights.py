"""Weights of two models, of rarity and of emphasis: the best on validation, and for rare items as far as they may go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf import SASRec, SASRecConfig
from allmrec.cf.fused import FusedBackbone, emphasis, rarity
from allmrec.cf.fused_weights import FusedConfig, Tried, _Scores, best_within, fit_weights
from allmrec.cf.validation import ValidationSample
from allmrec.data.batching import SequenceBatch
from allmrec.data.cold_items import cold_and_warm_items
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.testing.worlds import taste_world


def test_the_best_for_rare_targets_within_what_may_be_given_up() -> None:
    """The smallest weights of equals."""
    tried = [
        Tried(0.0, 0.0, 1.0, 0.1),
        Tried(0.1, 0.0, 0.99, 0.2),
        Tried(0.1, 1.0, 0.99, 0.2),
        Tried(0.5, 2.0, 0.9, 0.3),
        Tried(1.0, 4.0, 0.5, 0.9),
    ]
    assert best_within(tried, 0.0) == tried[0]
    assert best_within(tried, 0.02) == tried[1]
    assert best_within(tried, 0.1) == tried[3]
    assert best_within(tried, 0.9) == tried[4]


@torch.no_grad()
@pytest.mark.parametrize("users", [7, 5000])
@pytest.mark.parametrize(
    ("share", "weight", "more"), [(0.3, 0.0, 0.0), (0.5, 0.2, 2.0), (1.0, 0.0, 6.0), (0.0, 1.0, 0.0)]
)
def test_figures_are_those_of_the_joined_vectors(users: int, share: float, weight: float, more: float) -> None:
    data, _ = uneven_world()
    split, counts = leave_one_out(data), leave_one_out(data).train_counts()
    parts = []
    for dim in (4, 6):
        torch.manual_seed(dim)
        parts.append(SASRec(data.n_items, SASRecConfig(dim=dim, max_history=6)).eval())
    scores = _Scores((parts[0], parts[1]), split, FusedConfig(validation_users=users), 3)
    ((found, rare),) = scores.figures([(share, weight, more)], lambda n: None)
    weights = ((1 - share) * scores.scales[0], share * scores.scales[1])
    fused = FusedBackbone(parts, weights, rarity(counts, weight), emphasis(counts, more))
    sample = ValidationSample(split, users, None, 6, 3)
    x, E = sample.user_vectors(fused), fused.item_vectors()
    assert found == pytest.approx(sample.figures(x, E)["ndcg@10"], abs=0.02 if users == 7 else 2e-3)
    cold, _ = cold_and_warm_items(split, 0.35)
    gains = []
    for row, (vector, target) in enumerate(zip(x, sample.targets, strict=True)):
        if not cold[target]:
            continue
        user = int(sample.batch.users[row])
        scored = E @ vector
        others = np.setdiff1d(np.arange(1, data.n_items + 1), [*split.validation_history(user), target])
        rank = int((scored[others] >= scored[target]).sum())
        gains.append(1 / np.log2(rank + 2) if rank < 100 else 0.0)
    assert rare == pytest.approx(np.mean(gains) if gains else 0.0, abs=2e-3)


def uneven_world() -> tuple[InteractionDataset, np.ndarray]:
    """Ten tastes of 12 items each, the first of which has thirty times the users of the last; and each item number's taste."""
    rng, sequences = np.random.default_rng(0), {}
    for taste in range(10):
        for user in range(int(90 * 0.68**taste) + 1):
            sequences[f"u{taste}-{user}"] = [f"i{taste * 12 + n}" for n in rng.permutation(12)[:8]]
    data = InteractionDataset.from_sequences(sequences, items=[f"i{n}" for n in range(120)])
    return data, np.array([0, *(int(data.items.ids[n - 1][1:]) // 12 for n in range(1, 121))])


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_rarity_is_weighed_on_validation_and_rare_items_gain_as_far_as_they_may(bias: float) -> None:
    """Where both models score frequent items too high by a number times log(1 + count), that is what is taken off."""
    data, tastes = uneven_world()
    split = leave_one_out(data)

    class Biased(Knows):
        dim = 11

        def item_vectors(self) -> torch.Tensor:
            return torch.cat([self._table, -bias * rarity(split.train_counts(), 1.0)[:, None]], dim=1)

        def user_vectors(self, batch: SequenceBatch) -> torch.Tensor:
            return torch.cat([super().user_vectors(batch), torch.ones(len(batch.users), 1)], dim=1)

    parts = (Biased(tastes, 0, 1.0), Biased(tastes, 1, 1.0))
    least, most = (fit_weights(parts, split, FusedConfig(for_rare_items=share), 0).chosen for share in (0.0, 0.3))
    tried = fit_weights(parts, split, FusedConfig(), 0).tried
    best = max(one.ndcg for one in tried)
    assert least.ndcg == best
    assert most.ndcg >= 0.7 * best
    assert most.rare_ndcg == max(one.rare_ndcg for one in tried if one.ndcg >= 0.7 * best)
    if bias:
        assert least.rarity > 0
        assert best > 1.2 * max(one.ndcg for one in tried if one.rarity == 0)


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
    found = fit_weights((even, odd), split, FusedConfig(), 0)
    both = max(found.by_share.values())
    assert both > 1.5 * max(found.by_share["0.0"], found.by_share["1.0"])
    # Scores of a hundred times the size do not drown the others.
    assert 30 < found.parts[0] / found.parts[1] < 300
    nothing = Knows(np.zeros(121, dtype=np.int64), 0, 1.0)
    first, second = fit_weights((even, nothing), split, FusedConfig(), 0).parts
    assert first > 0
    assert second >= 0
