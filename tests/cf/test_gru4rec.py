"""GRU4Rec: a step worked out by hand, torch's own layer without padding, an order learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf import GRU4Rec, GRU4RecConfig
from allmrec.core.errors import ArtifactError
from allmrec.core.seeding import seeded_torch
from allmrec.data import left_pad


@pytest.fixture
def model() -> GRU4Rec:
    with seeded_torch(0, "gru4rec"):
        return GRU4Rec(20, GRU4RecConfig(dim=6, max_history=9)).eval()


@torch.no_grad()
def test_two_steps_by_hand(model: GRU4Rec) -> None:
    weights = {name.removesuffix("_l0"): tensor for name, tensor in model.gru.state_dict().items()}
    state = torch.zeros(6)
    wanted = []
    for item in (7, 3):
        from_item = (weights["weight_ih"] @ model.item_vectors()[item] + weights["bias_ih"]).view(3, 6)
        from_state = (weights["weight_hh"] @ state + weights["bias_hh"]).view(3, 6)
        reset, update = torch.sigmoid(from_item[:2] + from_state[:2])
        candidate = torch.tanh(from_item[2] + reset * from_state[2])
        state = (1 - update) * candidate + update * state
        wanted.append(state)
    torch.testing.assert_close(model.position_vectors(torch.tensor([[7, 3]]))[0], torch.stack(wanted))


@torch.no_grad()
def test_rows_of_different_lengths_are_what_each_is_alone(model: GRU4Rec) -> None:
    histories = [np.array([], dtype=np.int64), np.array([4]), np.array([9, 2, 11]), np.arange(1, 10)]
    found = model.position_vectors(torch.from_numpy(left_pad(histories, 9)))
    assert found.shape == (4, 9, 6)
    for row, history in enumerate(histories):
        wanted = torch.zeros(9, 6)
        if len(history):
            wanted[9 - len(history) :] = model.gru(model.item_vectors()[torch.from_numpy(history)])[0]
        torch.testing.assert_close(found[row], wanted)


def test_sizes_must_be_those_of_the_weights(model: GRU4Rec) -> None:
    two = GRU4Rec(5, GRU4RecConfig(dim=4, layers=2, dropout=0.5)).eval()
    assert two.position_vectors(torch.tensor([[1, 2]])).shape == (1, 2, 4)
    assert GRU4RecConfig().dim == 50
    with pytest.raises(ArtifactError, match=r"gru\.weight_ih_l1 is missing"):
        GRU4Rec.from_arrays(model.state_dict(), GRU4RecConfig(dim=6, layers=2))
    with pytest.raises(ArtifactError, match=r"no item_emb\.weight"):
        GRU4Rec.from_arrays({}, GRU4RecConfig())


def test_padding_gets_no_gradient(model: GRU4Rec) -> None:
    model.position_vectors(torch.tensor([[0, 0, 3, 4]])).sum().backward()
    assert not model.item_emb.weight.grad[0].any()
    assert model.item_emb.weight.grad[3].any()
