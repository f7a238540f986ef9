"""Item vectors made of texts: trained, stored and loaded like a table's, and there for items that nobody has met."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from allmrec.cf import PretrainConfig, backbone_kind, pretrain
from allmrec.cf.next_item import NextItemLoss
from allmrec.cf.pretrain import SequenceTask
from allmrec.cf.text_items import TextItems, of_texts, prepared, with_new_items
from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.data.batching import SequenceBatch
from allmrec.data.splitting import Split, leave_one_out
from allmrec.testing.worlds import taste_world

MODEL = {"dim": 16, "max_history": 8, "dropout": 0.1, "items": "texts"}
SOFTMAX = {"loss": "softmax", "similarity": "cosine", "temperature": 0.1}


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(taste_world())


@pytest.fixture(scope="module")
def texts(split: Split) -> torch.Tensor:
    """Texts that tell a title's taste, with noise; row 0 and item 5 have none."""
    rng = np.random.default_rng(0)
    n = split.dataset.n_items
    # Items that the same users interact with stand together.
    tastes = np.zeros(n + 1, dtype=int)
    for user in range(split.dataset.n_users):
        tastes[split.dataset.sequence(user)] = user % 10
    vectors = rng.normal(size=(10, 12))[tastes] + 0.3 * rng.normal(size=(n + 1, 12)) + 4
    vectors[[0, 5]] = 0
    return torch.from_numpy(vectors).float()


def config(backbone: str = "sasrec", **training: object) -> PretrainConfig:
    wanted = {"epochs": 20, "learning_rate": 3e-3, "batch_size": 64} | training
    return PretrainConfig.model_validate(
        {
            "backbone": backbone,
            "model": MODEL | {"objective": SOFTMAX},
            "validation_negatives": "all",
            "training": wanted,
        }
    )


def test_prepared_vectors_are_whitened_and_of_length_one(texts: torch.Tensor) -> None:
    found, whitening = prepared(texts)
    present = texts.abs().sum(1) > 0
    torch.testing.assert_close(whitening.centre, texts[present].mean(0))
    assert found[[0, 5]].abs().sum() == 0
    torch.testing.assert_close(found[present].norm(dim=1), torch.ones(int(present.sum())))
    again, _ = prepared(texts[[3, 0, 7]], whitening)
    torch.testing.assert_close(again, found[[3, 0, 7]])
    with pytest.raises(DataError, match="No item has a text"):
        prepared(torch.zeros(3, 4))


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "nextitnet"])
def test_it_is_stored_and_loaded(backbone: str, split: Split, texts: torch.Tensor) -> None:
    settings = config(backbone, epochs=1)
    made, _ = pretrain(split, settings, 0, texts=texts)
    again = backbone_kind(backbone).load(made.state_dict(), settings.model)
    batch = SequenceBatch(np.array([-1, -1]), np.array([[0, 0, 3], [7, 1, 2]]))
    with torch.no_grad():
        torch.testing.assert_close(again.item_vectors(), made.item_vectors())
        torch.testing.assert_close(again.user_vectors(batch), made.user_vectors(batch))
    assert again.item_vectors()[0].abs().sum() == 0
    with pytest.raises(ArtifactError, match=r"no item_emb\.weight"):
        backbone_kind(backbone).load(made.state_dict(), settings.model.model_copy(update={"items": "ids"}))


def test_vectors_that_are_kept_are_those_of_the_weights(texts: torch.Tensor) -> None:
    items = TextItems(*prepared(texts), 6, dropout=0.0)
    with torch.no_grad():
        before = items.eval().weight
        assert items.weight is before
        items.train()
        items.network[0].weight.mul_(2)
        assert not torch.equal(items.eval().weight, before)
    with items.train().kept():
        assert items.weight is items.weight
        assert items.weight.requires_grad
    assert items.weight is not items.weight


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "nextitnet"])
def test_a_sample_makes_the_vectors_that_it_looks_at(backbone: str, split: Split, texts: torch.Tensor) -> None:
    """The loss and its gradients are those of a plain softmax over the sample, by vectors of the whole catalogue."""
    model_settings = MODEL | {"objective": SOFTMAX | {"exact_below": 1, "sample": 20}, "dropout": 0.0}
    settings = PretrainConfig.model_validate(
        {"backbone": backbone, "model": model_settings, "validation_negatives": "all", "training": {"batch_size": 8}}
    )
    kind = backbone_kind(backbone)
    model = of_texts(kind.build(split.dataset.n_items, split.dataset.n_users, settings.model), texts)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = SequenceTask(model, split, settings, seed=0).batches(0)[0]
    assert batch.competing is not None
    assert len(batch.competing) < split.dataset.n_items
    whole = model.item_vectors()
    states = model.position_vectors(torch.from_numpy(batch.histories), torch.from_numpy(batch.users))
    targets = torch.from_numpy(batch.targets)
    scores = states[targets != 0] @ whole[batch.competing].T + torch.from_numpy(batch.offsets)
    wanted = F.cross_entropy(scores, torch.searchsorted(torch.from_numpy(batch.competing), targets[targets != 0]))
    found = NextItemLoss(model).of(batch)
    torch.testing.assert_close(found, wanted)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours, theirs = (torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, wanted))
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_what_texts_tell_is_learned(split: Split, texts: torch.Tensor) -> None:
    made, log = pretrain(split, config(), 0, texts=texts)
    # Ten tastes of twelve items each: whoever knows the taste finds the item among twelve.
    assert log.best_value > 0.25
    shuffled = texts[torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(len(texts) - 1)])]
    assert pretrain(split, config(epochs=20), 0, texts=shuffled)[1].best_value < log.best_value
    assert isinstance(made.item_emb, TextItems)


def test_new_items_have_vectors_at_once(split: Split, texts: torch.Tensor) -> None:
    made, _ = pretrain(split, config(epochs=1), 0, texts=texts)
    before = made.item_vectors()
    wider = with_new_items(made, texts[[7, 5, 9]])
    assert (made.n_items, wider.n_items) == (split.dataset.n_items, split.dataset.n_items + 3)
    with torch.no_grad():
        torch.testing.assert_close(made.item_vectors(), before)
        found = wider.item_vectors()
    torch.testing.assert_close(found[: len(before)], before)
    torch.testing.assert_close(found[len(before) :], before[[7, 5, 9]])
    histories = np.array([[0, 3, 9], [0, 3, len(before) + 2]])
    x = wider.user_vectors(SequenceBatch(np.array([-1, -1]), histories))
    torch.testing.assert_close(x[0], x[1])


def test_without_texts_it_is_refused(split: Split) -> None:
    with pytest.raises(ConfigError, match=r"model\.items of sasrec is texts"):
        pretrain(split, config(), 0)
