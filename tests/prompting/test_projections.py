"""F_U begins as F_I where it is asked to."""

from __future__ import annotations

import torch
from torch import nn

from allmrec.core.seeding import seeded_torch
from allmrec.prompting.projections import ProjectionConfig, seeded_projections


def projections(item_dim: int) -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    with seeded_torch(0, "projections"):
        users, items = seeded_projections(6, item_dim, 12, ProjectionConfig(), 0.1)
        vectors = torch.randn(40, 6)
        theirs = vectors if item_dim == 6 else torch.sigmoid(vectors @ torch.randn(6, item_dim) * 0.3)
    items.standardise(theirs)
    users.align_to(items, vectors, theirs)
    return users.eval(), items.eval(), vectors, theirs


def test_with_the_same_inputs_both_are_the_same() -> None:
    users, items, vectors, _ = projections(6)
    torch.testing.assert_close(users(vectors), items(vectors), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(users(-3 * vectors), items(-3 * vectors), rtol=1e-3, atol=1e-4)


def test_with_other_inputs_an_item_is_its_own_nearest() -> None:
    users, items, vectors, theirs = projections(9)
    similarity = nn.functional.cosine_similarity(users(vectors)[:, None], items(theirs)[None], dim=-1)
    assert (similarity.argmax(dim=1) == torch.arange(40)).float().mean() > 0.9


def test_they_are_trained_apart() -> None:
    users, items, vectors, _ = projections(6)
    before = items.second.weight.clone()
    users.second.weight.data.add_(1)
    assert torch.equal(items.second.weight, before)
    assert not torch.allclose(users(vectors), items(vectors))


def test_outputs_begin_with_the_moments_that_are_asked_for() -> None:
    with seeded_torch(0, "moments"):
        users, _ = seeded_projections(6, 6, 12, ProjectionConfig(hidden=400, scale="embeddings"), 0.1)
        mean = torch.linspace(-0.2, 0.3, 12)
        root = torch.randn(12, 12) * 0.1
        users.start_like(mean, root @ root.T)
        outputs = users(torch.randn(4000, 6)).detach()
    # The activation's own mean is added on top, so the single components scatter.
    ratio = (outputs - mean).square().mean(0) / (root @ root.T).diagonal()
    assert 0.7 < ratio.mean() < 2.0
    assert ratio.max() < 8
