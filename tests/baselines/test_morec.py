"""MoRec: against SASRec where texts are one-hot, what it learns from titles, what is tuned, save and load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.baselines.conftest import ranks

from allmrec.baselines.given_items import GivenItemsTask, SASRecOnGivenItems
from allmrec.baselines.morec import MoRec, MoRecConfig, train_morec
from allmrec.cf import BackboneRecommender, PretrainConfig, SASRec, SASRecConfig
from allmrec.cf.pretrain import SequenceTask
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.seeding import seeded_torch
from allmrec.data import Split, leave_one_out
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.worlds import title_world
from allmrec.text import EncoderConfig, TextBank, load_encoder

MakeSettings = Callable[..., PretrainConfig]


def test_with_one_hot_texts_it_is_sasrec_with_a_linear_table(
    split: Split, one_hot: Any, sizes: SASRecConfig, settings: MakeSettings
) -> None:
    """E_i = W e_i + b: the loss is SASRec's on that table, and the gradient of column i of W that of row i."""
    n = split.dataset.n_items
    encoder = one_hot(n)
    bank = TextBank(encoder, [None, *(str(number) for number in range(n))])
    with seeded_torch(0, "test"):
        model = MoRec(encoder, bank, sizes)
    plain = model.sasrec.with_items(model.all_vectors())
    assert torch.equal(plain.item_vectors()[1:], model.dense.weight.T + model.dense.bias)
    given = GivenItemsTask(model.sasrec, model, split, settings(), seed=5)
    usual = SequenceTask(plain, split, settings(), seed=5)
    for number in (0, 1):
        batch = usual.batches(0)[number]
        encoder.asked.clear()
        ours, theirs = (task.losses(batch)["recommendation"] for task in (given, usual))
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
        assert len(encoder.asked) == len(set(encoder.asked)) > 0
        model.zero_grad()
        plain.zero_grad()
        ours.backward()
        theirs.backward()
        gradient = plain.item_emb.weight.grad[1:]
        torch.testing.assert_close(model.dense.weight.grad.T, gradient, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(model.dense.bias.grad, gradient.sum(0), rtol=1e-4, atol=1e-6)
        expected = dict(plain.named_parameters())
        for name, parameter in model.sasrec.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        assert given.validate() == pytest.approx(usual.validate())


def test_the_table_is_given_for_the_block_only(sizes: SASRecConfig) -> None:
    model = SASRecOnGivenItems(sizes)
    table = torch.randn(5, 8)
    assert not any("item_emb" in name for name in [*model.state_dict(), *dict(model.named_parameters())])

    def fail() -> None:
        with model.given(table):
            assert model.item_vectors() is table
            assert model.n_items == 4
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (model.n_items, len(model.item_vectors())) == (1, 1)


def test_items_without_text_share_the_bias(one_hot: Any, sizes: SASRecConfig) -> None:
    encoder = one_hot(4)
    model = MoRec(encoder, TextBank(encoder, [None, "1", None, "2", None]), sizes)
    table = model.all_vectors()
    assert torch.equal(table[2], model.dense.bias)
    assert torch.equal(table[4], model.dense.bias)
    assert not table[0].any()
    torch.testing.assert_close(model.vectors(np.array([1, 2, 3, 4])), table[1:])


@pytest.mark.parametrize("tune", ["frozen", 1, "full"])
def test_it_trains_what_is_tuned_and_a_file_gives_the_same_ranking(
    split: Split, sizes: SASRecConfig, settings: MakeSettings, tmp_path: Path, tune: str | int
) -> None:
    encoder = load_encoder(EncoderConfig(name=str(save_tiny_encoder(tmp_path / "encoder")), tune=tune))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    texts = [text or None for text in split.dataset.catalogue.item_texts()]
    model, log = train_morec(split, texts, encoder, MoRecConfig(pretrain=settings()), seed=1)
    assert log.steps > 0
    moved = [name for name, tensor in encoder.state_dict().items() if not torch.equal(before[name], tensor)]
    assert bool(moved) == (tune != "frozen")
    write_tensors(tmp_path / "morec.safetensors", model.state_dict())
    again = SASRec.from_arrays(read_tensors(tmp_path / "morec.safetensors"), sizes)
    found, stored = (ranks(BackboneRecommender(m, "MoRec"), split) for m in (model, again))
    assert np.array_equal(found, stored)


def test_seeds_decide_the_weights(split: Split, one_hot: Any, settings: MakeSettings) -> None:
    n = split.dataset.n_items
    texts = [None, *(str(number) for number in range(n))]
    runs = [train_morec(split, texts, one_hot(n), MoRecConfig(pretrain=settings()), seed)[0] for seed in (1, 1, 2)]
    tables = [run.item_vectors() for run in runs]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.slow
def test_titles_are_learned_where_collaboration_shows_nothing(settings: MakeSettings, tmp_path: Path) -> None:
    """Every item is one user's: SASRec cannot know it. MoRec reads the theme from its title."""
    split = leave_one_out(title_world(users=150))
    titles = split.dataset.catalogue.titles
    folder = save_tiny_encoder(tmp_path / "encoder", [title for title in titles if title])
    encoder = load_encoder(EncoderConfig(name=str(folder), tune="full"))
    config = MoRecConfig(pretrain=settings(epochs=25, rate=3e-3, dim=16))
    untrained = MoRecConfig(pretrain=settings(epochs=1, rate=1e-9, dim=16))
    hits = []
    for chosen in (untrained, config):
        model, _ = train_morec(split, titles, encoder, chosen, seed=0)
        hits.append(np.mean(ranks(BackboneRecommender(model, "MoRec"), split) == 1))
    assert hits[1] > max(0.6, hits[0] + 0.2)


def test_mistakes_are_named(split: Split, one_hot: Any, settings: MakeSettings) -> None:
    n = split.dataset.n_items
    with pytest.raises(DataError, match=f"3 texts came with {n} items"):
        train_morec(split, [None, "1", "2"], one_hot(n), MoRecConfig(pretrain=settings()), 0)
    with pytest.raises(ConfigError, match="MoRec is built on SASRec, and its configuration names 'gru4rec'"):
        train_morec(split, [None] * (n + 1), one_hot(n), MoRecConfig(pretrain={"backbone": "gru4rec"}), 0)
