"""RECFORMER: padding changes nothing, losses against plain loops, what it learns, resuming, save and load."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.baselines.conftest import ranks
from transformers import LongformerConfig, LongformerModel

from allmrec.baselines.recformer import Recformer, RecformerConfig
from allmrec.baselines.recformer_text import ItemTokens
from allmrec.baselines.recformer_training import (
    CutSampler,
    FineTuningTask,
    RecformerTrainingConfig,
    in_batch_contrast,
    train_recformer,
)
from allmrec.cf import Backbone, BackboneRecommender, ValidationSample
from allmrec.cf.recommender import query_batch
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ConfigError, ModelNotFoundError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import TrainingConfig, fit
from allmrec.data import Split, leave_one_out
from allmrec.ranking import Query
from allmrec.testing.tiny_lm import tiny_tokenizer
from allmrec.testing.worlds import title_world

TINY = RecformerConfig(dim=16, layers=1, heads=2, window=8, max_history=5, max_tokens=48, temperature=0.1)


@pytest.fixture(scope="module")
def titles() -> Split:
    return leave_one_out(title_world(users=60))


@pytest.fixture(scope="module")
def tokens(titles: Split) -> ItemTokens:
    catalogue = titles.dataset.catalogue
    return ItemTokens.of(catalogue, tiny_tokenizer([t for t in catalogue.titles if t], bos=True), value_tokens=8)


def make(tokens: ItemTokens, config: RecformerConfig = TINY, seed: int = 0) -> Recformer:
    with seeded_torch(seed, "test"):
        return Recformer(tokens, config).eval()


def quick(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"learning_rate": 3e-3, "batch_size": 16, "epochs": 1, **changes})


@torch.no_grad()
def test_padding_and_company_change_no_vector(tokens: ItemTokens) -> None:
    model = make(tokens)
    rows = [np.array([3, 9, 14, 2, 7]), np.array([5]), np.zeros(0, dtype=np.int64), np.array([0, 0, 8, 9])]
    together = model.encode(rows)
    for row, expected in zip(rows, together, strict=True):
        torch.testing.assert_close(model.encode([row])[0], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.encode([np.array([8, 9])])[0], together[3], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model.encode([np.array([9, 8])])[0], together[3], atol=2e-6, rtol=0)


@torch.no_grad()
def test_the_forward_pass_equals_one_without_windows(tokens: ItemTokens) -> None:
    """Four embeddings a token, then plain attention of everybody to everybody, which is what a window that holds the
    whole row and a global first token come to; written out from the model's weights. Position 0 of a row is global, and
    global attention has projections of its own."""
    model = make(tokens, TINY.model_copy(update={"window": 128, "max_tokens": 64}))
    batch = tokens.batch([np.array([3, 9, 14])], TINY.max_history, 64)
    weights = model.longformer.state_dict()

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        spread = x.var(-1, unbiased=False, keepdim=True) + model.longformer.config.layer_norm_eps
        return (x - x.mean(-1, keepdim=True)) / spread.sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    ids, kinds, places = (torch.from_numpy(array[0]) for array in (batch.ids, batch.kinds, batch.places))
    x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.token_type_embeddings.weight"][kinds]
    x += weights["embeddings.position_embeddings.weight"][tokens.padding + 1 :][: len(ids)]
    x = norm(x + model.item_places.weight[places], "embeddings.LayerNorm")
    at, heads = "encoder.layer.0", []
    for head in (slice(0, 8), slice(8, 16)):
        local, whole = (
            [linear(x, f"{at}.attention.self.{part}{kind}")[:, head] for part in ("query", "key", "value")]
            for kind in ("", "_global")
        )
        mixed = (local[0] @ local[1].T / math.sqrt(8)).softmax(-1) @ local[2]
        mixed[0] = (whole[0][0] @ whole[1].T / math.sqrt(8)).softmax(-1) @ whole[2]
        heads.append(mixed)
    x = norm(x + linear(torch.cat(heads, 1), f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
    inner = torch.nn.functional.gelu(linear(x, f"{at}.intermediate.dense"))
    x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    torch.testing.assert_close(model(batch)[0], x, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_score_is_a_cosine_over_the_temperature(tokens: ItemTokens) -> None:
    model = make(tokens)
    model.refresh_items(batch_size=7)
    assert isinstance(model, Backbone)
    history, items = np.array([4, 11, 6]), np.array([3, 1, 2])
    (ranking,) = BackboneRecommender(model, model.name).rank([Query(history)], [items])
    user = model.encode([history])[0]
    for item, score in zip(ranking.items, ranking.scores, strict=True):
        single = model.encode([np.array([item])])[0]
        assert float(score) == pytest.approx(float(user @ single) / TINY.temperature, rel=1e-4, abs=1e-4)
    assert not model.item_vectors()[0].any()


def test_refreshing_is_without_dropout_and_leaves_the_mode(tokens: ItemTokens) -> None:
    model = make(tokens)
    model.refresh_items()
    calm = model.item_vectors().clone()
    model.train()
    model.refresh_items()
    assert model.training
    torch.testing.assert_close(model.item_vectors(), calm)


def test_the_contrast_equals_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(2, 4, 6, generator=generator)
    targets = [5, 8, 5, 2]
    total = 0.0
    for i in range(4):
        others = [j for j in range(4) if j == i or targets[j] != targets[i]]
        weights = {j: math.exp(float(users[i] @ items[j]) / 2.0) for j in others}
        total -= math.log(weights[i] / sum(weights.values()))
    same = torch.tensor(targets)[:, None] == torch.tensor(targets)
    assert in_batch_contrast(users, items, same, 2.0).item() == pytest.approx(total / 4, rel=1e-5)


@torch.no_grad()
def test_the_fine_tuning_loss_is_over_all_items_but_padding(titles: Split, tokens: ItemTokens) -> None:
    model = make(tokens)
    sampler = CutSampler(titles, 8, None, 0, "first")
    task = FineTuningTask(model, sampler, ValidationSample(titles, 10, 4, 5, 0), refresh=True)
    batch = task.batches(0)[0]
    loss = task.losses(batch)["next item"].item()
    total = 0.0
    for history, target in zip(batch.histories, batch.targets, strict=True):
        logits = (model.item_vectors() @ model.encode([history])[0]) / TINY.temperature
        total -= float(logits[target] - torch.logsumexp(logits[1:], 0))
    assert loss == pytest.approx(total / len(batch.targets), rel=1e-4)


def test_cuts_lie_in_the_training_part(titles: Split) -> None:
    batches = CutSampler(titles, 16, None, 0, "first").batches(3)
    assert sum(len(batch.targets) for batch in batches) == 60
    prefixes = {tuple(titles.train(user).tolist()) for user in range(60)}
    for batch in batches:
        for history, target in zip(batch.histories, batch.targets, strict=True):
            assert len(history) >= 1
            assert any(prefix[: len(history) + 1] == (*history.tolist(), target) for prefix in prefixes)
    assert len(CutSampler(titles, 16, 20, 0, "first").batches(0)) == 2


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    titles: Split, tokens: ItemTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch of the first stage, where the item vectors are older than the weights."""
    validation = ValidationSample(titles, 10, 4, 5, 0)
    sampler = CutSampler(titles, 16, None, 0, "first")
    wanted = make(tokens)
    fit(wanted, FineTuningTask(wanted, sampler, validation, refresh=True), quick(epochs=2), "")
    killed, calls, original = make(tokens), [], FineTuningTask.losses

    def losses(self: FineTuningTask, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(FineTuningTask, "losses", losses)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, FineTuningTask(killed, sampler, validation, True), quick(epochs=2), "", Checkpoint(tmp_path / "r"))
    again = make(tokens, seed=9)
    fit(again, FineTuningTask(again, sampler, validation, True), quick(epochs=2), "", Checkpoint(tmp_path / "r"))
    found = again.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.state_dict().items())


def test_every_step_is_taken_and_a_file_gives_the_same_ranking(
    titles: Split, tokens: ItemTokens, tmp_path: Path
) -> None:
    config = RecformerTrainingConfig(
        model=TINY, pretraining=quick(), first=quick(), second=quick(), samples_per_epoch=32, validation_users=20
    )
    model, logs = train_recformer(titles, tokens, config, seed=0)
    assert {name: log.steps for name, log in logs.items()} == {"pretraining": 2, "first": 2, "second": 2}
    assert {"loss/contrast", "loss/words"} <= set(logs["pretraining"].records[0])
    assert model.name == "RECFORMER (small)"
    write_tensors(tmp_path / "recformer.safetensors", model.state_dict())
    again = Recformer.from_arrays(read_tensors(tmp_path / "recformer.safetensors"), tokens, TINY)
    found, stored = (ranks(BackboneRecommender(m, m.name), titles) for m in (model, again))
    assert np.array_equal(found, stored)
    same, _ = train_recformer(titles, tokens, config, seed=0)
    assert all(torch.equal(same.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_what_the_second_stage_spoils_is_not_kept(titles: Split, tokens: ItemTokens) -> None:
    config = RecformerTrainingConfig(
        model=TINY, pretraining=None, first=quick(epochs=3), second=quick(learning_rate=10.0), validation_users=60
    )
    model, logs = train_recformer(titles, tokens, config, seed=0)
    assert list(logs) == ["first", "second"]
    assert logs["second"].best_value <= logs["first"].best_value
    sample = ValidationSample(titles, 60, 19, TINY.max_history, 0)
    figures = sample.figures(sample.user_vectors(model), model.item_vectors())
    assert figures["ndcg@10"] == pytest.approx(logs["first"].best_value, abs=1e-6)


def test_a_longformer_by_name(tokens: ItemTokens, tmp_path: Path) -> None:
    """Its weights are read; the kinds of tokens, which it does not have, are new."""
    config = LongformerConfig(
        vocab_size=tokens.vocabulary, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        type_vocab_size=1, attention_window=[4], max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    trained = LongformerModel(config, add_pooling_layer=False)
    trained.save_pretrained(tmp_path / "longformer")
    model = make(tokens, TINY.model_copy(update={"longformer": str(tmp_path / "longformer")}))
    assert (model.name, model.dim, model.window) == ("RECFORMER", 12, 4)
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.longformer.state_dict()[name], trained.state_dict()[name])
    assert model.longformer.embeddings.token_type_embeddings.num_embeddings == 3
    assert torch.isfinite(query_vector(model)).all()
    with pytest.raises(ConfigError, match="places for 60 in whole windows of 4"):
        make(tokens, TINY.model_copy(update={"longformer": str(tmp_path / "longformer"), "max_tokens": 61}))
    foreign = replace(tokens, vocabulary=tokens.vocabulary + 1)
    with pytest.raises(ConfigError, match="do not belong together"):
        make(foreign, TINY.model_copy(update={"longformer": str(tmp_path / "longformer")}))
    with pytest.raises(ModelNotFoundError, match="no-such-longformer"):
        make(tokens, TINY.model_copy(update={"longformer": str(tmp_path / "no-such-longformer")}))


def query_vector(model: Recformer) -> torch.Tensor:
    with torch.no_grad():
        return model.user_vectors(query_batch([Query(np.array([1, 2, 3]))], model.max_history))


@pytest.mark.slow
def test_titles_are_learned_where_collaboration_shows_nothing() -> None:
    """Every item is one user's; only words can tell which themes go together."""
    split = leave_one_out(title_world(users=200))
    catalogue = split.dataset.catalogue
    tokens = ItemTokens.of(catalogue, tiny_tokenizer([t for t in catalogue.titles if t], bos=True), value_tokens=10)
    model = TINY.model_copy(update={"dim": 32, "max_tokens": 64})
    trained = RecformerTrainingConfig(model=model, pretraining=quick(epochs=10), first=quick(epochs=3), second=quick())
    untrained = quick(learning_rate=1e-9)
    idle = RecformerTrainingConfig(model=model, pretraining=None, first=untrained, second=untrained)
    hits = []
    for config in (idle, trained):
        made, logs = train_recformer(split, tokens, config, seed=0)
        hits.append(np.mean(ranks(BackboneRecommender(made, made.name), split) == 1))
    contrast = [record["loss/contrast"] for record in logs["pretraining"].records]
    # Vectors that are all alike would cost ln 16 for a batch of 16.
    assert contrast[-1] < 0.6 * math.log(16)
    assert hits[1] > max(0.6, hits[0] + 0.2)
