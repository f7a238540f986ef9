"""SASRec against the released program's numbers, and what its layout promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from allmrec.cf import SASRec, SASRecConfig
from allmrec.core.errors import ArtifactError
from allmrec.core.seeding import seeded_torch
from allmrec.data import SequenceBatch, left_pad

GOLDEN = Path(__file__).parent / "data" / "sasrec_released.npz"
SIZES = {"dim": 16, "max_history": 12, "blocks": 2, "heads": 1}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def weights(golden: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("weight/"): values for name, values in golden.items() if name.startswith("weight/")}


@pytest.fixture(scope="module")
def released(weights: dict[str, np.ndarray]) -> SASRec:
    return SASRec.from_arrays(weights, SASRecConfig(**SIZES, mask_padding=False))


@pytest.fixture(scope="module")
def masked(weights: dict[str, np.ndarray]) -> SASRec:
    return SASRec.from_arrays(weights, SASRecConfig(**SIZES))


def batch_of(histories: np.ndarray) -> SequenceBatch:
    return SequenceBatch(users=np.arange(len(histories)), histories=histories)


@torch.no_grad()
def test_against_the_released_program(released: SASRec, golden: dict[str, np.ndarray]) -> None:
    hidden = released.position_vectors(torch.from_numpy(golden["sequences"]))
    vectors = released.item_vectors()
    torch.testing.assert_close(hidden, torch.from_numpy(golden["hidden"]), atol=1e-5, rtol=1e-5)
    for name in ("positive", "negative"):
        logits = (hidden * vectors[torch.from_numpy(golden[f"{name}s"])]).sum(-1)
        torch.testing.assert_close(logits, torch.from_numpy(golden[f"{name}_logits"]), atol=1e-5, rtol=1e-5)
    users = released.user_vectors(batch_of(golden["sequences"]))
    scores = (users[:, None] * vectors[torch.from_numpy(golden["candidates"])]).sum(-1)
    torch.testing.assert_close(scores, torch.from_numpy(golden["candidate_scores"]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_full_histories_do_not_depend_on_the_recipe(released: SASRec, masked: SASRec) -> None:
    full = torch.arange(1, 25).reshape(2, 12)
    torch.testing.assert_close(released.position_vectors(full), masked.position_vectors(full))


@torch.no_grad()
def test_masked_padding_does_not_matter(masked: SASRec) -> None:
    history = [np.array([3, 9, 4, 17])]
    found = [masked.position_vectors(torch.from_numpy(left_pad(history, length)))[0, -4:] for length in (4, 7, 12)]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found[0], found[2], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_released_layout_is_the_same_however_a_short_batch_is_padded(released: SASRec) -> None:
    history = [np.array([3, 9, 4, 17])]
    short, full = (released.user_vectors(batch_of(left_pad(history, length))) for length in (4, 12))
    torch.testing.assert_close(short, full)


@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(masked: SASRec) -> None:
    histories = left_pad([np.array([3, 9]), np.arange(1, 13)], 12)
    alone = masked.user_vectors(batch_of(histories[:1]))
    together = masked.user_vectors(batch_of(histories))[:1]
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mask_padding", [True, False])
def test_no_position_sees_a_later_one(weights: dict[str, np.ndarray], mask_padding: bool) -> None:
    model = SASRec.from_arrays(weights, SASRecConfig(**SIZES, mask_padding=mask_padding))
    before = torch.from_numpy(left_pad([np.arange(1, 10)], 12))
    after = before.clone()
    after[0, 8:] = torch.tensor([30, 29, 28, 27])
    first, second = model.position_vectors(before), model.position_vectors(after)
    assert torch.equal(first[:, :8], second[:, :8])
    assert not torch.allclose(first[:, 8], second[:, 8])


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 12])
def test_empty_history_gives_a_vector(masked: SASRec, length: int) -> None:
    vectors = masked.user_vectors(batch_of(left_pad([np.array([], dtype=np.int64), np.array([5])], length)))
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(vectors[0], masked.last_layernorm.bias)


@torch.no_grad()
def test_only_the_most_recent_items_count(masked: SASRec) -> None:
    long = np.arange(1, 21)[None]
    torch.testing.assert_close(masked.user_vectors(batch_of(long)), masked.user_vectors(batch_of(long[:, -12:])))
    with pytest.raises(ValueError, match="looks at the last 12"):
        masked.position_vectors(torch.from_numpy(long))


def test_attention_is_torchs_own(masked: SASRec) -> None:
    ours = masked.attention_layers[0]
    theirs = torch.nn.MultiheadAttention(16, 1, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(0)
    query, hidden = (torch.randn(2, 5, 16, generator=generator) for _ in range(2))
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    wanted, _ = theirs(query, hidden, hidden, attn_mask=~causal)
    torch.testing.assert_close(ours(query, hidden, causal[None, None]), wanted)


def test_two_heads_match_torchs_own() -> None:
    config = SASRecConfig(dim=16, max_history=12, heads=4, dropout=0.0)
    with seeded_torch(0, "heads"):
        ours = SASRec(10, config).attention_layers[0]
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    wanted, _ = theirs(hidden, hidden, hidden, attn_mask=~causal)
    torch.testing.assert_close(ours(hidden, hidden, causal[None, None]), wanted)


def test_weights_that_do_not_fit_are_named(weights: dict[str, np.ndarray]) -> None:
    config = SASRecConfig(**SIZES)
    lacking = {name: values for name, values in weights.items() if name != "last_layernorm.bias"}
    with pytest.raises(ArtifactError, match=r"last_layernorm\.bias is missing"):
        SASRec.from_arrays(lacking, config)
    with pytest.raises(ArtifactError, match="extra is unknown"):
        SASRec.from_arrays({**weights, "extra": np.zeros(3)}, config)
    with pytest.raises(ArtifactError, match=r"pos_emb\.weight has shape \(12, 16\), expected \(50, 16\)"):
        SASRec.from_arrays(weights, SASRecConfig(dim=16))
    with pytest.raises(ArtifactError, match=r"no item_emb\.weight"):
        SASRec.from_arrays({"user": np.zeros(3)}, config)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide"):
        SASRecConfig(dim=16, heads=3)


def test_padding_row_starts_at_zero_and_gets_no_gradient() -> None:
    with seeded_torch(0, "padding"):
        model = SASRec(10, SASRecConfig(dim=8, max_history=4))
    model.position_vectors(torch.tensor([[0, 0, 3, 4]])).sum().backward()
    assert not model.item_vectors()[0].any()
    assert not model.item_emb.weight.grad[0].any()


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_fast_vectors_of_retrieval_are_the_users_vectors(mask_padding: bool, blocks: int) -> None:
    torch.manual_seed(0)
    model = SASRec(20, SASRecConfig(dim=8, blocks=blocks, heads=2, max_history=6, mask_padding=mask_padding)).eval()
    rng = np.random.default_rng(0)
    histories = left_pad([rng.integers(1, 21, size=length) for length in (0, 1, 3, 6, 9)], 6)
    for part in (slice(None), slice(0, 1), slice(1, 3)):
        batch = SequenceBatch(np.full(5, -1)[part], histories[part])
        with torch.no_grad():
            torch.testing.assert_close(model.fast_user_vectors(batch), model.user_vectors(batch), rtol=1e-5, atol=1e-5)
