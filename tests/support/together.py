"""What tests of several processes share: settings under which their weights must be one process's, and the comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from kills import TRAINED, World, make_world

from allmrec.core.artifacts import read_tensors

__all__ = ["EQUAL", "all_weights", "assert_same", "assert_same_logs", "changes", "world_without_dropout"]

# Dropout draws per process, so without it everything must agree. Rows per batch and users per process come out uneven:
# 24 users in batches of 7, queries in batches of 5.
EQUAL = {
    "pretrain.model.dropout": "0.0",
    "pretrain.training.batch_size": "7",
    "pretrain.training.epochs": "4",
    "pretrain.training.accumulation": "2",
    "pretrain.training.clip_norm": "0.5",
    "align.training.batch_size": "7",
    "align.training.epochs": "2",
    "tune.training.batch_size": "5",
    "tune.training.epochs": "2",
}

ATOL, RTOL = 1e-5, 1e-3

# What shifts all keys alike moves all of a query's scores alike, and the softmax does not see it: the gradient is nothing
# but rounding error, which Adam scales up to steps of the usual size.
UNSEEN = ("key.bias", "key_norm.bias")


def world_without_dropout(folder: Path) -> World:
    """A tiny world; the encoder's own dropout is a setting of the model, not of ours."""
    made = make_world(folder)
    config = made.recipe.parent / "encoder" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    return made


def changes(settings: Mapping[str, str]) -> list[str]:
    """Settings as the command takes them."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def all_weights(run: Path, stages: Sequence[str] = TRAINED) -> dict[str, torch.Tensor]:
    """What these stages have trained, by stage, file and name."""
    return {
        f"{stage}/{file.stem}/{name}": tensor
        for stage in stages
        for file in sorted((run / stage).glob("*.safetensors"))
        for name, tensor in read_tensors(file).items()
    }


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Equal but for rounding."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        mine, theirs = found[name], tensor
        if name.endswith(UNSEEN):
            continue
        if name.endswith("in_proj_bias"):  # of queries, keys and values
            mine, theirs = (torch.stack(t.chunk(3))[[0, 2]] for t in (mine, theirs))
        torch.testing.assert_close(mine, theirs, atol=ATOL, rtol=RTOL, msg=lambda text, name=name: f"{name}: {text}")


def assert_same_logs(run: Path, other: Path, stage: str) -> None:
    """As many steps, and the same losses and figures at each validation."""
    mine, theirs = (json.loads((place / stage / "log.json").read_text()) for place in (run, other))
    assert mine["steps"] == theirs["steps"]
    assert len(mine["records"]) == len(theirs["records"])
    for one, two in zip(mine["records"], theirs["records"], strict=True):
        assert one == pytest.approx(two, rel=1e-2, abs=1e-3)
