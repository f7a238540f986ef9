"""Pre-training: known-answer worlds, the batch's loss against a plain loop, seeds and resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from allmrec.cf import (
    BackboneRecommender,
    PretrainConfig,
    SASRec,
    SASRecConfig,
    SequenceBackbone,
    ValidationSample,
    backbone_kind,
    pretrain,
)
from allmrec.cf.losses import Objective
from allmrec.cf.pretrain import SequenceTask
from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import TrainingConfig
from allmrec.data import InteractionDataset, Split, leave_one_out
from allmrec.ranking import Query
from allmrec.testing.worlds import ring_world

N_ITEMS = 40


def cyclic_world(users: int = 80, length: int = 12, hold_out: int = 0) -> Split:
    return leave_one_out(ring_world(users, N_ITEMS, length), hold_out)


def small(**changes: object) -> PretrainConfig:
    training = TrainingConfig(learning_rate=5e-3, betas=(0.9, 0.98), batch_size=32, epochs=40, validate_every=30)
    model = SASRecConfig(dim=16, max_history=8, dropout=0.1)
    return PretrainConfig(**{"model": model, "training": training, **changes})


def quick(epochs: int = 2) -> TrainingConfig:
    return TrainingConfig(learning_rate=5e-3, batch_size=32, epochs=epochs)


@pytest.fixture(scope="module")
def world() -> Split:
    return cyclic_world()


@pytest.mark.parametrize("windows", ["last", "all"])
def test_the_next_item_is_learned(world: Split, windows: str) -> None:
    backbone, log = pretrain(world, small(windows=windows), seed=0)
    queries = [Query(world.test_history(user), user) for user in range(world.dataset.n_users)]
    # Items of one's own history are never a negative, so the model says nothing about them: rank all the others.
    others = [np.setdiff1d(np.arange(1, N_ITEMS + 1), query.history) for query in queries]
    rankings = BackboneRecommender(backbone).rank(queries, others)
    hits = np.mean([ranking.items[0] == world.test[user] for user, ranking in enumerate(rankings)])
    # Over five seeds it is between 0.91 and 1; chance is one in 30.
    assert hits > 0.85
    assert log.best_value > 0.95
    assert {"ndcg@10", "hit@1", "loss/recommendation"} <= set(log.records[-1])


def test_the_loss_equals_a_plain_loop(world: Split) -> None:
    with seeded_torch(0, "plain"):
        backbone = SASRec(N_ITEMS, SASRecConfig(dim=8, max_history=8)).eval()
    task = SequenceTask(backbone, world, small(training=quick()), seed=3)
    batch = task.batches(0)[0]
    positive, negative, count = 0.0, 0.0, 0
    for row, history in enumerate(batch.histories):
        states = backbone.position_vectors(torch.from_numpy(history[None]))[0]
        for column, target in enumerate(batch.targets[row]):
            if target:
                scores = states[column] @ backbone.item_vectors()[[target, batch.negatives[row, column]]].T
                positive -= torch.log(torch.sigmoid(scores[0])).item()
                negative -= torch.log(1 - torch.sigmoid(scores[1])).item()
                count += 1
    assert task.losses(batch)["recommendation"].item() == pytest.approx((positive + negative) / count, rel=1e-5)


def test_sasrec_takes_another_objective(world: Split) -> None:
    objective = Objective(loss="sampled_softmax", negatives=5)
    with seeded_torch(0, "objective"):
        backbone = SASRec(N_ITEMS, SASRecConfig(dim=8, max_history=8, objective=objective)).eval()
    task = SequenceTask(backbone, world, small(training=quick()), seed=3)
    batch = task.batches(0)[0]
    assert batch.negatives.shape == (len(batch), 5)
    terms = []
    for row, history in enumerate(batch.histories):
        states = backbone.position_vectors(torch.from_numpy(history[None]))[0]
        for column in np.flatnonzero(batch.targets[row]):
            items = [batch.targets[row, column], *batch.negatives[row]]
            terms.append(-torch.log_softmax(states[column] @ backbone.item_vectors()[items].T, dim=0)[0].item())
    assert task.losses(batch)["recommendation"].item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert SASRecConfig().objective == Objective(loss="binary_cross_entropy", negatives=None)


def uneven_world() -> Split:
    """Users of very different lengths, as real ones are."""
    rng = np.random.default_rng(1)
    named = {
        f"u{user}": [f"{number:02d}" for number in rng.permutation(N_ITEMS)[: rng.choice([4, 5, 6, 15, 19])]]
        for user in range(70)
    }
    return leave_one_out(InteractionDataset.from_sequences(named, items=[f"{n:02d}" for n in range(N_ITEMS)]))


def task_on(split: Split, name: str, seed: int = 3) -> tuple[SequenceTask, SequenceBackbone]:
    """A task whose backbone draws no dropout."""
    model = {"dim": 8, "max_history": 16, "dropout": 0.0}
    config = PretrainConfig.model_validate({"backbone": name, "model": model, "training": quick()})
    with seeded_torch(0, name):
        backbone = backbone_kind(name).build(N_ITEMS, split.dataset.n_users, config.model)
    return SequenceTask(backbone, split, config, seed), backbone


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "ncf"])
@pytest.mark.parametrize("count", [2, 3, 40])
def test_the_parts_of_a_batch_add_up_to_its_loss(name: str, count: int) -> None:
    task, _ = task_on(uneven_world(), name)
    batch = task.batches(0)[0]
    parts = task.shares(batch, count)
    total = sum(task.losses(part)["recommendation"] * share["recommendation"] for part, share in parts if len(part))
    assert len(parts) == count
    torch.testing.assert_close(total, task.losses(batch)["recommendation"])


@pytest.mark.parametrize("name", ["gru4rec", "nextitnet"])
def test_models_of_order_learn_the_ring(world: Split, name: str) -> None:
    training = {"learning_rate": 1e-2, "batch_size": 32, "epochs": 40, "validate_every": 40}
    model = {"dim": 16, "max_history": 8, "dropout": 0.1}
    config = PretrainConfig.model_validate({"backbone": name, "model": model, "training": training})
    backbone, _ = pretrain(world, config, seed=0)
    queries = [Query(world.test_history(user), user) for user in range(world.dataset.n_users)]
    others = [np.setdiff1d(np.arange(1, N_ITEMS + 1), query.history) for query in queries]
    rankings = BackboneRecommender(backbone).rank(queries, others)
    hits = np.mean([ranking.items[0] == world.test[user] for user, ranking in enumerate(rankings)])
    assert hits > 0.95


def test_an_epoch_holds_every_row_once_and_repeats_itself(world: Split) -> None:
    task = SequenceTask(SASRec(N_ITEMS, SASRecConfig(dim=8, max_history=8)), world, small(training=quick()), seed=3)
    first, again, other = task.batches(0), task.batches(0), task.batches(1)
    assert len(first) == 3
    assert sorted(np.concatenate([batch.users for batch in first]).tolist()) == list(range(80))
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.histories, two.histories)
        assert np.array_equal(one.negatives, two.negatives)
    assert not np.array_equal(first[0].users, other[0].users)
    assert [len(batch) for batch in first[1:]] == [32, 16]


def test_held_out_items_are_never_targets() -> None:
    split = cyclic_world(hold_out=2)
    task = SequenceTask(SASRec(N_ITEMS, SASRecConfig(dim=8, max_history=20)), split, small(training=quick()), seed=0)
    for batch in task.batches(0):
        for row, user in enumerate(batch.users):
            real = batch.targets[row] != 0
            assert batch.targets[row][real].tolist() == split.train(int(user))[1:].tolist()


def test_seeds_decide_the_weights(world: Split) -> None:
    runs = [pretrain(world, small(training=quick()), seed=seed)[0].state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["item_emb.weight"], runs[2]["item_emb.weight"])


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    world: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(training=quick(3))
    wanted, _ = pretrain(world, config, seed=4)
    original, calls = SequenceTask.losses, []

    def killed(self: SequenceTask, batch: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(SequenceTask, "losses", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(world, config, seed=4, resume=Checkpoint(tmp_path / "resume.safetensors"))
    monkeypatch.undo()
    found, _ = pretrain(world, config, seed=4, resume=Checkpoint(tmp_path / "resume.safetensors"))
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in wanted.state_dict().items())


def test_validation_figures_by_hand(world: Split) -> None:
    sample = ValidationSample(world, users=2, negatives=3, length=8, seed=0)
    assert sample.candidates.shape == (2, 4)
    assert (sample.candidates[:, 0] == world.validation[sample.batch.users]).all()
    vectors = torch.zeros(N_ITEMS + 1, 1)
    vectors[torch.from_numpy(sample.candidates[0])] = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    figures = sample.figures(torch.tensor([[1.0], [0.0]]), vectors)
    # The first user's item leads; the second user's scores are all equal, and a tie counts against the model.
    assert figures["hit@1"] == 0.5
    assert figures["ndcg@10"] == pytest.approx((1 + 1 / np.log2(5)) / 2)


def test_only_training_users_validate() -> None:
    dataset = cyclic_world().dataset
    split = leave_one_out(dataset, train_users=np.arange(5))
    sample = ValidationSample(split, users=100, negatives=3, length=8, seed=0)
    assert sample.batch.users.tolist() == [0, 1, 2, 3, 4]


def test_nobody_to_validate_on_is_an_error() -> None:
    dataset = InteractionDataset.from_sequences({"a": ["x", "y"], "b": ["y", "z"]}, items=["x", "y", "z"])
    with pytest.raises(DataError, match="validation item"):
        pretrain(leave_one_out(dataset), small(), seed=0)


def test_config_knows_its_backbones_fields() -> None:
    assert isinstance(PretrainConfig().model, SASRecConfig)
    config = parse_config(PretrainConfig, {"model": {"dim": 8}}, "test")
    assert config.model == SASRecConfig(dim=8)
    assert PretrainConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ConfigError, match="widht"):
        parse_config(PretrainConfig, {"model": {"widht": 8}}, "test")
    with pytest.raises(ConfigError, match="no backbone 'gru'; known are gru4rec, imported, ncf, nextitnet, sasrec"):
        parse_config(PretrainConfig, {"backbone": "gru"}, "test")
    with pytest.raises(ValidationError, match="SASRecConfig"):
        PretrainConfig(model=TrainingConfig())
