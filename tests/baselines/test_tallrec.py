"""TALLRec: against peft and a plain loop, what it learns, save and load, killed and resumed, and a base left alone."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.tallrec import TALLRec, TALLRecConfig, TALLRecTask, train_tallrec
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError, DataError
from allmrec.core.resume import Checkpoint
from allmrec.core.training import SharedTask
from allmrec.data import InteractionDataset, Split, leave_one_out
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.questions import PROFILE
from allmrec.prompting.tokenising import PromptBuilder
from allmrec.ranking import Query, Ranker
from allmrec.recommend.explain import ExplainConfig, Explainer
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.testing.worlds import title_world

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None and os.environ.get("CI") != "true",
    reason="needs: pip install 'allmrec[lora]'",
)

SIZES = {"candidates": 5, "positions": "all", "validation_users": 12}
CONFIG = TALLRecConfig.model_validate(
    {**SIZES, "lora": {"r": 4}, "training": {"learning_rate": 1e-2, "batch_size": 8, "epochs": 4}}
)


@pytest.fixture(scope="module")
def split() -> Split:
    """Everybody takes films; of records and films together the catalogue is mostly records, which nobody takes."""
    rng = np.random.default_rng(0)
    films, records = [f"f{n}" for n in range(12)], [f"r{n}" for n in range(120)]
    sequences = {f"u{n}": [films[i] for i in rng.permutation(12)[:5]] for n in range(24)}
    titles = {item: f"horror film {n}" for n, item in enumerate(films)}
    titles |= {item: f"jazz record {n}" for n, item in enumerate(records)}
    return leave_one_out(InteractionDataset.from_sequences(sequences, items=films + records, titles=titles))


def language_model(split: Split) -> TransformersLM:
    return tiny_language_model(corpus=[title for title in split.dataset.catalogue.titles if title] * 5)


@pytest.fixture(scope="module")
def trained(split: Split) -> tuple[TransformersLM, TALLRec]:
    lm = language_model(split)
    return lm, train_tallrec(split, lm, split.dataset.catalogue.titles, CONFIG, seed=0)[0]


def asked(split: Split, users: int = 6) -> tuple[list[Query], list[np.ndarray]]:
    rng = np.random.default_rng(1)
    queries = [Query(split.test_history(user), user) for user in range(users)]
    return queries, [1 + rng.permutation(split.dataset.n_items)[: 4 + user % 3] for user in range(users)]


def scores(system: Ranker, split: Split) -> list[np.ndarray]:
    """Scores in the candidates' own order."""
    rankings = system.rank(*asked(split))
    return [r.scores[np.argsort(r.items)] for r in rankings]


def same(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ones, others, strict=True))


def hit_at_1(system: Ranker, split: Split) -> float:
    protocol = draw_protocol(split, n_candidates=5)
    return float(
        np.mean(np.asarray(evaluate_rankers([system], protocol, split, reference=system.name).systems[0].ranks) == 1)
    )


def test_untrained_it_is_llm_only(split: Split) -> None:
    lm, titles = language_model(split), split.dataset.catalogue.titles
    model = TALLRec(lm, titles, CONFIG)
    assert isinstance(model, Ranker)
    assert same(scores(model, split), scores(LLMOnly(lm, titles, CONFIG.template, CONFIG.budget), split))


# peft asks transformers by a name that it is about to lose; our code does not go that way.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_it_equals_peft_and_a_plain_loop_over_titles(split: Split, trained: tuple[TransformersLM, TALLRec]) -> None:
    """peft's own model around a fresh base, loaded with our tensors by peft, reads tokens one title at a time."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    lm, model = trained
    fresh, lora = language_model(split), CONFIG.lora
    settings = LoraConfig(r=lora.r, lora_alpha=int(lora.alpha), target_modules=["q_proj", "v_proj"])
    reference: Any = get_peft_model(fresh.frozen.module, settings)
    loaded = set_peft_model_state_dict(reference, model.state_dict())
    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if "lora" in key]
    reference.eval()
    titles = split.dataset.catalogue.titles
    builder = PromptBuilder(CONFIG.template.without_vectors(), CONFIG.budget, lm, titles)
    likelihoods = model.title_likelihoods(*asked(split, 2))
    for query, items, found in zip(*asked(split, 2), likelihoods, strict=True):
        prompt = builder.build(query.history.tolist(), items.tolist()).ids.tolist()
        for item, steps in zip(items, found, strict=True):
            answer = [*builder.titles[int(item)], lm.eos_id]
            with torch.no_grad():
                logits = reference(input_ids=torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :]
            expected = torch.log_softmax(logits, dim=-1)[torch.arange(len(answer)), torch.tensor(answer)]
            torch.testing.assert_close(steps[: len(answer)], expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_scored_likelihood(split: Split, trained: tuple[TransformersLM, TALLRec]) -> None:
    _, model = trained
    queries, candidates = asked(split, 3)
    targets = np.array([3, 0, 2])
    rows = model.title_likelihoods(queries, candidates)
    steps = [row[t][row[t] != 0] for row, t in zip(rows, targets, strict=True)]
    loss = model.title_loss(queries, candidates, targets)
    torch.testing.assert_close(loss, -torch.cat(steps).mean(), atol=1e-4, rtol=1e-4)


def test_it_learns_and_the_language_model_is_left_alone(split: Split) -> None:
    lm, titles = language_model(split), split.dataset.catalogue.titles
    module = lm.frozen.module
    weights, name, parts = lm.frozen.snapshot(), fingerprint(module), list(module.named_modules())
    other = LLMOnly(lm, titles, CONFIG.template, CONFIG.budget)
    before, untrained = scores(other, split), hit_at_1(TALLRec(lm, titles, CONFIG), split)
    model, log = train_tallrec(split, lm, titles, CONFIG, seed=0)
    assert same(scores(other, split), before)
    tuned = scores(model, split)
    assert same(scores(other, split), before)
    assert same(scores(model, split), tuned)
    assert not same(tuned, before)
    after = module.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(weights[key], tensor) for key, tensor in after.items())
    assert fingerprint(module) == name
    assert list(module.named_modules()) == parts
    assert log.records[-1]["loss/title"] < 0.8 * log.records[0]["loss/title"]
    assert hit_at_1(model, split) > max(0.6, untrained + 0.3)


def test_asked_in_words_its_adapters_are_on_and_the_others_are_left_alone(
    split: Split, trained: tuple[TransformersLM, TALLRec]
) -> None:
    lm, model = trained
    titles, config = split.dataset.catalogue.titles, ExplainConfig(max_new_tokens=8)
    queries = asked(split)[0]
    alone = Explainer(LLMOnly(lm, titles, CONFIG.template, CONFIG.budget), PROFILE, config)
    before = alone.texts(queries)
    said = Explainer(model.reader, PROFILE, config).texts(queries)
    assert said != before
    assert alone.texts(queries) == before
    assert Explainer(TALLRec(lm, titles, CONFIG).reader, PROFILE, config).texts(queries) == before


@pytest.mark.slow
def test_themes_are_learned_where_collaboration_shows_nothing() -> None:
    """Every item is one user's; its title tells the theme. A random model learns to look for it in the history."""
    split = leave_one_out(title_world(users=80))
    lm, titles = language_model(split), split.dataset.catalogue.titles
    config = TALLRecConfig.model_validate(
        {
            **SIZES,
            "lora": {"dropout": 0.0},
            "budget": {"max_history": 4},
            "training": {"learning_rate": 1e-2, "batch_size": 16, "epochs": 20},
        }
    )
    untrained = hit_at_1(TALLRec(lm, titles, config), split)
    model, _ = train_tallrec(split, lm, titles, config, seed=0)
    assert hit_at_1(model, split) > max(0.35, untrained + 0.2)


def test_what_is_stored_is_the_adapters_and_loads_into_a_fresh_model(
    split: Split, trained: tuple[TransformersLM, TALLRec], tmp_path: Path
) -> None:
    lm, model = trained
    titles, file = split.dataset.catalogue.titles, tmp_path / "tallrec.safetensors"
    write_tensors(file, model.state_dict())
    stored = read_tensors(file)
    layers = [f"base_model.model.model.layers.{n}.self_attn.{p}_proj" for n in range(lm.depth) for p in "qv"]
    assert sorted(stored) == sorted(f"{layer}.lora_{part}.weight" for layer in layers for part in "AB")
    assert all(tensor.any() for tensor in stored.values())
    fresh = language_model(split)
    again = TALLRec.from_arrays(stored, fresh, titles, CONFIG)
    assert not again.training
    assert same(scores(again, split), scores(model, split))
    base = LLMOnly(fresh, titles, CONFIG.template, CONFIG.budget)
    assert not any(np.allclose(a, b) for a, b in zip(scores(again, split), scores(base, split), strict=True))


def test_other_weights_are_refused(split: Split, trained: tuple[TransformersLM, TALLRec]) -> None:
    lm, model = trained
    titles, stored = split.dataset.catalogue.titles, model.state_dict()
    first = next(iter(stored))
    with pytest.raises(ArtifactError, match=f"{first} is missing"):
        TALLRec.from_arrays({key: t for key, t in stored.items() if key != first}, lm, titles, CONFIG)
    with pytest.raises(ArtifactError, match="lora_C is unknown"):
        TALLRec.from_arrays({**stored, "lora_C": torch.zeros(1)}, lm, titles, CONFIG)
    with pytest.raises(ArtifactError, match=r"has shape \(4, 32\), expected \(8, 32\)"):
        TALLRec.from_arrays(stored, lm, titles, CONFIG.model_copy(update={"lora": TALLRecConfig().lora}))
    with pytest.raises(DataError, match="2 texts came with"):
        train_tallrec(split, lm, [None, "Heat"], CONFIG, seed=0)


def test_seeds_decide_the_weights(split: Split) -> None:
    lm, titles = language_model(split), split.dataset.catalogue.titles
    config = TALLRecConfig.model_validate({**SIZES, "samples_per_epoch": 16, "training": {"epochs": 1}})
    states = [train_tallrec(split, lm, titles, config, seed)[0].state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not any(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_killed_and_started_again_it_is_the_same_run(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout included: after the kill everything comes from the file and the seed."""
    titles, file = split.dataset.catalogue.titles, tmp_path / "resume.safetensors"
    config = TALLRecConfig.model_validate(
        {**SIZES, "lora": {"dropout": 0.2}, "samples_per_epoch": 24, "training": {"batch_size": 4, "epochs": 2}}
    )
    whole, log = train_tallrec(split, language_model(split), titles, config, seed=3)
    steps, losses = [0], TALLRecTask.losses

    def until_the_eighth(task: TALLRecTask, batch: Any) -> Any:
        steps[0] += 1
        if steps[0] == 8:
            raise RuntimeError("killed")
        return losses(task, batch)

    with monkeypatch.context() as patched:
        patched.setattr(TALLRecTask, "losses", until_the_eighth)
        with pytest.raises(RuntimeError, match="killed"):
            train_tallrec(split, language_model(split), titles, config, 3, Checkpoint(file, every=0))
    resumed, again = train_tallrec(split, language_model(split), titles, config, 3, Checkpoint(file))
    assert again.records == log.records
    expected = whole.state_dict()
    assert all(torch.equal(expected[key], tensor) for key, tensor in resumed.state_dict().items())
    assert same(scores(resumed, split), scores(whole, split))


@pytest.mark.parametrize("count", [2, 5])
def test_parts_for_several_processes_add_up_to_the_batch(split: Split, count: int) -> None:
    model = TALLRec(language_model(split), split.dataset.catalogue.titles, CONFIG)
    task = TALLRecTask(model, split, CONFIG, seed=0)
    assert isinstance(task, SharedTask)
    batch = task.batches(0)[0]
    parts = [(part, shares["title"]) for part, shares in task.shares(batch, count)]
    terms: list[Tensor] = [task.losses(part)["title"] * share for part, share in parts if share]
    torch.testing.assert_close(torch.stack(terms).sum(), task.losses(batch)["title"], atol=1e-5, rtol=1e-5)
