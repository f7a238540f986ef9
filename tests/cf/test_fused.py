"""Two models as one: scores add up, weights are the best on validation, new items come in by their texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf import SASRec, SASRecConfig
from allmrec.cf.fused import FusedBackbone, FusedConfig, fit_weights, rarity
from allmrec.cf.text_items import of_texts
from allmrec.core.errors import ConfigError
from allmrec.data.batching import SequenceBatch
from allmrec.data.interactions import InteractionDataset
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


def uneven_world() -> tuple[InteractionDataset, np.ndarray]:
    """Ten tastes of 12 items each, the first of which has thirty times the users of the last; and each item number's taste."""
    rng, sequences = np.random.default_rng(0), {}
    for taste in range(10):
        for user in range(int(90 * 0.68**taste) + 1):
            sequences[f"u{taste}-{user}"] = [f"i{taste * 12 + n}" for n in rng.permutation(12)[:8]]
    data = InteractionDataset.from_sequences(sequences, items=[f"i{n}" for n in range(120)])
    return data, np.array([0, *(int(data.items.ids[n - 1][1:]) // 12 for n in range(1, 121))])


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_rarity_is_weighed_on_validation_and_raised_as_far_as_it_may(bias: float) -> None:
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
    least, most = (fit_weights(parts, split, FusedConfig(for_rare_items=share), 0) for share in (0.0, 0.3))
    best = max(least.by_rarity.values())
    assert least.by_rarity[str(least.rarity)] == best
    assert most.rarity >= least.rarity
    assert most.by_rarity[str(most.rarity)] >= 0.7 * best
    assert all(value < 0.7 * best for tried, value in most.by_rarity.items() if float(tried) > most.rarity)
    if bias:
        assert least.rarity > 0
        assert best > 1.2 * least.by_rarity["0.0"]


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
