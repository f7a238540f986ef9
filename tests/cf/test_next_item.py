"""The loss over a batch: the fast way's values and gradients are those of one plain pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from allmrec.cf import PretrainConfig, SequenceBackbone, TrainingBatch, backbone_kind
from allmrec.cf.next_item import NextItemLoss
from allmrec.core.seeding import seeded_torch

N_ITEMS, USERS = 60, 32


def backbone_of(name: str, dropout: float = 0.0, loss: str | None = None) -> SequenceBackbone:
    model = {"dim": 8, "max_history": 16, "dropout": dropout}
    if loss is not None:
        model["objective"] = {"loss": loss, "negatives": 5}
    config = PretrainConfig.model_validate({"backbone": name, "model": model})
    with seeded_torch(0, name):
        backbone = backbone_kind(name).build(N_ITEMS, USERS, config.model)
    backbone.trained_on(np.arange(USERS))
    return backbone


def batch_for(backbone: SequenceBackbone) -> TrainingBatch:
    """Rows of very different lengths, as real ones are."""
    rng = np.random.default_rng(0)
    lengths = rng.choice([1, 2, 3, 9, 16], USERS)
    real = np.arange(16) >= 16 - lengths[:, None]
    histories, targets, negatives = (rng.integers(1, N_ITEMS + 1, (USERS, 16)) * real for _ in range(3))
    if backbone.objective.negatives is not None:
        negatives = rng.integers(1, N_ITEMS + 1, (USERS, backbone.objective.negatives))
    return TrainingBatch(rng.permutation(USERS), histories, targets, negatives)


def plain(backbone: SequenceBackbone, batch: TrainingBatch) -> Tensor:
    """One pass over the batch as it is, the whole table of items, one position after another."""
    E = backbone.item_vectors()
    states = backbone.position_vectors(torch.from_numpy(batch.histories), torch.from_numpy(batch.users))
    positive, against = [], []
    for row, column in zip(*np.nonzero(batch.targets), strict=True):
        state = states[row, column]
        positive.append(state @ E[batch.targets[row, column]])
        own = backbone.objective.negatives is None
        against.append(E[batch.negatives[row, column : column + 1] if own else batch.negatives[row]] @ state)
    return backbone.objective(torch.stack(positive), torch.stack(against))


def gradients(backbone: SequenceBackbone, loss: Tensor) -> dict[str, Tensor]:
    backbone.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


CASES = [
    ("sasrec", None),
    ("gru4rec", None),
    ("gru4rec", "top1"),
    ("nextitnet", None),
    ("nextitnet", "bpr"),
    ("ncf", None),
]


@pytest.mark.parametrize(("name", "loss"), CASES)
@pytest.mark.parametrize("worth", [1, 20, 10**9])
def test_values_and_gradients_are_those_of_a_plain_pass(name: str, loss: str | None, worth: int) -> None:
    backbone = backbone_of(name, loss=loss)
    batch = batch_for(backbone)
    fast = NextItemLoss(backbone, worth)
    assert (len(fast.groups(batch)) > 2) == (worth < 10**9)
    wanted, found = plain(backbone, batch), fast.of(batch)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    expected = gradients(backbone, wanted)
    computed = gradients(backbone, found)
    assert set(computed) == set(expected)
    for parameter, gradient in computed.items():
        torch.testing.assert_close(gradient, expected[parameter], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_a_sparse_gradient_is_the_dense_one_and_has_the_rows_of_the_batch(name: str, loss: str | None) -> None:
    backbone = backbone_of(name, loss=loss)
    batch = batch_for(backbone)
    wanted = gradients(backbone, NextItemLoss(backbone).of(batch))
    found = gradients(backbone, NextItemLoss(backbone, by_rows=True).of(batch))
    table = str(backbone.item_table)
    assert [one for one, gradient in found.items() if gradient.is_sparse] == [table]
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient.to_dense(), wanted[parameter], atol=1e-6, rtol=1e-4)
    looked_at = {0, *batch.histories.flat, *batch.targets.flat, *batch.negatives.flat}
    assert set(found[table].coalesce().indices()[0].tolist()) <= looked_at


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("name", ["sasrec", "ncf"])
def test_competing_items_are_those_of_the_small_table(
    name: str, by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of(name, loss="softmax")
    batch = batch_for(backbone)
    rng = np.random.default_rng(1)
    competing = np.unique(np.concatenate([batch.targets[batch.targets > 0], rng.integers(1, N_ITEMS + 1, 10)]))[:-1]
    batch = replace(batch, targets=np.where(np.isin(batch.targets, competing), batch.targets, 0))
    batch = replace(batch, competing=competing, offsets=rng.normal(size=len(competing)).astype(np.float32))
    loss = NextItemLoss(backbone, by_rows=by_rows)
    found = gradients(backbone, loss.of(batch))
    monkeypatch.setattr(type(backbone), "item_table", None)  # the whole table, looked up as it is
    wanted = gradients(backbone, NextItemLoss(backbone).of(batch))
    assert set(found) == set(wanted)
    for parameter, gradient in found.items():
        assert gradient.is_sparse == (by_rows and parameter == "item_emb.weight")
        torch.testing.assert_close(gradient.to_dense(), wanted[parameter], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["sasrec", "ncf"])
def test_without_a_table_named_it_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of(name)
    batch = batch_for(backbone)
    wanted = gradients(backbone, NextItemLoss(backbone).of(batch))
    monkeypatch.setattr(type(backbone), "item_table", None)
    for parameter, gradient in gradients(backbone, NextItemLoss(backbone).of(batch)).items():
        torch.testing.assert_close(gradient, wanted[parameter], atol=1e-6, rtol=1e-4)


def test_the_backbones_own_table_is_back_in_its_place() -> None:
    backbone = backbone_of("sasrec", dropout=0.5)
    table = backbone.item_vectors()
    NextItemLoss(backbone).of(batch_for(backbone)).backward()
    assert backbone.item_vectors() is table
    assert table.shape == (N_ITEMS + 1, 8)
    assert not table.grad[0].any()
