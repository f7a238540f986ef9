"""LLM-SRec in a run: trained by name behind the CF model alone, evaluated, recommending from every item by one product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.tiny_world import TinyWorld

from allmrec.baselines.llm_srec import LLMSRec
from allmrec.baselines.llm_srec_training import LLMSRecTask
from allmrec.cf.recommender import BackboneRecommender
from allmrec.core.errors import ConfigError
from allmrec.data import read_table
from allmrec.data.batching import SequenceBatch
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.recommend.retrieve import BackboneRetriever
from allmrec.stages.cf import PRETRAIN, REFERENCE
from allmrec.systems.evaluating import evaluate_catalogue, evaluate_run
from allmrec.systems.kinds import stages_of
from allmrec.systems.recommending import open_recommender
from allmrec.systems.registry import SYSTEMS, check_trainable, open_systems, train_systems

SMALL = {
    "systems.llm-srec.dim": 8,
    "systems.llm-srec.hidden": 16,
    "systems.llm-srec.layers": 1,
    "systems.llm-srec.validation_items": 8,
}


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = load_recipe(str(tiny_world.recipe), SMALL)
    data = read_table(tiny_world.interactions, tiny_world.items)
    made = Run.create(tmp_path_factory.mktemp("llm-srec") / "run", data, config)
    lines: list[str] = []
    train_systems(made, ["llm-srec"], lines.append)
    # Of A-LLMRec's stages the CF model without the held-out targets is all that it needs.
    assert [line.split(":")[0] for line in lines if "llm-srec" in line or "tune" in line] == ["llm-srec"]
    return made


def test_it_takes_the_runs_settings_and_its_own(run: Run) -> None:
    settings = SYSTEMS["llm-srec"].settings
    assert settings is not None
    found = settings.of(run.config)
    tune = run.config.tune
    assert (found.positions, found.samples_per_epoch, found.validation_users) == ("held_out", 8, 4)
    assert (found.max_history, found.title_tokens) == (3, 6)
    assert found.words.words == tune.prompt.template.words
    assert found.training.epochs == tune.training.epochs
    assert (found.candidates, found.dim, found.training.batch_size, found.training.learning_rate) == (4, 8, 20, 1e-4)


def test_it_hears_the_cf_model_that_its_positions_want(run: Run) -> None:
    assert PRETRAIN.name in [stage.label for stage in stages_of(run, SYSTEMS["llm-srec"])]
    whole = Run(run.path, run.dataset, run.config.changed({"systems.llm-srec.positions": "last"}))
    assert REFERENCE.name in [stage.label for stage in stages_of(whole, SYSTEMS["llm-srec"])]
    nothing = {"held_out_targets": 0, "tune.positions": "last", "systems.llm-srec.positions": "held_out"}
    with pytest.raises(ConfigError, match="needs held_out_targets of at least 1"):
        check_trainable(Run(run.path, run.dataset, run.config.changed(nothing)), ["llm-srec"])


def test_it_is_evaluated_and_recommends_from_every_item(run: Run) -> None:
    report = evaluate_run(run, ["backbone-held-out", "llm-srec"])
    assert [system.name for system in report.systems] == ["SASRec (held out)", "LLM-SRec"]
    row = report.by_name["LLM-SRec"]
    assert "the first 1 layers" in row.note
    # It reads no candidate's title, so no user is left out.
    assert len(row.users) == len(report.by_name["SASRec (held out)"].users) == 6
    catalogue = evaluate_catalogue(run, ["llm-srec"])
    assert [system.name for system in catalogue.systems] == ["LLM-SRec"]
    opened = open_recommender(run, "llm-srec")
    assert isinstance(opened.recommender._retriever, BackboneRetriever)
    assert isinstance(opened.system.ranker, BackboneRecommender)
    model = opened.system.ranker.backbone
    assert isinstance(model, LLMSRec)
    found = opened.recommender.recommend(user="u3", k=5)
    number = run.dataset.users.number("u3")
    seen = run.dataset.sequence(number).astype(np.int64)
    x = model.user_vectors(SequenceBatch(np.array([number]), seen[None]))
    scores = (x @ model.item_vectors().T)[0].numpy()
    scores[[0, *seen]] = -np.inf
    assert [run.dataset.items.number(row.item_id) for row in found] == np.argsort(-scores)[:5].tolist()
    assert len(opened.recommender.recommend(history=[], k=3)) == 3


def test_item_vectors_are_stored_and_not_computed_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: LLMSRec, *arguments: object) -> None:
        raise AssertionError("an item was read")

    monkeypatch.setattr(LLMSRec, "item_states", fail)
    ranker = open_systems(run, ["llm-srec"])["llm-srec"].ranker
    assert isinstance(ranker, BackboneRecommender)
    assert len(ranker.backbone.item_vectors()) == run.dataset.n_items + 1


def test_killed_it_goes_on_where_it_stood(
    tiny_world: TinyWorld, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_recipe(str(tiny_world.recipe), SMALL | {"systems.llm-srec.training.batch_size": 2})
    made = Run.create(tmp_path / "run", run.dataset, config)
    losses, calls = LLMSRecTask.losses, list[int]()

    def dying(self: LLMSRecTask, batch: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(self, batch)  # type: ignore[arg-type]  # any function of the method's shape

    monkeypatch.setattr(LLMSRecTask, "losses", dying)
    with pytest.raises(KeyboardInterrupt):
        train_systems(made, ["llm-srec"], lambda line: None)
    train_systems(made, ["llm-srec"], lambda line: None)
    # Four batches of two, the one that was killed begun twice.
    assert len(calls) == 5
