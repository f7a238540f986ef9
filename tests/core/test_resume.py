"""The resume file: everything comes back, and a damaged or foreign file is named and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from allmrec.core import resume
from allmrec.core.artifacts import write_tensors
from allmrec.core.errors import ArtifactError
from allmrec.core.resume import read_resume, set_aside, write_resume


def model(dim: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    net = nn.Linear(dim, 2)
    return net, torch.optim.AdamW(net.parameters(), lr=0.1)


def trained(dim: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    net, optimizer = model(dim)
    net(torch.ones(4, dim)).square().sum().backward()
    optimizer.step()
    return net, optimizer


def as_it_is(state: dict[str, object]) -> dict[str, object]:
    return state


@pytest.mark.parametrize("with_best", [True, False])
def test_weights_moments_best_and_state_come_back(tmp_path: Path, with_best: bool) -> None:
    net, optimizer = trained()
    best = {"weight": torch.full((2, 3), 7.0), "bias": torch.zeros(2)} if with_best else None
    write_resume(tmp_path / "r", net, optimizer, best, {"step": 1, "figure": float("-inf")})
    other, moments = model()
    state, kept = read_resume(tmp_path / "r", other, moments, as_it_is)
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
    with pytest.raises(ArtifactError, match=r"/r is damaged or no resume state"):
        read_resume(tmp_path / "r", *model(), as_it_is)


def write_foreign(path: Path, tensors: dict[str, torch.Tensor], state: object) -> None:
    """A whole file, its hash right, that the model here did not write."""
    text = json.dumps(state)
    write_tensors(path, tensors, {"state": text, "sha256": resume._hash(text, tensors)})


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.zeros(2, 3)},
        {"module/weight": torch.zeros(2, 3)},
        {"module/weight": torch.zeros(2, 3), "module/bias": torch.zeros(2), "optimizer/x/y": torch.zeros(1)},
        {"module/weight": torch.zeros(2, 3), "module/bias": torch.zeros(2), "optimizer/2/exp_avg": torch.zeros(1)},
        {"module/weight": torch.zeros(2, 3), "module/bias": torch.zeros(2), "optimizer/0/exp_avg": torch.zeros(3, 2)},
        {"module/weight": torch.zeros(2, 3), "module/bias": torch.zeros(2), "best/weight": torch.zeros(2, 3)},
    ],
)
def test_a_foreign_file_is_refused_and_nothing_of_it_is_loaded(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    write_foreign(tmp_path / "r", tensors, {})
    net, optimizer = model()
    before = net.weight.detach().clone()
    with pytest.raises(ArtifactError, match="belongs to another model"):
        read_resume(tmp_path / "r", net, optimizer, as_it_is)
    assert torch.equal(net.weight, before)
    assert not optimizer.state


def test_a_state_that_the_loop_cannot_read_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    write_resume(tmp_path / "r", *trained(), None, {"loops": 3})
    net, optimizer = model()
    before = net.weight.detach().clone()

    def parse(state: dict[str, int]) -> int:
        return state["steps"]

    with pytest.raises(ArtifactError, match=r"belongs to another model or version .*steps"):
        read_resume(tmp_path / "r", net, optimizer, parse)
    assert torch.equal(net.weight, before)


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    write_resume(tmp_path / "r", *trained(dim=5), None, {})
    with pytest.raises(ArtifactError, match="belongs to another model"):
        read_resume(tmp_path / "r", *model(dim=3), as_it_is)


def test_a_state_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    net, optimizer = trained()
    write_foreign(tmp_path / "r", {f"module/{name}": tensor for name, tensor in net.state_dict().items()}, [1])
    with pytest.raises(ArtifactError, match="its state is a list"):
        read_resume(tmp_path / "r", net, optimizer, as_it_is)


@given(data=st.data())
def test_every_turned_bit_is_noticed(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = data.draw(st.integers(0, 8 * len(whole) - 1), label="bit")
    damaged = bytearray(whole)
    damaged[place // 8] ^= 1 << place % 8
    path = tmp_path_factory.getbasetemp() / "turned"
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="turned is damaged or no resume state"):
        read_resume(path, *model(), as_it_is)


@given(data=st.data())
def test_every_cut_is_noticed(data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), label="length")])
    with pytest.raises(ArtifactError, match="cut is damaged or no resume state"):
        read_resume(path, *model(), as_it_is)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A resume file's bytes."""
    net, optimizer = trained()
    path = tmp_path_factory.mktemp("whole") / "r"
    write_resume(path, net, optimizer, net.state_dict(), {"step": 1, "best": 0.5})
    return path.read_bytes()


def test_what_cannot_be_used_is_set_aside_under_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"hours of work, perhaps")
    assert set_aside(tmp_path / "r") == tmp_path / "r.unusable"
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        ("r.unusable", b"hours of work, perhaps")
    ]
