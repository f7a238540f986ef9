"""The resume file: everything comes back, and a damaged or foreign file is named and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from allmrec.core.artifacts import write_tensors
from allmrec.core.errors import ArtifactError
from allmrec.core.resume import read_resume, write_resume


def model(width: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    net = nn.Linear(width, 2)
    return net, torch.optim.AdamW(net.parameters(), lr=0.1)


def trained(width: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    net, optimizer = model(width)
    net(torch.ones(4, width)).square().sum().backward()
    optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("with_best", [True, False])
def test_weights_moments_best_and_state_come_back(tmp_path: Path, with_best: bool) -> None:
    net, optimizer = trained()
    best = {"weight": torch.full((2, 3), 7.0), "bias": torch.zeros(2)} if with_best else None
    write_resume(tmp_path / "r", net, optimizer, best, {"step": 1, "figure": float("-inf")})
    other, moments = model()
    state, kept = read_resume(tmp_path / "r", other, moments)
    assert state == {"step": 1, "figure": float("-inf")}
    assert torch.equal(other.weight, net.weight)
    for mine, theirs in zip(optimizer.state.values(), moments.state.values(), strict=True):
        assert {name: value.tolist() for name, value in mine.items()} == {n: v.tolist() for n, v in theirs.items()}
    if best is None:
        assert kept is None
    else:
        assert kept is not None
        assert {name: tensor.tolist() for name, tensor in kept.items()} == {n: t.tolist() for n, t in best.items()}


def truncated(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def without_state(path: Path) -> None:
    write_tensors(path, {"module/weight": torch.zeros(2, 3)})


def with_unreadable_state(path: Path) -> None:
    write_tensors(path, {"module/weight": torch.zeros(2, 3)}, {"state": "{"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"this is no safetensors file"),
        lambda path: path.unlink(),
        truncated,
        without_state,
        with_unreadable_state,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_resume(tmp_path / "r", *trained(), None, {})
    damage(tmp_path / "r")
    with pytest.raises(ArtifactError, match=r"/r is damaged or no resume state .*Remove .*/r to start this stage anew"):
        read_resume(tmp_path / "r", *model())


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.zeros(2, 3)},
        {"module/weight": torch.zeros(2, 3)},
        {"module/weight": torch.zeros(2, 3), "module/bias": torch.zeros(2), "optimizer/x/y": torch.zeros(1)},
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    write_tensors(tmp_path / "r", tensors, {"state": "{}"})
    with pytest.raises(ArtifactError, match="belongs to another model"):
        read_resume(tmp_path / "r", *model())


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    write_resume(tmp_path / "r", *trained(width=5), None, {})
    with pytest.raises(ArtifactError, match="belongs to another model"):
        read_resume(tmp_path / "r", *model(width=3))


def test_a_state_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    net, optimizer = trained()
    tensors = {f"module/{name}": tensor for name, tensor in net.state_dict().items()}
    write_tensors(tmp_path / "r", tensors, {"state": json.dumps([1])})
    with pytest.raises(ArtifactError, match="its state is a list"):
        read_resume(tmp_path / "r", net, optimizer)
