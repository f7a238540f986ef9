"""EASE: the closed form against its definition, a world that collaboration explains, save and load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.baselines.conftest import ranks

from allmrec.baselines.ease import EASE, EASEConfig
from allmrec.baselines.item_knn import training_matrix
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data import InteractionDataset, leave_one_out
from allmrec.ranking import Query, Ranker
from allmrec.testing.worlds import taste_world


def test_each_column_is_a_ridge_regression_on_the_other_items() -> None:
    """What the closed form stands for, column by column: item j from all others, j itself left out."""
    split = leave_one_out(taste_world(users=60, tastes=3, items_per_taste=6, length=5))
    taken = training_matrix(split).toarray()[:, 1:].astype(np.float64)
    n = taken.shape[1]
    expected = np.zeros((n, n))
    for j in range(n):
        others = [i for i in range(n) if i != j]
        x = taken[:, others]
        expected[others, j] = np.linalg.solve(x.T @ x + 3.0 * np.eye(n - 1), x.T @ taken[:, j])
    weights = EASE.of(split, EASEConfig(regularisation=3.0)).tensors()["weights"].numpy()
    np.testing.assert_allclose(weights[1:, 1:], expected, atol=1e-6)
    assert not weights[0].any()
    assert not weights[:, 0].any()


def test_weights_are_those_of_the_plain_inverse() -> None:
    split = leave_one_out(taste_world())
    taken = training_matrix(split).toarray()[:, 1:].astype(np.float64)
    inverse = np.linalg.inv(taken.T @ taken + 2.0 * np.eye(taken.shape[1]))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    weights = EASE.of(split, EASEConfig(regularisation=2.0)).tensors()["weights"].numpy()
    np.testing.assert_allclose(weights[1:, 1:], expected, atol=1e-6)


def test_what_cannot_be_inverted_asks_for_more_regularisation() -> None:
    # Items that come together only are one and the same to the matrix.
    split = leave_one_out(InteractionDataset.from_sequences({"u": list("abcde")}))
    with pytest.raises(ConfigError, match=r"cannot be inverted .*; raise regularisation"):
        EASE.of(split, EASEConfig(regularisation=1e-300))


def test_scores_are_sums_over_what_was_taken() -> None:
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    made = EASE(weights)
    assert isinstance(made, Ranker)
    queries = [Query(np.array([1, 3, 1])), Query(np.array([], dtype=np.int64))]
    first, second = made.rank(queries, [np.array([2, 3]), np.array([2, 3])])
    # From item 1 to item 2: 6, from 3 to 2: 14; to item 3: 7 and 15. Item 1 counts once.
    assert (first.items.tolist(), first.scores.tolist()) == ([3, 2], [22.0, 20.0])
    assert (second.items.tolist(), second.scores.tolist()) == ([2, 3], [0.0, 0.0])


def test_tastes_are_found_and_a_file_gives_the_same_ranking(tmp_path: Path) -> None:
    split = leave_one_out(taste_world())
    made = EASE.of(split, EASEConfig(regularisation=10.0))
    expected = ranks(made, split)
    # A negative shares the target's taste rarely: 3 of 111 items, and then chance decides.
    assert np.mean(expected == 1) > 0.8
    write_tensors(tmp_path / "ease.safetensors", made.tensors())
    again = EASE.from_tensors(read_tensors(tmp_path / "ease.safetensors"))
    assert np.array_equal(ranks(again, split), expected)


def test_only_training_items_count() -> None:
    rows = {"u": list("abcd"), "v": list("abdc")}
    split = leave_one_out(InteractionDataset.from_sequences(rows))
    weights = EASE.of(split).tensors()["weights"]
    assert weights[1, 2] > 0
    assert not weights[3:].any()


def test_too_large_a_catalogue_is_refused_with_what_it_would_take() -> None:
    split = leave_one_out(taste_world())
    with pytest.raises(ConfigError, match=r"120 items take 0 GB; the limit is 100 items. Use ItemKNN"):
        EASE.of(split, EASEConfig(max_items=100))


def test_foreign_tensors_are_refused() -> None:
    for tensors in ({}, {"weights": torch.zeros(3)}, {"weights": torch.zeros(3, 2)}):
        with pytest.raises(ArtifactError, match="no EASE"):
            EASE.from_tensors(tensors)
