"""AdamW by rows, against AdamW on the rows alone, and against torch's own lazy Adam."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from allmrec.core.optimizers import RowAdamW, clip_norm


def sparse(rows: list[int], values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, shape, check_invariants=True)


def test_where_every_row_has_a_gradient_it_is_adamw() -> None:
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(6, 3, generator=rng)
    ours, plain, other = nn.Parameter(start.clone()), nn.Parameter(start.clone()), nn.Parameter(torch.ones(2))
    settings = {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.05}
    by_rows, dense = RowAdamW([ours, other], **settings), torch.optim.AdamW([plain], **settings)
    for _ in range(5):
        gradient = torch.randn(6, 3, generator=rng)
        ours.grad, plain.grad = sparse([3, 1, 0, 2, 5, 4], gradient[[3, 1, 0, 2, 5, 4]], start.shape), gradient.clone()
        other.grad = torch.ones(2)
        by_rows.step()
        dense.step()
    torch.testing.assert_close(ours, plain)
    # Beside a sparse one a dense one is moved as ever.
    assert (other < 1).all()


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6))
def test_it_is_torchs_lazy_adam(steps: list[list[int]]) -> None:
    rng = torch.Generator().manual_seed(1)
    start = torch.randn(5, 2, generator=rng)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    by_rows = RowAdamW([ours], lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
    lazy = torch.optim.SparseAdam([theirs], lr=0.1, betas=(0.9, 0.99))
    seen: set[int] = set()
    for rows in steps:
        values = torch.randn(len(rows), 2, generator=rng)
        ours.grad, theirs.grad = (sparse(rows, values, start.shape) for _ in range(2))
        by_rows.step()
        lazy.step()
        seen |= set(rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    unseen = [row for row in range(5) if row not in seen]
    assert torch.equal(ours[unseen], start[unseen])


@pytest.mark.parametrize("fused", [False, True])
def test_a_state_that_was_written_goes_on(fused: bool) -> None:
    def made(weights: torch.Tensor) -> tuple[nn.Parameter, RowAdamW]:
        parameter = nn.Parameter(weights.clone())
        return parameter, RowAdamW([parameter], lr=0.1, fused=fused)

    def moved(parameter: nn.Parameter, optimizer: RowAdamW, row: int) -> None:
        parameter.grad = sparse([row], torch.ones(1, 2), parameter.shape)
        optimizer.step()

    whole, optimizer = made(torch.zeros(4, 2))
    for row in (1, 2, 1):
        moved(whole, optimizer, row)
    first, before = made(torch.zeros(4, 2))
    moved(first, before, 1)
    again, after = made(first.detach())
    after.load_state_dict(before.state_dict())
    for row in (2, 1):
        moved(again, after, row)
    assert torch.equal(whole, again)


def test_sparse_and_dense_gradients_are_clipped_together() -> None:
    table, weight = nn.Parameter(torch.zeros(5, 2)), nn.Parameter(torch.zeros(3))
    same = [nn.Parameter(torch.zeros(5, 2)), nn.Parameter(torch.zeros(3))]
    looked_up = torch.tensor([4, 1, 4])
    for one, other, by_rows in ((table, weight, True), (*same, False)):
        (F.embedding(looked_up, one, sparse=by_rows).sum() * 3 + other.sum() * 2).backward()
    clip_norm([table, weight], 1.0)
    nn.utils.clip_grad_norm_(same, 1.0)
    assert table.grad is not None
    assert table.grad.is_sparse
    torch.testing.assert_close(table.grad.to_dense(), same[0].grad)
    torch.testing.assert_close(weight.grad, same[1].grad)
