"""A package of somebody else's, installed beside ours, adds a backbone, a source and a system, and is used by commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from allmrec.cf.registry import BACKBONES, BackboneKind
from allmrec.core.errors import ConfigError
from allmrec.core.registry import Registry

PLUGIN = """
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import nn

from allmrec.cf import BackboneKind, SequenceBackbone
from allmrec.core.config import Config
from allmrec.data.sources import RawData, Source
from allmrec.data.sources.base import RawInteractions
from allmrec.ranking import rank_each
from allmrec.store.stages import StageResult
from allmrec.systems.kinds import Settings
from allmrec.systems.trained import trained_system


class MeanConfig(Config):
    dim: int = 8
    max_history: int = 8


class Mean(SequenceBackbone):
    def __init__(self, n_items: int, config: MeanConfig) -> None:
        super().__init__(n_items, config.dim, config.max_history)
        self.items = nn.Embedding(n_items + 1, config.dim, padding_idx=0)

    def item_vectors(self):
        return self.items.weight

    def position_vectors(self, histories, users):
        seen = (histories != 0).cumsum(1).clamp(min=1).unsqueeze(-1)
        return self.items(histories).cumsum(1) / seen


def load(arrays, config):
    model = Mean(len(arrays["items.weight"]) - 1, config)
    model.load_state_dict({name: torch.as_tensor(values) for name, values in arrays.items()})
    return model.eval()


BACKBONE = BackboneKind("Mean of history", MeanConfig, lambda n_items, n_users, config: Mean(n_items, config), load)


class PairsConfig(Config):
    path: Path


def read(config: PairsConfig) -> RawData:
    users, items = zip(*(line.split() for line in config.path.read_text().splitlines()))
    return RawData(RawInteractions(pa.array(users), pa.array(items)), None, (config.path,), {})


SOURCE = Source(PairsConfig, read)


class LatestConfig(Config):
    weight: float = Field(2.0, gt=0)


class Latest:
    name = "Latest"

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def rank(self, queries, candidates):
        return rank_each(queries, candidates, lambda history, items: -self._weight * np.abs(items - history[-1]))


SYSTEM = trained_system(
    "latest",
    "items whose number is near the latest one's",
    Settings("latest", LatestConfig),
    lambda run, stage, settings: StageResult({"weight": torch.tensor(settings.weight)}, {}),
    lambda run, weights, settings: Latest(float(weights["weight"])),
)
BROKEN = "no system"
"""

# All verbs in one process, as each would take seconds to start.
COMMANDS = """
import json, sys
from allmrec.cli.main import app
for arguments in json.loads(sys.argv[1]):
    if status := app(arguments, standalone_mode=False):
        sys.exit(status)
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it behind."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "shelf.py").write_text(PLUGIN)
    about = folder / "shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[allmrec.backbones]\nmean = shelf:BACKBONE\n"
        "[allmrec.sources]\npairs = shelf:SOURCE\n"
        "[allmrec.systems]\nlatest = shelf:SYSTEM\nbroken = shelf:BROKEN\nabsent = nowhere:SYSTEM\n"
    )
    return folder


def run_commands(plugin: Path, *commands: list[str | Path]) -> subprocess.CompletedProcess[str]:
    paths = [str(plugin), *(entry for entry in sys.path if entry)]
    text = json.dumps([[str(argument) for argument in command] for command in commands])
    return subprocess.run(
        [sys.executable, "-c", COMMANDS, text],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_three_are_used_from_the_command_line(plugin: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "raw.txt").write_text("".join(f"u{u} i{(u + n) % 40:02}\n" for u in range(60) for n in range(5)))
    data, run = tmp_path / "data", tmp_path / "run"
    done = run_commands(
        plugin,
        ["prepare", "pairs", "--set", f"path={tmp_path / 'raw.txt'}", "-o", data],
        ["pretrain", data, "-o", run, "--recipe", tiny_world.recipe, "--backbone", "mean"],
        ["train", run, "--system", "latest"],
        ["train", run, "--system", "mean"],
        ["evaluate", run],
        ["recommend", run, "--history", "i10,i11", "--k", "3", "--system", "latest", "--json"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert "latest: done" in done.stdout
    assert "reference: there already" in done.stdout, "the run's own CF model is not trained twice"
    rows = {system["key"]: system["name"] for system in json.loads((run / "report.json").read_text())["systems"]}
    assert (rows["backbone"], rows["latest"]) == ("Mean of history", "Latest")
    found = json.loads(done.stdout[done.stdout.rindex("\n{\n") :])["recommendations"]
    assert found[0]["item_id"] == "i12"
    assert {item["item_id"] for item in found[1:]} == {"i09", "i13"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "The package shelf adds 'broken' to allmrec.systems: shelf:BROKEN is a str; expected a SystemKind."),
        ("absent", "The package shelf adds 'absent' to allmrec.systems, and nowhere:SYSTEM cannot be imported"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_package(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    from allmrec.systems.registry import SYSTEMS  # imports everything, which the other tests do without

    monkeypatch.syspath_prepend(plugin)
    assert name in SYSTEMS
    with pytest.raises(ConfigError, match=message):
        SYSTEMS[name]


def test_a_name_that_is_ours_is_refused_and_others_stay(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = BACKBONES["sasrec"]
    table = Registry("allmrec.backbones", BackboneKind, {"mean": own, "sasrec": own})
    assert table["mean"] is own
    monkeypatch.syspath_prepend(plugin)
    assert list(table) == ["mean", "sasrec"]
    assert table.outside == []
    assert table["sasrec"] is own
    with pytest.raises(
        ConfigError, match=r"The package shelf adds 'mean' to allmrec\.backbones, and allmrec has that name"
    ):
        table["mean"]
    assert list(BACKBONES)[-1] == "mean"
    assert BACKBONES["mean"].title == "Mean of history"
