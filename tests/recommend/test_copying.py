"""Copying before recommending: the loss is the title loss of users who are at an item, and it is learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.recommend.conftest import WORLD, queries, ranker

from allmrec.core.resume import Checkpoint
from allmrec.data.splitting import leave_one_out
from allmrec.recommend.copying import CopyingConfig, CopyingTask
from allmrec.recommend.score import mean_title_loss
from allmrec.recommend.tune import TuneConfig, tune
from allmrec.testing.tiny_lm import tiny_language_model

COPY = {"template": {"form": "copy"}, "budget": {"title_tokens": 4}}


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_the_loss_is_that_of_users_who_are_at_an_item(kind: str) -> None:
    own = ranker(tiny_language_model(kind), **COPY).eval()  # type: ignore[arg-type]  # fields by name
    items, noise = np.asarray([7, 2, 9]), torch.zeros(3, own.backbone.dim)
    vectors = own.backbone.item_vectors()[torch.from_numpy(items)]
    losses = []
    for item, vector in zip(items.tolist(), vectors, strict=True):
        answer = [*own.builder.titles[item], own.lm.eos_id]
        prompts = own.prompts(queries(1), [items])
        spliced = own.spliced(prompts, vector[None], [answer[:-1]])
        hidden = own.lm.hidden(spliced.embeddings, spliced.visible, spliced.positions)
        losses.append((mean_title_loss(own.lm, hidden, [len(prompts[0])], [answer]), len(answer)))
    wanted = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
    torch.testing.assert_close(own.copying_loss(items, noise), wanted)
    assert not torch.allclose(own.copying_loss(items, noise + 1), wanted)


def test_lists_grow_and_are_drawn_alike() -> None:
    own = ranker(tiny_language_model(), **COPY)
    task = CopyingTask(own, CopyingConfig(steps=40, items=16), WORLD.n_items, 3)
    batches, again = task.batches(0), task.batches(0)
    sizes = [len(batch.items) for batch in batches]
    assert sizes[0] == 4
    assert sizes == sorted(sizes)
    assert sizes[20:] == [16] * 20
    for one, other in zip(batches, again, strict=True):
        assert np.array_equal(one.items, other.items)
        assert torch.equal(one.noise, other.noise)
        assert len(set(one.items.tolist())) == len(one.items)


CONFIG = TuneConfig.model_validate(
    {
        "prompt": COPY,
        "candidates": 6,
        "pool": 8,
        "validation_users": 0,
        "copying": {"steps": 30, "items": 6, "noise": 0.1},
        "training": {"learning_rate": 3e-3, "batch_size": 4, "epochs": 1},
    }
)


def test_it_is_learned_before_the_samples(tmp_path: Path) -> None:
    own = ranker(tiny_language_model(), **COPY)
    items, noise = np.arange(1, 7), torch.zeros(6, own.backbone.dim)
    before = float(own.copying_loss(items, noise).detach())
    tune(own, leave_one_out(WORLD), CONFIG, Checkpoint(tmp_path / "tune.safetensors"))
    assert float(own.copying_loss(items, noise).detach()) < before - 0.5
    without = ranker(tiny_language_model(), **COPY)
    tune(without, leave_one_out(WORLD), CONFIG.model_copy(update={"copying": CopyingConfig()}))
    assert any(
        not torch.equal(a, b) for a, b in zip(own.state_dict().values(), without.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("prompt", [{"user_vector": False}, {"item_vectors": False}, {"template": {"form": "paper"}}])
def test_a_prompt_that_cannot_copy_goes_without(prompt: dict[str, object]) -> None:
    own = ranker(tiny_language_model(), **{**COPY, **prompt})  # type: ignore[arg-type]  # fields by name
    assert not own.can_copy
    config = CONFIG.model_copy(update={"prompt": own.config})
    assert tune(own, leave_one_out(WORLD), config).steps > 0
