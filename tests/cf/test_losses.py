"""Losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from allmrec.cf import binary_cross_entropy


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
