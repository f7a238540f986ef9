"""Frozen means frozen: dropout off, weights as they were, absent from what is stored, open to gradients."""

from __future__ import annotations

import torch
from torch import nn

from allmrec.core.frozen import Frozen


class Parent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.frozen = Frozen(inner.train())
        self.own = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.own(self.frozen(x))
        return out


def test_a_parents_train_leaves_it_in_evaluation_mode() -> None:
    parent = Parent().train()
    parent.frozen.train()
    assert parent.own.training
    assert not parent.frozen.training
    assert not any(module.training for module in parent.frozen.module.modules())
    x = torch.randn(8, 4)
    assert torch.equal(parent(x), parent(x))


def test_its_weights_are_neither_stored_nor_trained() -> None:
    parent = Parent()
    assert set(parent.state_dict()) == {"own.weight", "own.bias"}
    assert len(list(parent.parameters())) == 2
    assert not any(weight.requires_grad for weight in parent.frozen.module.parameters())
    parent.load_state_dict(Parent().state_dict())


def test_not_a_byte_changes_while_the_parent_trains() -> None:
    parent = Parent().train()
    before = parent.frozen.snapshot()
    optimizer = torch.optim.AdamW(parent.parameters(), lr=0.1, weight_decay=0.1)
    own = parent.own.weight.detach().clone()
    for _ in range(3):
        parent(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    after = parent.frozen.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(own, parent.own.weight)


def test_gradients_flow_through_it() -> None:
    parent = Parent()
    x = torch.randn(8, 4, requires_grad=True)
    parent(x).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in parent.frozen.module.parameters())


def test_it_moves_with_its_parent() -> None:
    parent = Parent().double()
    assert parent.frozen.module[0].weight.dtype == torch.float64
    assert parent(torch.randn(3, 4, dtype=torch.float64)).dtype == torch.float64


def test_a_snapshot_is_a_copy() -> None:
    frozen = Frozen(nn.Linear(2, 2))
    copy = frozen.snapshot()
    frozen.module.weight.data.zero_()
    assert float(copy["weight"].abs().sum()) > 0
