"""NextItNet: its receptive field, its convolution against torch's own, a block worked out plainly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from allmrec.cf import NextItNet, NextItNetConfig
from allmrec.cf.nextitnet import _CausalConvolution
from allmrec.core.errors import ArtifactError
from allmrec.core.seeding import seeded_torch


def made(**changes: object) -> NextItNet:
    with seeded_torch(0, "nextitnet"):
        return NextItNet(60, NextItNetConfig(**{"dim": 6, "max_history": 40, "dilations": (1, 4), **changes})).eval()


@torch.no_grad()
@pytest.mark.parametrize(("dilations", "wanted"), [((1,), 7), ((1, 4), 31)])
def test_receptive_field(dilations: tuple[int, ...], wanted: int) -> None:
    # Kernel 3, dilation l: the first convolution reaches 2 l further back and the second, with 2 l, 4 l.
    model = made(dilations=dilations)
    history = torch.arange(1, 41)[None]
    before = model.position_vectors(history)[:, -1]
    for back in range(40):
        changed = history.clone()
        changed[0, 39 - back] = 50
        moved = bool((model.position_vectors(changed)[:, -1] != before).any())
        assert moved == (back < wanted), back


@torch.no_grad()
@pytest.mark.parametrize("dilation", [1, 4])
def test_the_convolution_is_torchs_own(dilation: int) -> None:
    with seeded_torch(0, "convolution"):
        ours = _CausalConvolution(5, 3, dilation)
        hidden = torch.randn(2, 11, 5)
    theirs = torch.nn.Conv1d(5, 5, 3, dilation=dilation)
    # Ours reads the taps behind one another, the oldest first: [out, tap * d + in].
    theirs.weight.copy_(ours.joined.weight.view(5, 3, 5).transpose(1, 2))
    theirs.bias.copy_(ours.joined.bias)
    wanted = theirs(F.pad(hidden.transpose(1, 2), (2 * dilation, 0))).transpose(1, 2)
    torch.testing.assert_close(ours(hidden), wanted)


@torch.no_grad()
def test_one_block_without_padding_is_the_papers() -> None:
    model = made(dilations=(1,))
    block = model.blocks[0]
    items = torch.tensor([[3, 8, 2, 5]])
    E = model.item_vectors()[items]
    inner = F.relu(block.norm1(block.conv1(E)))
    wanted = E + F.relu(block.norm2(block.conv2(inner)))
    torch.testing.assert_close(model.position_vectors(items), wanted)


@torch.no_grad()
def test_padding_stays_zero_and_changes_nothing() -> None:
    model = made()
    for parameter in model.blocks.parameters():
        parameter.add_(0.3)  # norms' and convolutions' biases, which begin at 0, must not leak from padding either
    bare = model.position_vectors(torch.tensor([[3, 8, 2]]))
    padded = model.position_vectors(torch.tensor([[0, 0, 0, 0, 3, 8, 2]]))
    torch.testing.assert_close(padded[:, 4:], bare)
    assert not padded[:, :4].any()


def test_sizes_must_be_those_of_the_weights() -> None:
    assert NextItNetConfig().dim == 50
    assert made().position_vectors(torch.tensor([[1, 2], [0, 3]])).shape == (2, 2, 6)
    with pytest.raises(ArtifactError, match=r"blocks\.2\.conv1\.joined\.weight is missing"):
        NextItNet.from_arrays(made().state_dict(), NextItNetConfig(dim=6, dilations=(1, 4, 1)))
