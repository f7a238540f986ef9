"""CTRL: its contrastive loss against a plain loop, what the first step teaches, save and load."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.baselines.conftest import ranks

from allmrec.baselines.ctrl import ContrastTask, CTRLConfig, CTRLTowers, contrastive_loss, train_ctrl
from allmrec.cf import BackboneRecommender, PretrainConfig, SASRec, SASRecConfig
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.training import TrainingConfig
from allmrec.data import Split, leave_one_out
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.worlds import title_world
from allmrec.text import EncoderConfig, TextBank, load_encoder

MakeConfig = Callable[..., CTRLConfig]


@pytest.fixture
def small(settings: Callable[..., PretrainConfig]) -> Callable[..., CTRLConfig]:
    def make(**changes: object) -> CTRLConfig:
        contrast = TrainingConfig(learning_rate=5e-3, batch_size=8, epochs=2)
        return CTRLConfig(**{"dim": 8, "contrast": contrast, "pretrain": settings(), **changes})

    return make


def test_the_loss_equals_a_plain_loop() -> None:
    items, texts = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.eye(4)[:, :3] + 0.1
    total = 0.0
    for i in range(4):
        cosine = [
            [math.exp(float(torch.cosine_similarity(items[a], texts[b], dim=0)) / 0.5) for b in range(4)]
            for a in range(4)
        ]
        total -= math.log(cosine[i][i] / sum(cosine[i]))
        total -= math.log(cosine[i][i] / sum(row[i] for row in cosine))
    assert contrastive_loss(items, texts, 0.5).item() == pytest.approx(total / 8, rel=1e-5)


def test_an_epoch_holds_every_item_with_a_text_once(one_hot: Any, sizes: SASRecConfig, small: MakeConfig) -> None:
    encoder = one_hot(9)
    bank = TextBank(encoder, [None, *"12345", None, *"67"])
    towers = CTRLTowers(encoder, bank, SASRec(8, sizes), 4)
    task = ContrastTask(towers, bank, small(contrast=TrainingConfig(batch_size=3)), seed=0)
    first, again, other = task.batches(0), task.batches(0), task.batches(1)
    assert [len(batch) for batch in first] == [3, 2, 2]
    assert sorted(np.concatenate(first).tolist()) == [1, 2, 3, 4, 5, 7, 8]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    with pytest.raises(DataError, match="1 items have a text"):
        ContrastTask(towers, TextBank(encoder, [None, "1", None]), small(), seed=0)


def test_the_first_step_matches_items_with_texts_and_a_file_ranks_the_same(
    split: Split, sizes: SASRecConfig, small: MakeConfig, tmp_path: Path
) -> None:
    encoder = load_encoder(EncoderConfig(name=str(save_tiny_encoder(tmp_path / "encoder")), tune=1))
    texts = [text or None for text in split.dataset.catalogue.item_texts()]
    config = small(contrast=TrainingConfig(learning_rate=1e-2, batch_size=24, epochs=40))
    model, contrasted, tuned = train_ctrl(split, texts, encoder, config, seed=0)
    losses = [record["loss/contrast"] for record in contrasted.records]
    # Before anything is learned a batch of 24 costs ln 24 or more.
    assert losses[0] > 0.8 * math.log(24)
    assert losses[-1] < 0.5 * math.log(24)
    assert tuned.steps > 0
    write_tensors(tmp_path / "ctrl.safetensors", model.state_dict())
    again = SASRec.from_arrays(read_tensors(tmp_path / "ctrl.safetensors"), sizes)
    found, stored = (ranks(BackboneRecommender(m, "CTRL"), split) for m in (model, again))
    assert np.array_equal(found, stored)


def test_seeds_decide_the_weights(split: Split, one_hot: Any, small: MakeConfig) -> None:
    n = split.dataset.n_items
    texts = [None, *(str(number) for number in range(n))]
    tables = [train_ctrl(split, texts, one_hot(n), small(), seed)[0].item_vectors() for seed in (1, 1, 2)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.slow
def test_texts_reach_items_that_collaboration_does_not(
    settings: Callable[..., PretrainConfig], small: MakeConfig, tmp_path: Path
) -> None:
    """Every item is one user's. After the first step items of one theme lie together, so SASRec starts with themes."""
    split = leave_one_out(title_world(users=150))
    titles = split.dataset.catalogue.titles
    folder = save_tiny_encoder(tmp_path / "encoder", [title for title in titles if title])
    encoder = load_encoder(EncoderConfig(name=str(folder), tune="frozen"))
    hits = []
    for rate in (1e-9, 1e-2):
        contrast = TrainingConfig(learning_rate=rate, batch_size=128, epochs=30)
        config = small(dim=16, contrast=contrast, pretrain=settings(epochs=15, rate=3e-3, dim=16))
        made, _, _ = train_ctrl(split, titles, encoder, config, seed=0)
        hits.append(np.mean(ranks(BackboneRecommender(made, "CTRL"), split) == 1))
    assert hits[1] > hits[0] + 0.15


def test_mistakes_are_named(split: Split, one_hot: Any, small: MakeConfig) -> None:
    n = split.dataset.n_items
    with pytest.raises(DataError, match=f"3 texts came with {n} items"):
        train_ctrl(split, [None, "1", "2"], one_hot(n), small(), 0)
    with pytest.raises(ConfigError, match="CTRL is built on SASRec"):
        train_ctrl(split, [None] * (n + 1), one_hot(n), small(pretrain={"backbone": "gru4rec"}), 0)
