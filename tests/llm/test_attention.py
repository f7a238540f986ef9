"""Attention weights of one place: those of a softmax written out by hand, and those that transformers gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from allmrec.core.errors import ConfigError
from allmrec.llm.masks import additive_mask
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.testing.tiny_lm import tiny_language_model

PLACES = torch.tensor([8, 5])
POSITIONS = torch.arange(9).expand(2, 9)


@pytest.fixture(params=["opt", "llama"])
def lm(request: pytest.FixtureRequest) -> TransformersLM:
    return tiny_language_model(request.param)


def inputs(lm: TransformersLM) -> Tensor:
    return torch.randn(2, 9, lm.dim, generator=torch.Generator().manual_seed(3))


def two_blocks() -> Tensor:
    """Causal, and of the places 2 to 6 the first two and the last three do not see one another."""
    visible = torch.ones(9, 9, dtype=torch.bool).tril()
    visible[4:7, 2:4] = False
    return visible.expand(2, 9, 9)


def by_transformers(lm: TransformersLM, rows: Tensor, visible: Tensor) -> Tensor:
    """What the whole model gives of itself when all weights are kept: batch, layers, heads, tokens, tokens."""
    model = lm.frozen.module
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model.base_model(
            inputs_embeds=rows,
            attention_mask=additive_mask(visible, rows),
            position_ids=POSITIONS,
            output_attentions=True,
            use_cache=False,
        )
    model.set_attn_implementation(before)
    return torch.stack(output.attentions, dim=1)


def rotated(x: Tensor, base: float) -> Tensor:
    """Rotary positions (Su et al., 2021), each half of a head's numbers turned against the other; heads, tokens, dim."""
    tokens, half = x.shape[1], x.shape[2] // 2
    angles = torch.arange(tokens)[:, None] * base ** (-torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat(
        [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1
    )


def test_one_layer_equals_a_softmax_written_by_hand() -> None:
    lm = tiny_language_model("llama", layers=1)
    rows, model = inputs(lm)[:1], lm.frozen.module
    found = lm.attention(rows, None, POSITIONS[:1], torch.tensor([6]))
    layer = model.model.layers[0]
    with torch.no_grad():
        x = rows[0] * (rows[0].square().mean(-1, keepdim=True) + model.config.rms_norm_eps).rsqrt()
        x = x * layer.input_layernorm.weight
        queries = layer.self_attn.q_proj(x).unflatten(-1, (2, 16)).transpose(0, 1)
        keys = layer.self_attn.k_proj(x).unflatten(-1, (1, 16)).transpose(0, 1).expand(2, -1, -1)
        base = model.config.rope_parameters["rope_theta"]
        scores = torch.einsum("hd,htd->ht", rotated(queries, base)[:, 6], rotated(keys, base)[:, :7]) / 16**0.5
    torch.testing.assert_close(found[0, 0, :, :7], scores.softmax(-1), atol=1e-5, rtol=0)
    assert found[0, 0, :, 7:].abs().max() == 0


@pytest.mark.parametrize("masked", [False, True])
def test_every_layer_equals_transformers_own(lm: TransformersLM, masked: bool) -> None:
    rows = inputs(lm)
    causal = torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 9, 9)
    visible = two_blocks() if masked else causal
    found = lm.attention(rows, visible if masked else None, POSITIONS, PLACES)
    expected = by_transformers(lm, rows, visible)
    assert found.shape == (2, lm.depth, 2, 9)
    for row, place in enumerate(PLACES.tolist()):
        torch.testing.assert_close(found[row], expected[row, :, :, place], atol=1e-5, rtol=0)
    # The mask matters: what is read without it has other weights from the second layer on.
    assert masked != torch.allclose(found, lm.attention(rows, None, POSITIONS, PLACES))


def test_weights_sum_to_one_over_what_the_place_sees(lm: TransformersLM) -> None:
    found = lm.attention(inputs(lm), two_blocks(), POSITIONS, PLACES)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, lm.depth, 2), atol=1e-5, rtol=0)
    assert (found[0] > 0).all()
    assert (found[1, ..., 2:4] == 0).all()
    assert (found[1, ..., 6:] == 0).all()


def test_attention_is_computed_as_before_afterwards(lm: TransformersLM, monkeypatch: pytest.MonkeyPatch) -> None:
    config = lm.frozen.module.config
    before = config._attn_implementation
    assert before != "eager"
    rows = inputs(lm)
    hidden = lm.hidden(rows, None, POSITIONS)
    lm.attention(rows, None, POSITIONS, PLACES)
    assert config._attn_implementation == before
    assert torch.equal(lm.hidden(rows, None, POSITIONS), hidden)

    def broken(*parts: Any, **options: Any) -> Any:
        assert config._attn_implementation == "eager"
        raise RuntimeError("out of memory")

    monkeypatch.setattr(lm, "keep", lambda *parts: None)
    monkeypatch.setattr(lm, "_read_behind", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        lm.attention(rows, None, POSITIONS, PLACES)
    assert config._attn_implementation == before


@pytest.mark.parametrize("given", [None, (), (None, None, None), (torch.ones(2, 2, 1, 10),)])
def test_a_family_without_attention_weights_is_refused(
    lm: TransformersLM, given: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = lm.keep(inputs(lm), two_blocks(), POSITIONS)
    monkeypatch.setattr(lm, "keep", lambda *parts: kept)
    monkeypatch.setattr(lm, "_read_behind", lambda *parts, **options: SimpleNamespace(attentions=given))
    with pytest.raises(ConfigError, match=r"attention weights of [01] of its 3 layers"):
        lm.attention(inputs(lm), None, POSITIONS, PLACES)
