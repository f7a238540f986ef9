"""The language model's adapter: padding changes nothing, cut models equal whole ones' early layers, frozen is frozen."""

from __future__ import annotations

import pytest
import torch

from allmrec.core.errors import ConfigError, ModelNotFoundError
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.testing.tiny_lm import tiny_language_model


@pytest.fixture(params=["opt", "llama"])
def lm(request: pytest.FixtureRequest) -> TransformersLM:
    return tiny_language_model(request.param)


def inputs(lm: TransformersLM, rows: int, tokens: int) -> torch.Tensor:
    return torch.randn(rows, tokens, lm.dim, generator=torch.Generator().manual_seed(3))


def test_a_padded_row_equals_the_row_alone(lm: TransformersLM) -> None:
    rows = inputs(lm, 2, 9)
    padded = lm.hidden(rows, None, torch.arange(9).expand(2, 9))
    alone = lm.hidden(rows[:1, :5], None, torch.arange(5)[None])
    torch.testing.assert_close(padded[:1, :5], alone, atol=1e-5, rtol=0)


def test_a_visibility_mask_equals_plain_causality(lm: TransformersLM) -> None:
    rows = inputs(lm, 2, 7)
    positions = torch.arange(7).expand(2, 7)
    plain = lm.hidden(rows, None, positions)
    masked = lm.hidden(rows, torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 7, 7), positions)
    torch.testing.assert_close(plain, masked, atol=1e-5, rtol=0)


def test_the_first_layers_alone_equal_transformers_own_hidden_states(lm: TransformersLM) -> None:
    rows = inputs(lm, 1, 6)
    model = lm.frozen.module
    states = model.base_model(inputs_embeds=rows, output_hidden_states=True).hidden_states
    norm = model.base_model.decoder.final_layer_norm if hasattr(model.base_model, "decoder") else model.base_model.norm
    cut = lm.hidden(rows, None, torch.arange(6)[None], layers=2)
    torch.testing.assert_close(cut, norm(states[2]), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="3 layers"):
        lm.hidden(rows, None, torch.arange(6)[None], layers=4)


def test_whole_model_agrees_with_transformers_logits(lm: TransformersLM) -> None:
    ids = torch.tensor([[5, 9, 11, 40]])
    expected = lm.frozen.module(input_ids=ids).logits[0]
    found = lm.logits(lm.hidden(lm.embed(ids), None, torch.arange(4)[None])[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gradients_pass_through_but_weights_do_not_move(lm: TransformersLM) -> None:
    before = lm.frozen.snapshot()
    lm.frozen.train()
    rows = inputs(lm, 1, 4).requires_grad_()
    lm.hidden(rows, None, torch.arange(4)[None]).square().mul(torch.arange(float(lm.dim))).sum().backward()
    assert rows.grad is not None
    assert rows.grad.abs().sum() > 0
    assert all(p.grad is None for p in lm.frozen.module.parameters())
    assert not lm.frozen.module.training
    assert all(torch.equal(before[n], t) for n, t in lm.frozen.module.state_dict().items())


def test_an_unknown_model_says_what_to_do() -> None:
    with pytest.raises(ModelNotFoundError, match="doctor"):
        load_language_model("no-such/model-anywhere")
