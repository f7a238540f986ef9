"""Cross-entropy over the catalogue: in pieces as in one, and over a sample nearly the whole one's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from allmrec.cf import GRU4Rec, GRU4RecConfig, NextItNet, NextItNetConfig, Objective, SASRec, SASRecConfig
from allmrec.cf.catalogue_softmax import catalogue_softmax
from allmrec.cf.next_item import NextItemLoss
from allmrec.cf.pretrain import PretrainConfig, SequenceTask
from allmrec.cf.samples import CompetingSampler
from allmrec.data.splitting import leave_one_out
from allmrec.testing.worlds import taste_world


@pytest.mark.parametrize("piece", [1, 70, 10**6])
@pytest.mark.parametrize("corrected", [False, True])
def test_pieces_equal_torchs_cross_entropy(piece: int, corrected: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    states, items = (torch.randn(n, 6, generator=draw, dtype=torch.float64, requires_grad=True) for n in (13, 35))
    targets = torch.randint(0, 35, (13,), generator=draw)
    offsets = torch.randn(35, generator=draw, dtype=torch.float64) if corrected else None
    found = catalogue_softmax(states, items, targets, offsets, piece)
    logits = states @ items.T
    wanted = F.cross_entropy(logits if offsets is None else logits + offsets, targets)
    torch.testing.assert_close(found, wanted)
    ours, theirs = (torch.autograd.grad(3 * loss, (states, items)) for loss in (found, wanted))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_products_in_bfloat16_change_the_loss_and_its_gradients_by_rounding() -> None:
    draw = torch.Generator().manual_seed(0)
    states, items = (F.normalize(torch.randn(n, 32, generator=draw), dim=1) / 0.07**0.5 for n in (60, 500))
    states, items = states.requires_grad_(), items.requires_grad_()
    targets = torch.randint(0, 500, (60,), generator=draw)
    offsets = torch.randn(500, generator=draw)
    for piece in (1, 4000, 10**6):
        found, wanted = (
            catalogue_softmax(states, items, targets, offsets, piece, products) for products in (torch.bfloat16, None)
        )
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=0)
        ours, theirs = (torch.autograd.grad(loss, (states, items)) for loss in (found, wanted))
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == torch.float32
            assert 0 < (one - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_backbone_s_objective_says_what_the_products_are_computed_in(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allmrec.cf.next_item.precision_here", lambda device: precision)
    split = leave_one_out(taste_world(users=30, tastes=4, items_per_taste=10))
    losses = []
    for asked in ("auto", "float32"):
        objective = Objective(loss="softmax", similarity="cosine", temperature=0.1, precision=asked)
        torch.manual_seed(0)
        backbone = SASRec(40, SASRecConfig(dim=8, max_history=6, objective=objective)).eval()
        batch = SequenceTask(backbone, split, PretrainConfig(validation_negatives=5), seed=0).batches(0)[0]
        losses.append(NextItemLoss(backbone).of(batch))
    assert (losses[0] == losses[1]) == (precision == "float32")
    torch.testing.assert_close(*losses, rtol=1e-2, atol=0)


SOFTMAX = Objective(loss="softmax", similarity="cosine", temperature=0.1)


@pytest.mark.parametrize(
    ("kind", "config"), [(SASRec, SASRecConfig), (GRU4Rec, GRU4RecConfig), (NextItNet, NextItNetConfig)]
)
def test_every_sequence_backbone_can_have_it(kind: type, config: type) -> None:
    """Scores are cosines over the temperature, and the loss is the plain one of these scores."""
    split = leave_one_out(taste_world(users=30, tastes=4, items_per_taste=10))
    torch.manual_seed(0)
    backbone = kind(40, config(dim=8, max_history=6, objective=SOFTMAX)).eval()
    items = backbone.item_vectors()
    assert items[0].norm() == 0
    torch.testing.assert_close(items[1:].norm(dim=1), torch.full((40,), 10**0.5))
    task = SequenceTask(backbone, split, PretrainConfig(validation_negatives=5), seed=0)
    batch = task.batches(0)[0]
    assert batch.negatives.shape[1] == 0
    with torch.no_grad():
        vectors = backbone.position_vectors(torch.from_numpy(batch.histories), torch.from_numpy(batch.users))
        real = torch.from_numpy(batch.targets) != 0
        torch.testing.assert_close(vectors[real].norm(dim=1), torch.full((int(real.sum()),), 10**0.5))
        wanted = F.cross_entropy(vectors[real] @ items[1:].T, torch.from_numpy(batch.targets)[real] - 1)
        torch.testing.assert_close(NextItemLoss(backbone).of(batch), wanted)


def test_a_sample_is_corrected_for_how_it_was_drawn() -> None:
    """Its softmax is the whole catalogue's on average, though the popular are drawn far more often."""
    rng = np.random.default_rng(0)
    counts = np.concatenate([[0], rng.zipf(1.5, 400).clip(max=3000)])
    scores = torch.from_numpy(rng.normal(size=401))
    targets = rng.choice(np.arange(1, 401), 30, p=counts[1:] / counts[1:].sum())
    whole = torch.logsumexp(scores[1:], 0)
    sampler = CompetingSampler(counts, 60)
    totals, plain = [], []
    for _ in range(300):
        # Other targets each time, as from batch to batch.
        others = rng.choice(np.arange(1, 401), 30, p=counts[1:] / counts[1:].sum())
        items, offsets = sampler.draw(others, rng)
        assert set(others.tolist()) <= set(items.tolist())
        assert np.all(np.diff(items) > 0)
        totals.append(torch.exp(scores[items] + torch.from_numpy(offsets)).sum())
        plain.append(torch.exp(scores[items]).sum())
    assert abs(float(torch.stack(totals).mean().log() - whole)) < 0.05
    assert abs(float(torch.stack(plain).mean().log() - whole)) > 0.5
    assert len(targets) == 30


def test_over_a_sample_it_is_learned_too() -> None:
    from allmrec.cf.pretrain import pretrain

    split = leave_one_out(taste_world())
    figures = []
    for objective in ({"exact_below": 10**6}, {"exact_below": 50, "sample": 40}):
        model = {"dim": 16, "max_history": 8, "dropout": 0.1}
        model["objective"] = {"loss": "softmax", "similarity": "cosine", "temperature": 0.1} | objective
        config = PretrainConfig.model_validate(
            {"model": model, "validation_negatives": "all", "training": {"epochs": 25, "learning_rate": 3e-3}}
        )
        figures.append(pretrain(split, config, 0)[1].best_value)
    assert figures[0] > 0.15, figures
    assert figures[1] > 0.8 * figures[0], figures
