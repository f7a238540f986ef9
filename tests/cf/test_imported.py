"""Vectors brought along: checked, stored and used by a run without training, folded in for everybody else."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from allmrec.cf import Imported, ImportedConfig, PretrainConfig, backbone_kind, import_vectors, pretrain
from allmrec.cf.fold_in import least_squares, mean_of_items
from allmrec.core.artifacts import write_tensors
from allmrec.core.config import parse_config
from allmrec.core.errors import AllmrecWarning, ArtifactError, ConfigError, DataError, UnknownIdError
from allmrec.data import InteractionDataset, SequenceBatch, Split, leave_one_out
from allmrec.testing.conformance import check_backbone
from allmrec.testing.worlds import taste_world


@pytest.fixture
def data() -> InteractionDataset:
    return taste_world(users=24, tastes=4, items_per_taste=8, length=6)


def tastes(data: InteractionDataset) -> np.ndarray:
    """Item vectors that another system may have found: the taste, and a little noise."""
    vectors = 0.1 * np.random.default_rng(0).normal(size=(data.n_items, 6))
    for user in range(data.n_users):
        vectors[data.sequence(user) - 1, user % 4] = 1
    return vectors


@pytest.fixture
def vectors(data: InteractionDataset, tmp_path: Path) -> Path:
    np.save(tmp_path / "items.npy", tastes(data))
    np.save(tmp_path / "users.npy", np.random.default_rng(1).normal(size=(2, 6)))
    (tmp_path / "items.txt").write_text("\n".join(data.items))
    (tmp_path / "users.txt").write_text("u5\nu2\n")
    found = import_vectors(
        data,
        tmp_path / "vectors.safetensors",
        tmp_path / "items.npy",
        tmp_path / "users.npy",
        tmp_path / "items.txt",
        tmp_path / "users.txt",
    )
    assert found == {"items": data.n_items, "users": 2, "dim": 6, "unknown_items": 0, "unknown_users": 0}
    return tmp_path / "vectors.safetensors"


def config(vectors: Path, **model: object) -> PretrainConfig:
    values = {"backbone": "imported", "model": {"vectors": str(vectors), **model}, "validation_negatives": 9}
    return parse_config(PretrainConfig, values, "test")


def test_held_out_targets_are_no_secret_to_vectors_from_elsewhere(data: InteractionDataset, vectors: Path) -> None:
    with pytest.warns(AllmrecWarning, match="was trained elsewhere and may have seen them"):
        pretrain(leave_one_out(data, hold_out=1), config(vectors), seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrain(leave_one_out(data), config(vectors), seed=0)


def test_a_run_uses_them_without_training(data: InteractionDataset, vectors: Path) -> None:
    wanted = config(vectors)
    split = leave_one_out(data)
    backbone, log = pretrain(split, wanted, seed=0)
    assert (log.steps, len(log.records)) == (0, 1)
    assert {"ndcg@10", "hit@1"} <= set(log.records[0])
    torch.testing.assert_close(backbone.item_vectors()[1:], torch.from_numpy(tastes(data)).float())
    users = np.random.default_rng(1).normal(size=(2, 6))
    batch = SequenceBatch(np.array([5, 2, 3]), np.array([[1, 2], [1, 2], [1, 2]]))
    found = backbone.user_vectors(batch)
    assert found[:2].numpy() == pytest.approx(users, abs=1e-6)
    torch.testing.assert_close(found[2], least_squares(backbone.item_vectors(), torch.tensor([[1, 2]]), 1.0, 0.1)[0])
    # As a run stores and reads it, without the file that it came from.
    vectors.unlink()
    loaded = backbone_kind("imported").load(backbone.state_dict(), wanted.model)
    assert torch.equal(loaded.user_vectors(batch), found)


def test_it_conforms(data: InteractionDataset, tmp_path: Path) -> None:
    def imported(split: Split) -> Imported:
        E = np.zeros((split.dataset.n_items, 8))
        for user in range(split.dataset.n_users):
            E[split.dataset.sequence(user) - 1, user % 4] = 1
        np.save(tmp_path / "world.npy", E)
        import_vectors(split.dataset, tmp_path / "world.safetensors", tmp_path / "world.npy")
        model = {"vectors": str(tmp_path / "world.safetensors"), "max_history": 6}
        return Imported.of_config(split, ImportedConfig(**model))

    assert set(check_backbone(imported).values()) == {"passed"}


def test_rules(data: InteractionDataset, vectors: Path) -> None:
    batch = SequenceBatch(np.array([5, -1]), np.array([[0, 3, 9], [0, 0, 0]]))
    always = {"always_fold_in": True}
    mean = pretrain(leave_one_out(data), config(vectors, rule="mean", **always), seed=0)[0]
    wanted = mean_of_items(mean.item_vectors(), torch.tensor([[3, 9], [0, 0]]))
    torch.testing.assert_close(mean.user_vectors(batch), wanted)
    solved = pretrain(leave_one_out(data), config(vectors, ridge=2.0, unseen=0.1, **always), seed=0)[0]
    wanted = least_squares(mean.item_vectors(), torch.tensor([[3, 9], [0, 0]]), 2.0, 0.1)
    torch.testing.assert_close(solved.user_vectors(batch), wanted)
    states = solved.position_vectors(torch.tensor([[3, 9]]), torch.tensor([-1]))
    torch.testing.assert_close(states[0, 0], least_squares(solved.item_vectors(), torch.tensor([[3]]), 2.0, 0.1)[0])
    with pytest.raises(UnknownIdError, match="User number 24"):
        solved.user_vectors(SequenceBatch(np.array([24]), np.array([[1]])))


def test_other_vectors_in_the_same_place_are_noticed(data: InteractionDataset, vectors: Path, tmp_path: Path) -> None:
    before = config(vectors)
    import_vectors(data, vectors, tmp_path / "items.npy")
    assert config(vectors) != before  # so a stage's key differs, and the stage is made anew
    with pytest.raises(ConfigError, match="has changed"):
        pretrain(leave_one_out(data), before, seed=0)


def test_other_data_is_noticed(vectors: Path) -> None:
    other = taste_world(users=24, tastes=4, items_per_taste=8, length=6, seed=1)
    renamed = InteractionDataset.from_sequences(
        {f"new {user}": [other.items.id(int(i)) for i in other.sequence(user)] for user in range(other.n_users)},
        items=list(other.items),
    )
    with pytest.raises(ConfigError, match="was made for other users than the 24"):
        pretrain(leave_one_out(renamed), config(vectors), seed=0)


def test_the_file_must_be_named_and_there() -> None:
    with pytest.raises(ConfigError, match=r"vectors: Field required"):
        parse_config(PretrainConfig, {"backbone": "imported"}, "test")
    with pytest.raises(ConfigError, match="there is no file nowhere"):
        parse_config(PretrainConfig, {"backbone": "imported", "model": {"vectors": "nowhere"}}, "test")


def test_users_of_another_width_are_an_error(data: InteractionDataset, tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", tastes(data))
    np.save(tmp_path / "users.npy", np.ones((data.n_users, 5)))
    with pytest.raises(DataError, match="users' vectors have 5 numbers and items' 6"):
        import_vectors(data, tmp_path / "out.safetensors", tmp_path / "items.npy", tmp_path / "users.npy")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_something_else_wrote_is_an_error(data: InteractionDataset, tmp_path: Path) -> None:
    write_tensors(tmp_path / "foreign.safetensors", {"weight": torch.zeros(2, 2)})
    with pytest.raises(ArtifactError, match=r"holds \['weight'\]; expected"):
        pretrain(leave_one_out(data), config(tmp_path / "foreign.safetensors"), seed=0)
