"""A run on newer data that goes on from an earlier run: what is kept, continued and trained anew, and that keys say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import TinyWorld

import allmrec
from allmrec.core.artifacts import read_json
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data.build import read_table
from allmrec.data.interactions import InteractionDataset
from allmrec.library import Run
from allmrec.pipeline.continuing import continued, earlier_weights
from allmrec.pipeline.start import Start
from allmrec.stages.cf import PRETRAIN, REFERENCE
from allmrec.stages.tune import ALLMREC_STAGES, TUNE
from allmrec.systems.registry import train_systems
from allmrec.systems.variants import open_variant

FUSED = {"tune.prompt.pointer.prior": "fused"}


def rows(data: InteractionDataset) -> dict[str, list[str]]:
    return {data.users.id(user): [data.items.id(int(i)) for i in data.sequence(user)] for user in range(data.n_users)}


def world(data: InteractionDataset, sequences: dict[str, list[str]], more: tuple[str, ...] = ()) -> InteractionDataset:
    """The same catalogue and perhaps more items, numbered the other way round, with other interactions."""
    texts = data.catalogue
    titles = {name: texts.titles[number] for number, name in enumerate(data.items, 1) if texts.titles[number]}
    descriptions = {
        name: texts.descriptions[number] for number, name in enumerate(data.items, 1) if texts.descriptions[number]
    }
    titles |= {name: f"The story of {name}" for name in more}
    return InteractionDataset.from_sequences(
        sequences, titles=titles, descriptions=descriptions, items=[*more, *reversed(list(data.items))]
    )


@pytest.fixture(scope="module")
def before(tiny_world: TinyWorld) -> InteractionDataset:
    return read_table(tiny_world.interactions, tiny_world.items)


@pytest.fixture(scope="module")
def now(before: InteractionDataset) -> InteractionDataset:
    """One more item a user, a new user, a new item."""
    sequences = {
        user: [*items, "fresh" if n < 3 else "i1" if "i1" not in items else "i9"]
        for n, (user, items) in enumerate(rows(before).items())
    }
    return world(before, {"newcomer": ["i2", "i3", "i4", "fresh"], **sequences}, ("fresh",))


@pytest.fixture(scope="module")
def earlier(before: InteractionDataset, tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return allmrec.train(
        before, tmp_path_factory.mktemp("earlier") / "run", str(tiny_world.recipe), changes=FUSED, device="cpu"
    )


@pytest.fixture(scope="module")
def later(earlier: Run, now: InteractionDataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return allmrec.train(now, tmp_path_factory.mktemp("later") / "run", start=earlier.path, device="cpu")


def heard(run: Run) -> dict[str, list[str]]:
    """What each stage logs, by its name."""
    lines: list[str] = []
    run.train(lines.append)
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, text = line.partition(": ")
        found.setdefault(name, []).append(text)
    return found


def test_every_stage_goes_on_and_its_key_says_so(earlier: Run, later: Run) -> None:
    assert later.config == earlier.config
    assert later.start is not None
    assert later.start.anew == {}
    for kind in ALLMREC_STAGES:
        manifest = read_json(later.path / kind.name / "manifest.json")
        assert manifest["inputs"]["start"] == earlier.stage(kind).key
        cold = Run(later.path, later.dataset, later.config, "cpu")
        assert cold.stage(kind).key != later.stage(kind).key
    for name in ("pretrain", "reference", "align", "tune"):
        log = read_json(later.path / name / "log.json")
        assert log["records"][0]["step"] == 0, name
    assert len(later.recommender().recommend(history=["fresh", "i2"], k=5)) == 5


def test_the_earlier_run_stays_and_a_second_call_trains_nothing(
    earlier: Run, later: Run, now: InteractionDataset
) -> None:
    assert {text for texts in heard(earlier).values() for text in texts} == {"there already, made of the same inputs"}
    again = allmrec.Run.draft(later.path, now, later.config, "cpu")
    assert again.start == later.start
    assert {text for texts in heard(again).values() for text in texts} == {"there already, made of the same inputs"}


def test_old_items_begin_with_their_vectors(earlier: Run, later: Run) -> None:
    weights = earlier_weights(later, PRETRAIN)
    assert weights is not None
    assert weights.items[later.dataset.items.number("fresh")] == 0
    assert weights.users[later.dataset.users.number("newcomer")] == -1
    for name in earlier.dataset.items:
        assert weights.items[later.dataset.items.number(name)] == earlier.dataset.items.number(name)
    stored = earlier.tensors(PRETRAIN)
    assert all(torch.equal(weights.tensors[name], stored[name]) for name in stored)


def test_titles_that_were_encoded_are_kept(earlier: Run, later: Run) -> None:
    texts, theirs = later.tensors(ALLMREC_STAGES[3]), earlier.tensors(ALLMREC_STAGES[3])
    titled = [name for name in earlier.dataset.items if theirs["present"][earlier.dataset.items.number(name)]]
    mine = texts["vectors"][[later.dataset.items.number(name) for name in titled]]
    assert torch.equal(mine, theirs["vectors"][[earlier.dataset.items.number(name) for name in titled]])
    assert read_json(later.path / "texts" / "log.json") == {"kept": len(titled)}
    fresh = later.dataset.items.number("fresh")
    assert texts["present"][fresh]
    assert float(texts["vectors"][fresh].abs().sum()) > 0


def test_the_result_is_the_same_each_time(earlier: Run, later: Run, now: InteractionDataset, tmp_path: Path) -> None:
    again = allmrec.train(now, tmp_path / "again", start=earlier, device="cpu")
    for kind in (PRETRAIN, TUNE):
        mine, theirs = again.tensors(kind), later.tensors(kind)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_what_knows_the_answers_is_trained_anew_with_all_that_reads_it(
    earlier: Run, before: InteractionDataset, tmp_path: Path
) -> None:
    """An interaction that the earlier CF model trained on is now a test item."""
    sequences = rows(before)
    user, items = next(iter(sequences.items()))
    data = world(before, {**sequences, user: [*items[1:], items[0]]})
    run = continued(Run.create(tmp_path / "run", data, earlier.config, "cpu"), earlier, ALLMREC_STAGES)
    assert run.start is not None
    assert "items of 1 users that now test" in run.start.anew["pretrain"]
    assert run.start.anew["align"] == "pretrain, which it reads, is another one"
    assert run.start.anew["tune"] == "align, which it reads, is another one"
    assert set(run.start.keys) == {"texts"}
    lines = heard(run)
    assert lines["pretrain"][0].startswith("trained anew: the earlier one trained on items of 1 users")
    assert lines["texts"][0] == f"goes on from {earlier.path.resolve()}"


def test_a_few_users_whose_validation_item_trained_are_tolerated_and_named(
    earlier: Run, before: InteractionDataset, tmp_path: Path
) -> None:
    """Somebody of two interactions trained; later ones put what trained at the place that validates."""
    sequences = rows(before)
    many = {f"{user}-{copy}": items for user, items in sequences.items() for copy in range(200 // len(sequences) + 1)}
    short = {"short": ["i1", "i2"]}
    then = Run.create(tmp_path / "then", world(before, {**many, **short}), earlier.config, "cpu")
    train_systems(then, ["sasrec"], lambda text: None)
    data = world(before, {**many, "short": ["i5", "i1", "i2"]})
    run = continued(Run.create(tmp_path / "run", data, earlier.config, "cpu"), then, [PRETRAIN])
    assert run.start is not None
    assert run.start.anew == {}
    assert f"of 1 of {len(many) + 1} users" in run.start.despite["pretrain"]
    assert run.start == Start.from_json(json.loads(json.dumps(run.start.as_json())), tmp_path)
    lines: list[str] = []
    train_systems(run, ["sasrec"], lines.append)
    assert any("goes on from" in line and "although it trained on what now validates" in line for line in lines)
    # Of three users it is more than one in a hundred.
    few = dict(list(many.items())[:3])
    data = world(before, {**few, "short": ["i5", "i1", "i2"]})
    run = continued(Run.create(tmp_path / "few", data, earlier.config, "cpu"), then, [PRETRAIN])
    assert run.start is not None
    assert "more than 1% of the 4 who validate" in run.start.anew["pretrain"]


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"pretrain.model.dim": 12}, {"pretrain", "reference", "align", "tune"}),
        ({"align.joint_dim": 4}, {"align", "tune"}),
        ({"tune.prompt.projection.hidden": 4}, {"tune"}),
        ({"tune.training.epochs": 2, "pretrain.training.learning_rate": 1e-4}, set()),
    ],
)
def test_changed_settings_that_weights_depend_on(
    earlier: Run, now: InteractionDataset, tmp_path: Path, changes: dict[str, object], anew: set[str]
) -> None:
    run = continued(Run.create(tmp_path / "run", now, earlier.config.changed(changes), "cpu"), earlier, ALLMREC_STAGES)
    assert run.start is not None
    assert set(run.start.anew) == anew
    # And where they are changed afterwards.
    kept = continued(Run.create(tmp_path / "kept", now, earlier.config, "cpu"), earlier, ALLMREC_STAGES)
    later = kept.with_config(earlier.config.changed(changes))
    assert {kind.name for kind in ALLMREC_STAGES if later.start_key(kind) is None} >= anew & {
        "pretrain",
        "reference",
        "align",
        "tune",
    }


def test_an_ablation_does_not_go_on_from_what_was_not_ablated(later: Run) -> None:
    variant = open_variant(later, "without-matching")
    assert variant.start_key(PRETRAIN) is not None, "it is the run's own"
    assert variant.stage(PRETRAIN).key == later.stage(PRETRAIN).key
    assert variant.start_key(ALLMREC_STAGES[2]) is None
    assert variant.start_key(TUNE) is None


def test_an_earlier_run_that_is_gone_or_has_changed_is_an_error(
    earlier: Run, now: InteractionDataset, tmp_path: Path
) -> None:
    shutil.copytree(earlier.path, tmp_path / "old")
    old = Run.open(tmp_path / "old", "cpu")
    run = continued(Run.create(tmp_path / "run", now, earlier.config, "cpu"), old, ALLMREC_STAGES)
    run.keep()
    old.with_config(old.config.changed({"seed": 3})).keep()
    with pytest.raises(ArtifactError, match="has been trained again since"):
        Run.open(run.path, "cpu").train()
    shutil.rmtree(old.path)
    with pytest.raises(ArtifactError, match="which is no run any more"):
        Run.open(run.path, "cpu").train()


def test_a_damaged_start_is_named(later: Run, tmp_path: Path) -> None:
    shutil.copytree(later.path, tmp_path / "copy")
    path = tmp_path / "copy" / "run.json"
    path.write_text(path.read_text().replace('"keys"', '"kyes"'))
    with pytest.raises(ArtifactError, match=r"start in .* is damaged"):
        Run.open(tmp_path / "copy")


def test_a_run_that_went_on_is_saved_without_a_word_on_where_the_earlier_one_lies(
    earlier: Run, later: Run, tmp_path: Path
) -> None:
    later.recommender().save_pretrained(tmp_path / "saved")
    assert str(earlier.path.parent) not in (tmp_path / "saved" / "run.json").read_text()
    loaded = allmrec.ALLMRec.from_pretrained(tmp_path / "saved")
    asked = {"history": ["fresh", "i2"], "k": 5}
    assert loaded.recommend(**asked) == later.recommender().recommend(**asked)


def test_a_saved_recommender_is_nothing_to_go_on_from(earlier: Run, now: InteractionDataset, tmp_path: Path) -> None:
    earlier.recommender().save_pretrained(tmp_path / "saved", interactions=True)
    with pytest.raises(ConfigError, match="saved recommender"):
        allmrec.train(now, tmp_path / "run", start=tmp_path / "saved", device="cpu")


def test_repeats_that_still_train_are_no_answers(earlier: Run, before: InteractionDataset, tmp_path: Path) -> None:
    """Somebody takes an item again: it trained before, trains still, and tests now."""
    sequences = {user: [*items, items[0]] for user, items in rows(before).items()}
    run = continued(
        Run.create(tmp_path / "run", world(before, sequences), earlier.config, "cpu"), earlier, [PRETRAIN, REFERENCE]
    )
    assert run.start is not None
    assert run.start.anew == {}
    assert np.all(run.split.train_end >= 1)
