"""Each stage's batches in parts: their weighted terms and gradients add up to those of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tiny_world import TinyWorld
from torch import Tensor, nn

from allmrec.alignment.align import AlignTask
from allmrec.alignment.autoencoders import Alignment
from allmrec.cf.pretrain import SequenceTask
from allmrec.cf.registry import backbone_kind
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import SharedTask
from allmrec.data.build import read_table
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.recommend.tune import _StageTwoTask
from allmrec.text.bank import TextBank
from allmrec.text.encoder import load_encoder


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = read_table(tiny_world.interactions, tiny_world.items)
    run = Run.create(tmp_path_factory.mktemp("shares") / "run", data, load_recipe(str(tiny_world.recipe)))
    run.train(until="align")
    return run


def pretrain_task(run: Run, **changes: Any) -> tuple[nn.Module, SequenceTask]:
    config = run.config.changed({f"pretrain.{name}": value for name, value in changes.items()}).pretrain
    kind = backbone_kind(config.backbone)
    with seeded_torch(0, "test"):
        backbone = kind.build(run.dataset.n_items, run.dataset.n_users, config.model)
    return backbone, SequenceTask(backbone, run.split, config, 0)


def align_task(run: Run, **changes: Any) -> tuple[nn.Module, AlignTask]:
    config = run.config.changed({f"align.{name}": value for name, value in changes.items()})
    encoder = load_encoder(config.encoder)
    with seeded_torch(0, "test"):
        alignment = Alignment(run.backbone().dim, encoder, config.align.joint_dim)
    texts = [None, *[text or None for text in run.dataset.catalogue.item_texts(config.item_text)][1:]]
    return alignment, AlignTask(alignment, run.split, run.backbone(), TextBank(encoder, texts), config.align, 0)


def tune_task(run: Run, **changes: Any) -> tuple[nn.Module, _StageTwoTask]:
    ranker = run.ranker(trained=False)
    config = run.config.changed({f"tune.{name}": value for name, value in changes.items()}).tune
    return ranker, _StageTwoTask(ranker, run.split, config, 0)


CASES = {
    "pretrain": (pretrain_task, {"training.batch_size": 9}),
    "align": (align_task, {"training.batch_size": 9}),
    "align without matching": (align_task, {"training.batch_size": 9, "matching_weight": 0.0}),
    "tune": (tune_task, {"training.batch_size": 5, "samples_per_epoch": None}),
    "tune without titles": (tune_task, {"training.batch_size": 5, "title_weight": 0.0}),
}


def gradients(module: nn.Module, terms: Mapping[str, Tensor]) -> list[Tensor | None]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return list(torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters, allow_unused=True))


@pytest.mark.parametrize("count", [2, 3, 20])
@pytest.mark.parametrize("case", CASES)
def test_parts_add_up_to_the_batch(case: str, count: int, run: Run) -> None:
    make, changes = CASES[case]
    module, task = make(run, **changes)
    module.eval()  # without dropout, which draws for each part
    assert isinstance(task, SharedTask)
    for batch in task.batches(0)[:3]:
        whole = dict(task.losses(batch))
        expected = gradients(module, whole)
        parts = task.shares(batch, count)
        assert parts is not None
        assert len(parts) == count
        terms = dict.fromkeys(whole, 0.0)
        found: list[Any] = [0.0] * len(expected)
        for part, shares in parts:
            assert shares.keys() == whole.keys()
            if not any(shares.values()):
                continue
            weighted = {name: shares[name] * term for name, term in task.losses(part).items()}
            terms = {name: value + float(weighted[name].detach()) for name, value in terms.items()}
            added = gradients(module, weighted)
            found = [old if new is None else old + new for old, new in zip(found, added, strict=True)]
        assert terms == pytest.approx({name: float(value.detach()) for name, value in whole.items()}, rel=1e-5)
        for mine, theirs in zip(found, expected, strict=True):
            if theirs is not None:
                torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-4)


def test_where_two_means_of_different_divisors_are_one_term_nothing_is_shared(run: Run) -> None:
    """One item of the world has no text, so some batches cannot be shared with `reconstructed = "both"` and some can."""
    _, task = align_task(run, **{"training.batch_size": 4, "reconstructed": "both"})
    lacking = int(run.dataset.items.number("i7"))
    answers = {
        bool(lacking in batch.positives or lacking in batch.negatives): task.shares(batch, 2) is None
        for epoch in range(8)
        for batch in task.batches(epoch)
    }
    assert answers == {True: True, False: False}
