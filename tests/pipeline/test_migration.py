"""Runs of an earlier format: read, current and used as they are, without a file of theirs being touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from allmrec.core.errors import ArtifactError
from allmrec.pipeline import migration
from allmrec.pipeline.migration import ADDED, FORMAT_VERSION, Added, downgraded, upgraded
from allmrec.pipeline.run import Run
from allmrec.pipeline.stages import Stage
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import save_tiny_language_model

# A run that commit c0faa56 trained, which wrote format 1: taste_world(users=12, tastes=2, items_per_taste=14, length=6)
# and the two models below, in a folder of which `encoder` and `language model` are relative names.
FORMAT_1 = Path(__file__).parent / "data" / "format-1"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old run with the models that it names."""
    monkeypatch.chdir(tmp_path)
    save_tiny_language_model(Path("language model"), "opt", width=8, layers=1)
    save_tiny_encoder(Path("encoder"), width=8, layers=1)
    return Path(shutil.copytree(FORMAT_1, tmp_path / "run"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_format_1_is_current_and_recommends_what_it_did(run: Path) -> None:
    before = content(run)
    opened = Run.open(run)
    recorded = json.loads(FORMAT_1.with_name("format-1-recommended.json").read_text())
    recommender = opened.recommender()
    for user, wanted in recorded.items():
        found = recommender.recommend(user=user, k=5)
        assert [item.item_id for item in found] == [item for item, _ in wanted]
        assert [item.score for item in found] == pytest.approx([score for _, score in wanted], abs=1e-3)
    assert content(run) == before

    heard: list[str] = []
    opened.train(heard.append)
    there = "there already, made of the same inputs"
    assert heard == [f"{stage}: {there}" for stage in ("pretrain", "reference", "align", "tune")]
    assert {name: data for name, data in content(run).items() if name != ".lock"} == before


def test_a_stage_of_format_1_is_stale_when_its_own_settings_change(run: Path) -> None:
    opened = Run.open(run)
    changed = Run(run, opened.dataset, opened.config.changed({"align.training.epochs": 3}))
    with pytest.raises(ArtifactError, match=r"align was made of other inputs .*run\.json"):
        changed.joint()
    changed.backbone()


def test_an_old_parent_that_was_trained_again_leaves_its_children_current(run: Path) -> None:
    """The keys of two formats stand beside one another: `pretrain` has today's, `align` names the old one."""
    opened = Run.open(run)
    (run / "pretrain" / "weights.safetensors").unlink()
    heard: list[str] = []
    opened.train(heard.append)
    assert [line.split(" in ")[0] for line in heard][1:] == [
        "pretrain: done",
        *(f"{stage}: there already, made of the same inputs" for stage in ("reference", "align", "tune")),
    ]
    assert json.loads((run / "pretrain" / "manifest.json").read_text())["format"] == FORMAT_VERSION
    assert json.loads((run / "align" / "manifest.json").read_text())["format"] == 1


def test_what_is_written_anew_names_todays_format(run: Path) -> None:
    opened = Run.open(run)
    again = Run.create(run, opened.dataset, opened.config)
    assert json.loads((run / "run.json").read_text())["format"] == FORMAT_VERSION
    assert Run.open(run).config == again.config == opened.config


def test_a_newer_run_says_so(run: Path) -> None:
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"format": FORMAT_VERSION + 1}))
    with pytest.raises(ArtifactError, match=rf"run\.json has format {FORMAT_VERSION + 1}; .* Update allmrec"):
        Run.open(run)


def paths(config: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from paths(value, f"{parent}{name}.")
        else:
            yield parent + name


def test_every_field_is_in_the_old_config_or_in_the_table() -> None:
    old = set(paths(json.loads((FORMAT_1 / "run.json").read_text())["config"]))
    today = set(paths(Run.open(FORMAT_1).config.model_dump(mode="json")))
    listed = {added.path for additions in ADDED.values() for added in additions}
    unknown = sorted(
        path for path in today - old if not any(path == name or path.startswith(f"{name}.") for name in listed)
    )
    assert not unknown, (
        f"{', '.join(unknown)}: not in format 1's config and not in pipeline/migration.py. Enter each in ADDED with the "
        "value that does what was done before the field existed, or every run of that format goes stale."
    )
    gone = sorted(old - today)
    assert not gone, f"{', '.join(gone)}: in format 1's config and no field today, so old runs cannot be read."


TABLE = {
    2: (
        Added("tune.share", 0.0),
        Added("pretrain.model.gate", "off", backbone="sasrec"),
        Added("retrieve", {"by": "cf"}),
    ),
    3: (Added("align.margin", None),),
}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "ADDED", TABLE)


@pytest.mark.usefixtures("table")
def test_an_old_config_gains_what_was_done_then_and_keeps_what_it_says() -> None:
    old = {"tune": {"epochs": 3}, "pretrain": {"backbone": "sasrec", "model": {"width": 8}}, "align": {}}
    assert upgraded(old, 1) == {
        "tune": {"epochs": 3, "share": 0.0},
        "pretrain": {"backbone": "sasrec", "model": {"width": 8, "gate": "off"}},
        "align": {"margin": None},
        "retrieve": {"by": "cf"},
    }
    assert upgraded(old, 2) == old | {"align": {"margin": None}}
    assert upgraded(old, 3) == old
    assert upgraded({"tune": {"share": 0.5}}, 1)["tune"] == {"share": 0.5}
    # Another CF model has no such field, and a group that is missing is not made up.
    other = {"pretrain": {"backbone": "mine", "model": {"width": 8}}}
    assert upgraded(other, 1) == other | {"retrieve": {"by": "cf"}}


@pytest.mark.usefixtures("table")
def test_a_stages_config_as_an_older_format_wrote_it() -> None:
    assert downgraded({"epochs": 3, "share": 0.0}, "tune", 1) == {"epochs": 3}
    assert downgraded({"epochs": 3, "share": 0.0}, "tune", 2) == {"epochs": 3, "share": 0.0}
    assert downgraded({"epochs": 3, "share": 0.1}, "tune", 1) is None
    sasrec = {"backbone": "sasrec", "model": {"width": 8, "gate": "off"}}
    assert downgraded(sasrec, "pretrain", 1) == {"backbone": "sasrec", "model": {"width": 8}}
    mine = {"backbone": "mine", "model": {"width": 8, "gate": "wide"}}
    assert downgraded(mine, "pretrain", 1) == mine
    whole = {"align": {"width": 8, "margin": None}, "encoder": {"name": "x"}}
    assert downgraded(whole, "", 2) == {"align": {"width": 8}, "encoder": {"name": "x"}}


@pytest.mark.usefixtures("table")
def test_a_key_of_an_older_format_is_that_of_the_config_it_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Stage("align", {"align": {"width": 8, "margin": None}}, {"seed": "0"})
    child = Stage("tune", {"epochs": 3, "share": 0.0}, {"seed": "0"}, {"align": parent}, "tune")
    before = Stage("align", {"align": {"width": 8}}, {"seed": "0"})
    after = Stage("tune", {"epochs": 3}, {"seed": "0"}, {"align": before}, "tune")
    assert child.key != child.key_in(1)
    # Without anything to add, a key of format 1 is the hash of just what stands there.
    monkeypatch.setattr(migration, "ADDED", {})
    assert after.key_in(1) == _hash_of_format_1(after, {"seed": "0", "align": _hash_of_format_1(before, {"seed": "0"})})
    monkeypatch.setattr(migration, "ADDED", TABLE)
    assert child.key_in(1) == _hash_of_format_1(after, {"seed": "0", "align": _hash_of_format_1(before, {"seed": "0"})})
    # Nothing of the old format says what this one says, nor what a child of it says.
    other = Stage("align", {"align": {"width": 8, "margin": 1.0}}, {"seed": "0"})
    assert other.key_in(1) is None
    assert Stage("tune", {"epochs": 3, "share": 0.0}, {}, {"align": other}, "tune").key_in(1) is None


def _hash_of_format_1(stage: Stage, inputs: Mapping[str, str]) -> str:
    """The line of code that format 1 had."""
    from allmrec.core.artifacts import content_hash

    parts = {"format": 1, "name": stage.name, "config": stage.config, "inputs": inputs}
    return content_hash(json.dumps(parts, sort_keys=True))
