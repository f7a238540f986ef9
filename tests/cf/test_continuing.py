"""A CF model that goes on from an earlier one: rows by id, everything else as it was, and a shorter way to the same figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.continuing import EarlierWeights, earlier_numbers, take_over
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.registry import backbone_kind
from allmrec.cf.text_items import of_texts
from allmrec.core.errors import ArtifactError
from allmrec.core.training import TrainingConfig, TrainingLog
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.testing.worlds import taste_world

BACKBONES = ["sasrec", "gru4rec", "nextitnet", "ncf"]


def grown(data: InteractionDataset, cut: int = 1) -> tuple[InteractionDataset, InteractionDataset]:
    """A world before its last interactions, its last users and an item, and as it is; numbers of the same ids differ."""
    sequences = {
        data.users.id(user): [data.items.id(int(i)) for i in data.sequence(user)] for user in range(data.n_users)
    }
    late = data.items.id(data.n_items)
    kept = list(sequences)[: -data.n_users // 5]
    before = {user: [item for item in sequences[user][:-cut] if item != late] for user in kept}
    now = {user: sequences[user] for user in reversed(sequences)}
    return InteractionDataset.from_sequences(before), InteractionDataset.from_sequences(
        now, items=[*reversed(list(data.items))]
    )


def build(name: str, n_items: int, n_users: int) -> SequenceBackbone:
    kind = backbone_kind(name)
    return kind.build(n_items, n_users, kind.config())


@pytest.mark.parametrize("name", BACKBONES)
def test_old_items_and_users_keep_their_rows_and_new_ones_are_initialised(name: str) -> None:
    torch.manual_seed(0)
    then, now = build(name, 3, 2), build(name, 4, 3)
    fresh = {key: tensor.clone() for key, tensor in now.state_dict().items()}
    # Items of now were 3, new, 1, 2; users were new, 1, 0.
    take_over(now, EarlierWeights(then.state_dict(), np.array([0, 3, 0, 1, 2]), np.array([-1, 1, 0])))
    before, after = then.state_dict(), now.state_dict()
    for key, tensor in after.items():
        if key == "item_emb.weight":
            assert torch.equal(tensor[[1, 3, 4]], before[key][[3, 1, 2]])
            assert torch.equal(tensor[[0, 2]], fresh[key][[0, 2]])
        elif key in now.user_tables:
            assert torch.equal(tensor[[1, 2]], before[key][[1, 0]])
            assert torch.equal(tensor[0], fresh[key][0])
        else:
            assert torch.equal(tensor, before[key]), key


def test_items_made_of_texts_keep_their_vectors_when_others_come() -> None:
    """Texts of new items would turn the directions of a whitening that is fitted again, which the weights know nothing of."""
    torch.manual_seed(0)
    kind = backbone_kind("sasrec")
    texts = torch.cat([torch.zeros(1, 12), torch.randn(40, 12)])
    more = torch.cat([texts, 3 * torch.randn(24, 12) + 1])
    then = of_texts(kind.build(40, 2, kind.config(items="texts")), texts).eval()
    earlier = EarlierWeights(then.state_dict(), np.r_[np.arange(41), np.zeros(24, np.int64)], np.arange(2))
    now = of_texts(kind.build(64, 2, kind.config(items="texts")), more, earlier.tensors).eval()
    take_over(now, earlier)
    with torch.no_grad():
        torch.testing.assert_close(now.item_vectors()[:41], then.item_vectors())
        assert bool((now.item_vectors()[41:].abs().sum(dim=1) > 0).all())
        anew = of_texts(kind.build(64, 2, kind.config(items="texts")), more).eval()
    with pytest.raises(ArtifactError, match="item_emb"):
        take_over(anew, earlier)


def test_weights_of_another_size_are_refused() -> None:
    then, now = build("sasrec", 3, 2), build("sasrec", 3, 2)
    tensors = {**then.state_dict(), "pos_emb.weight": torch.zeros(7, 50)}
    with pytest.raises(ArtifactError, match=r"pos_emb\.weight is missing, superfluous or of another shape"):
        take_over(now, EarlierWeights(tensors, np.arange(4), np.arange(2)))
    del tensors["pos_emb.weight"]
    with pytest.raises(ArtifactError, match=r"pos_emb\.weight is missing"):
        take_over(now, EarlierWeights(tensors, np.arange(4), np.arange(2)))


def steps_until(log: TrainingLog, figure: float) -> float:
    """Steps of the first validation that is as good."""
    return next(record["step"] for record in log.records if record["ndcg@10"] >= figure)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_it_reaches_the_cold_models_figure_in_fewer_steps_and_the_same_way_each_time(name: str) -> None:
    before, now = grown(taste_world(users=60, tastes=3, items_per_taste=15, length=12))
    training = TrainingConfig(learning_rate=5e-3, batch_size=16, epochs=20, validate_every=4)
    config = PretrainConfig.model_validate(
        {"backbone": name, "model": {"dim": 16, "max_history": 12, "dropout": 0.1}, "training": training}
    )
    earlier = pretrain(leave_one_out(before), config, 0, device="cpu")[0]
    items = np.concatenate([[0], earlier_numbers(now.items, before.items, 0)])
    weights = EarlierWeights(earlier.state_dict(), items, earlier_numbers(now.users, before.users, -1))
    split = leave_one_out(now)
    cold = pretrain(split, config, 0, device="cpu")[1]
    (warm, log), (again, _) = (pretrain(split, config, 0, device="cpu", earlier=weights) for _ in range(2))
    assert log.records[0]["step"] == 0
    good = 0.97 * cold.best_value  # the best of twenty validations is partly luck
    assert 4 * steps_until(log, good) < steps_until(cold, good)
    for one, other in zip(warm.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
