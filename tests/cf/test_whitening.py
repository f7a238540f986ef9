"""Whitening: uncorrelated directions of variance 1, the same for new vectors, and not more of them than vectors can tell."""

from __future__ import annotations

import pytest
import torch

from allmrec.cf.whitening import Whitening
from allmrec.core.errors import DataError


def test_what_is_whitened_has_mean_0_and_the_identity_as_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(400, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 5
    present = torch.arange(400) > 0
    whitening = Whitening.fit(mixed, present)
    found = whitening.of(mixed, present)
    assert found[0].abs().sum() == 0
    torch.testing.assert_close(found[1:].mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1:].T @ found[1:] / 399, torch.eye(6), atol=1e-3, rtol=0)
    few = Whitening.fit(mixed, present, 2)
    torch.testing.assert_close(few.of(mixed, present), found[:, :2])
    # The direction of the greatest variance comes first.
    centred = mixed[1:] - mixed[1:].mean(0)
    first = torch.linalg.eigh(centred.T @ centred)[1][:, -1]
    assert torch.corrcoef(torch.stack([found[1:, 0], centred @ first]))[0, 1].abs() > 0.999


@pytest.mark.parametrize(("rows", "kept"), [(1, 1), (3, 1), (8, 2), (40, 6)])
def test_few_vectors_keep_few_directions(rows: int, kept: int) -> None:
    vectors = torch.randn(rows, 6, generator=torch.Generator().manual_seed(0))
    found = Whitening.fit(vectors, torch.ones(rows, dtype=torch.bool)).of(vectors, torch.ones(rows, dtype=torch.bool))
    assert found.shape == (rows, kept)
    assert torch.isfinite(found).all()


def test_equal_vectors_are_told_apart_by_nothing() -> None:
    vectors = torch.full((20, 4), 3.0)
    found = Whitening.fit(vectors, torch.ones(20, dtype=torch.bool)).of(vectors, torch.ones(20, dtype=torch.bool))
    assert torch.isfinite(found).all()
    with pytest.raises(DataError, match="No item has a text"):
        Whitening.fit(vectors, torch.zeros(20, dtype=torch.bool))
