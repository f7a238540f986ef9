"""Vectors for users whom a model never saw: by hand, and against a plain solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmrec.cf.fold_in import least_squares, mean_of_items

VECTORS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])


def test_mean_by_hand() -> None:
    found = mean_of_items(VECTORS, torch.tensor([[0, 1, 2], [0, 0, 3], [0, 0, 0], [1, 1, 2]]))
    wanted = [[0.5, 1.0], [3.0, 4.0], [0.0, 0.0], [2 / 3, 2 / 3]]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_least_squares_by_hand() -> None:
    # (1 - x_1)² + (1 - 2 x_2)² + (x_1² + x_2²): x_1 = 1 / 2 and x_2 = 2 / 5.
    found = least_squares(VECTORS, torch.tensor([[0, 1, 2], [0, 0, 0]]), ridge=1.0)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.4], [0.0, 0.0]]))


@given(
    seed=st.integers(0, 1000),
    length=st.integers(0, 6),
    ridge=st.sampled_from([0.1, 1.0, 10.0]),
    unseen=st.sampled_from([0.0, 0.3]),
)
def test_least_squares_is_numpys(seed: int, length: int, ridge: float, unseen: float) -> None:
    rng = np.random.default_rng(seed)
    E = rng.normal(size=(9, 4))
    E[0] = 0
    items = rng.integers(1, 9, length)
    # Each square of the sum is a row of an ordinary least-squares problem.
    rows = np.concatenate([E[items], unseen**0.5 * E[1:], ridge**0.5 * np.eye(4)])
    aims = np.concatenate([np.ones(length), np.zeros(8 + 4)])
    wanted = np.linalg.lstsq(rows, aims, rcond=None)[0]
    history = torch.zeros(1, 7, dtype=torch.long)
    history[0, 7 - length :] = torch.from_numpy(items)
    found = least_squares(torch.from_numpy(E), history, ridge, unseen)
    assert found[0].numpy() == pytest.approx(wanted, abs=1e-9)
