"""Both towers in a run: trained by name, what retrieves for every system, and new items found by their texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.tiny_world import TinyWorld

import allmrec
from allmrec.baselines.fusion import LateFusion
from allmrec.cf.fused import FusedBackbone
from allmrec.cf.text_items import TextItems
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data import read_table
from allmrec.data.batching import SequenceBatch
from allmrec.library import Run, evaluate
from allmrec.recipes.files import load_recipe
from allmrec.recommend.request import Request
from allmrec.recommend.retrieve import BackboneRetriever
from allmrec.systems.evaluating import evaluate_catalogue
from allmrec.systems.recommending import open_recommender, recommender
from allmrec.systems.registry import checked_settings, everything_of, open_systems, train_systems
from allmrec.systems.towers import fused

SMALL = {
    "answer.retrieve.items": 30,
    "systems.text-tower.training.epochs": 2,
    "systems.text-tower.model.objective.loss": "softmax",
    "systems.towers.validation_users": 20,
}


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = load_recipe(str(tiny_world.recipe), SMALL)
    made = Run.create(
        tmp_path_factory.mktemp("towers") / "run", read_table(tiny_world.interactions, tiny_world.items), config
    )
    made.train()
    return made


def test_they_are_trained_evaluated_and_retrieve(run: Run) -> None:
    assert fused(run) is None
    told: list[str] = []
    train_systems(run, ["towers"], told.append)
    assert [line.split(":")[0] for line in told][-2:] == ["text-tower", "towers"]
    report = evaluate(run, ["backbone", "text-tower", "towers"], order_test=True)
    assert [system.name for system in report.systems] == ["SASRec", "Text tower", "Both towers"]
    assert report.either[0].systems == ("SASRec", "Text tower")
    assert all(system.order is not None and system.order.ranks != system.ranks for system in report.systems)
    catalogue = evaluate_catalogue(run, ["towers", "allmrec-select"])
    assert [system.name for system in catalogue.systems] == ["Both towers", "A-LLMRec (select)"]
    for name in ("allmrec-select", "llm-only"):
        found = open_recommender(run, name).recommender._retriever
        assert isinstance(found, BackboneRetriever)
        assert isinstance(found._backbone, FusedBackbone)
    # As their own recommender, and by plain sums of both models' scores.
    towers = fused(run)
    assert towers is not None
    found = recommender(run, "towers").recommend(user="u3", k=5)
    seen = run.dataset.sequence(run.dataset.users.number("u3"))
    x = towers.user_vectors(SequenceBatch(np.array([run.dataset.users.number("u3")]), seen[None, -8:].astype(np.int64)))
    scores = (x @ towers.item_vectors().T)[0].numpy()
    scores[[0, *seen]] = -np.inf
    assert [run.dataset.items.number(row.item_id) for row in found] == np.argsort(-scores)[:5].tolist()


def test_a_new_item_is_found_by_its_text(run: Run) -> None:
    train_systems(run, ["towers"], lambda text: None)
    model = run.recommender()
    model.add_items([{"item_id": "new", "title": run.dataset.catalogue.titles[3]}])
    found = model.recommend(history=["i3", "new"], k=30, exclude_seen=False)
    assert "new" in [row.item_id for row in found]


def test_towers_that_are_wanted_and_not_trained_are_named(tiny_world: TinyWorld, run: Run, tmp_path: Path) -> None:
    other = Run(
        run.path,
        run.dataset,
        run.config.changed({"answer.retrieve.by": "towers", "systems.towers.validation_users": 9}),
    )
    with pytest.raises(ConfigError, match=r"allmrec train RUN --system towers"):
        recommender(other)
    assert recommender(Run(run.path, run.dataset, run.config.changed({"answer.retrieve.by": "cf"})))


def test_what_a_run_trains_beside_is_trained_with_it(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """Late fusion reads the text tower too where it is told so, and what is cheap comes before the language model."""
    beside = {"beside": ["late-fusion-llm", "towers"], "systems.late-fusion.text_tower": True}
    config = checked_settings(load_recipe(str(tiny_world.recipe), SMALL | beside))
    data = read_table(tiny_world.interactions, tiny_world.items)
    run = Run.create(tmp_path / "run", data, config)
    told: list[str] = []
    run.train(told.append)
    names = [line.split(":")[0] for line in told if ": done" in line]
    assert names.index("towers") < names.index("align") < names.index("tune") < names.index("late-fusion-llm")
    fusion = open_systems(run, ["late-fusion"])["late-fusion"].ranker
    assert isinstance(fusion, LateFusion)
    assert [name for name in fusion.weights if "Text tower" in name] == [
        "Text tower",
        "inverse popularity × Text tower",
    ]
    told.clear()
    run.train(told.append)
    assert all("there already" in line for line in told)
    with pytest.raises(ConfigError, match=r"There is no system 'tower'"):
        everything_of(Run(run.path, data, config.changed({"beside": ["tower"]})))


def test_the_catalogues_rows_are_what_is_trained(run: Run) -> None:
    train_systems(run, ["towers", "ease"], lambda text: None)
    report = evaluate_catalogue(run)
    assert list(report.by_name) == ["Popularity", "SASRec", "Text tower", "Both towers", "EASE", "A-LLMRec (select)"]
    assert [system.key for system in report.systems][2:4] == ["text-tower", "towers"]
    # A-LLMRec against what retrieves for it, and what both towers hit together.
    (pair,) = report.pairs
    assert (pair.system, pair.against) == ("A-LLMRec (select)", "Both towers")
    (either,) = report.either
    assert either.systems == ("SASRec", "Text tower")
    hits = [report.by_name[name].rank_array() <= 10 for name in either.systems]
    assert either.hits["Hit@10"].value == np.mean(hits[0] | hits[1])
    by_cf = Run(run.path, run.dataset, run.config.changed({"answer.retrieve.by": "cf"}))
    assert [pair.against for pair in evaluate_catalogue(by_cf, ["towers", "sasrec", "allmrec-select"]).pairs] == [
        "SASRec"
    ]
    assert evaluate_catalogue(by_cf, ["towers", "allmrec-select"]).pairs == ()


def test_a_run_without_the_language_model_shows_the_rest(run: Run, tmp_path: Path) -> None:
    small = Run.create(tmp_path / "run", run.dataset, run.config)
    said: list[str] = []
    with pytest.raises(ArtifactError, match="has no stage 'pretrain'"):
        evaluate_catalogue(small)
    train_systems(small, ["sasrec"], lambda text: None)
    report = evaluate_catalogue(small, log=said.append)
    assert list(report.by_name) == ["Popularity", "SASRec"]
    assert "A-LLMRec itself is not trained" in said[0]


def test_stage_1_and_2_stand_on_a_cf_model_over_texts(tiny_world: TinyWorld, tmp_path: Path) -> None:
    config = load_recipe(str(tiny_world.recipe), SMALL | {"pretrain.model.items": "texts"})
    run = Run.create(tmp_path / "run", read_table(tiny_world.interactions, tiny_world.items), config)
    told: list[str] = []
    run.train(told.append)
    trained = [line.split(":")[0] for line in told if ": done" in line]
    assert trained[:2] == ["texts", "pretrain"]
    found = run.backbone()
    assert isinstance(getattr(found, "item_emb", None), TextItems)
    assert len(run.recommender().recommend(user="u3", k=3)) == 3


def test_a_saved_recommender_retrieves_by_both_towers(run: Run, tmp_path: Path) -> None:
    train_systems(run, ["towers"], lambda text: None)
    model = run.recommender()
    model.save_pretrained(tmp_path / "model")
    loaded = allmrec.ALLMRec.from_pretrained(tmp_path / "model")
    for one in (model, loaded):
        assert isinstance(one._retriever, BackboneRetriever)
        assert isinstance(one._retriever._backbone, FusedBackbone)
    requests = [Request(history=history, k=8) for history in (["i1", "i2"], ["i7"], [])]
    assert loaded.recommend(requests) == model.recommend(requests)
    # By itself too, and what popularity counts came along.
    saved = Run.open(tmp_path / "model")
    for name in ("towers", "text-tower", "popularity"):
        assert recommender(saved, name).recommend(requests) == recommender(run, name).recommend(requests)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".parquet", ".md"}, "nothing is pickled"
    assert not (tmp_path / "model" / "systems" / "ease").exists(), "what does not retrieve stays behind"


def test_what_is_added_to_a_saved_recommender_is_found_by_its_text(run: Run, tmp_path: Path) -> None:
    train_systems(run, ["towers"], lambda text: None)
    run.recommender().save_pretrained(tmp_path / "model")
    first, loaded = run.recommender(), allmrec.ALLMRec.from_pretrained(tmp_path / "model")
    for model in (first, loaded):
        model.add_items([{"item_id": "new", "title": run.dataset.catalogue.titles[3]}, {"item_id": "untitled"}])
    requests = [
        Request(history=history, k=30, exclude_seen=False) for history in (["i3", "new"], ["new"], ["untitled"])
    ]
    answers = first.recommend(requests)
    assert all("new" in [row.item_id for row in answer] for answer in answers[:2])
    assert loaded.recommend(requests) == answers
    loaded.save_pretrained(tmp_path / "again")
    again = allmrec.ALLMRec.from_pretrained(tmp_path / "again")
    again._text_side = None  # it may be asked for nothing
    assert again.recommend(requests) == answers
    # The text tower gives the new item its twin's vector; of a history of it alone the CF model says nothing.
    towers = again._retriever._backbone  # type: ignore[union-attr]  # it has both towers, which retrieve
    d, new, twin = towers.parts[0].dim, run.dataset.n_items + 1, run.dataset.items.number("i3")
    items = towers.item_vectors()
    text = slice(d, d + towers.parts[1].dim)  # how rare an item is stands behind
    torch.testing.assert_close(items[new, text], items[3, text])
    x = towers.user_vectors(SequenceBatch(np.array([-1, -1]), np.array([[new], [twin]])))
    assert (x[0, :d] == 0).all()
    assert (x[1, :d] != 0).any()


def test_without_towers_that_retrieve_none_are_saved(run: Run, tmp_path: Path) -> None:
    train_systems(run, ["towers"], lambda text: None)
    by_cf = Run(run.path, run.dataset, run.config.changed({"answer.retrieve.by": "cf"}))
    by_cf.recommender().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "systems").exists()
    loaded = allmrec.ALLMRec.from_pretrained(tmp_path / "model")
    assert loaded.recommend(history=["i1"]) == by_cf.recommender().recommend(history=["i1"])


def test_added_items_of_other_vectors_than_the_tower_reads_are_named(run: Run, tmp_path: Path) -> None:
    train_systems(run, ["towers"], lambda text: None)
    model = run.recommender()
    model.add_items([{"item_id": "new", "title": "Item 5"}])
    model.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "published.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"added_titles": tensors["added_titles"][:, :-1].contiguous()}, path)
    with pytest.raises(ArtifactError, match=r"published\.safetensors does not fit"):
        allmrec.ALLMRec.from_pretrained(tmp_path / "model")
