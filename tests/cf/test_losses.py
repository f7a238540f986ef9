"""Losses by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from allmrec.cf import Objective, binary_cross_entropy
from allmrec.cf.losses import bpr, bpr_max, sampled_softmax, top1


def test_binary_cross_entropy_by_hand() -> None:
    positive, negative = torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 3.0])

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    wanted = -(math.log(sigmoid(0)) + math.log(sigmoid(2))) / 2
    wanted -= (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(3))) / 2
    assert float(binary_cross_entropy(positive, negative)) == pytest.approx(wanted, abs=1e-6)


def test_binary_cross_entropy_is_finite_far_out() -> None:
    far = torch.tensor([1e4])
    assert float(binary_cross_entropy(-far, far)) == pytest.approx(2e4)
    assert float(binary_cross_entropy(far, -far)) == 0


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Two positions with two negatives each.
POSITIVE = [0.5, -1.0]
NEGATIVES = [[0.2, 1.0], [-2.0, 0.3]]


def plain(name: str, regularisation: float = 1.0) -> float:
    """Each loss as its paper writes it, one position and one negative after another."""
    total = 0.0
    for s, others in zip(POSITIVE, NEGATIVES, strict=True):
        weights = [math.exp(n) / sum(math.exp(m) for m in others) for n in others]
        if name == "binary_cross_entropy":
            total += -math.log(sigmoid(s)) - sum(math.log(1 - sigmoid(n)) for n in others) / 2
        elif name == "bpr":
            total += sum(-math.log(sigmoid(s - n)) for n in others) / 2
        elif name == "top1":
            total += sum(sigmoid(n - s) + sigmoid(n**2) for n in others) / 2
        elif name == "bpr_max":
            total -= math.log(sum(w * sigmoid(s - n) for w, n in zip(weights, others, strict=True)))
            total += regularisation * sum(w * n**2 for w, n in zip(weights, others, strict=True))
        else:
            total -= math.log(math.exp(s) / (math.exp(s) + sum(math.exp(n) for n in others)))
    return total / 2


@pytest.mark.parametrize("name", ["binary_cross_entropy", "bpr", "top1", "bpr_max", "sampled_softmax"])
def test_every_loss_equals_its_papers_formula(name: str) -> None:
    found = Objective(loss=name, regularisation=0.4)(torch.tensor(POSITIVE), torch.tensor(NEGATIVES))
    assert float(found) == pytest.approx(plain(name, 0.4), abs=1e-6)


@pytest.mark.parametrize("loss", [bpr, top1, bpr_max, sampled_softmax])
def test_losses_and_gradients_are_finite_far_out(loss: Callable[..., torch.Tensor]) -> None:
    positive = torch.tensor([-80.0, 80.0], requires_grad=True)
    negatives = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)
    found = loss(positive, negatives)
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(positive.grad).all()
    assert torch.isfinite(negatives.grad).all()
