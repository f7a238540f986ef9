"""Text vectors of a run by its language model: for every reader, for new items, and kept where a run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_world import TinyWorld

from allmrec.core.artifacts import read_json, write_json
from allmrec.data.build import read_table
from allmrec.library import Run
from allmrec.pipeline.continuing import continued
from allmrec.recipes.files import load_recipe
from allmrec.stages.frozen import language_model
from allmrec.stages.texts import TEXTS, new_text_vectors, text_vectors
from allmrec.systems.evaluating import evaluate_run
from allmrec.systems.registry import train_systems
from allmrec.text.causal import CausalEncoder

BY_LLM = {
    "texts.source": "llm",
    "texts.of": "item_text",
    "texts.llm.layer": 1,
    "texts.llm.pooling": "last",
    "texts.llm.prompt": "{text} in one word:",
}


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """No sentence encoder can be found: nothing of it may be asked for."""
    config = load_recipe(str(tiny_world.recipe), BY_LLM | {"encoder.name": "no/such-encoder"})
    data = read_table(tiny_world.interactions, tiny_world.items)
    made = Run.create(tmp_path_factory.mktemp("sources") / "run", data, config, "cpu")
    train_systems(made, ["text-similarity", "text-tower"], lambda line: None)
    return made


def test_the_readers_need_the_language_model_alone(run: Run) -> None:
    vectors, present = text_vectors(run)
    config, catalogue = run.config, run.dataset.catalogue
    texts = [text or None for text in catalogue.item_texts(config.item_text)]
    wanted, there = CausalEncoder(language_model(run), config.texts.llm).vectors(texts)
    assert torch.equal(vectors, wanted)
    assert torch.equal(present, there)
    assert int(present.sum()) == run.dataset.n_items - 1
    report = evaluate_run(run, ["text-similarity", "text-tower"])
    assert len(report.systems) == 2


def test_a_new_item_has_the_vector_that_it_would_have_in_the_catalogue(run: Run) -> None:
    catalogue = run.dataset.catalogue
    found, present = new_text_vectors(
        run, [catalogue.titles[3], None], [catalogue.descriptions[3], None], [catalogue.categories[3], ()]
    )
    torch.testing.assert_close(found[0], text_vectors(run)[0][3], atol=1e-5, rtol=1e-4)
    assert present.tolist() == [True, False]
    assert not found[1].any()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("texts.llm.layer", 2), ("texts.llm.pooling", "mean"), ("texts.llm.prompt", "{text}"), ("texts.of", "title"),
     ("texts.source", "encoder"), ("llm.name", "another")],
)  # fmt: skip
def test_the_key_names_what_decides_the_vectors(run: Run, setting: str, value: object) -> None:
    other = run.with_config(run.config.changed({setting: value}))
    assert other.stage(TEXTS).key != run.stage(TEXTS).key


def test_the_language_model_counts_only_where_it_is_the_source(run: Run) -> None:
    by_encoder = run.with_config(run.config.changed({"texts.source": "encoder"}))
    named = by_encoder.with_config(by_encoder.config.changed({"llm.name": "another", "texts.llm.layer": 2}))
    assert named.stage(TEXTS).key == by_encoder.stage(TEXTS).key


@pytest.mark.parametrize("same", [True, False])
def test_a_run_that_goes_on_keeps_vectors_of_the_same_weights_alone(run: Run, tmp_path: Path, same: bool) -> None:
    record, before = run.path / "run.json", read_json(run.path / "run.json")
    if not same:
        changed = {name: "0" * 64 if name.startswith("llm ") else mark for name, mark in before["fingerprints"].items()}
        write_json(record, before | {"fingerprints": changed})
    try:
        later = continued(Run.create(tmp_path / "later", run.dataset, run.config, "cpu"), run, [TEXTS])
        later.keep()
        train_systems(later, ["text-similarity"], lambda line: None)
    finally:
        write_json(record, before)
    kept = read_json(later.path / "texts" / "log.json")["kept"]
    assert kept == (run.dataset.n_items - 1 if same else 0)
    torch.testing.assert_close(text_vectors(later)[0], text_vectors(run)[0], atol=1e-5, rtol=1e-4)
