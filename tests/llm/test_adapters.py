"""Adapters are in the model inside their block only, compute what peft computes, and go where they should."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.llm.adapters import AdaptedLanguageModel, LoRAAdapters, LoRAConfig
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.language_model import LanguageModel
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.testing.tiny_lm import save_tiny_language_model, tiny_language_model, tiny_tokenizer

needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None and os.environ.get("CI") != "true",
    reason="needs: pip install 'allmrec[lora]'",
)


def state_of(module: nn.Module) -> tuple[Any, ...]:
    """Everything about a model that another system could notice, its weights apart."""
    parts = [(name, id(part), type(part), part.training) for name, part in module.named_modules()]
    parameters = [(name, id(p), p.requires_grad, p.dtype) for name, p in module.named_parameters()]
    return parts, parameters, sorted(vars(module)), fingerprint(module)


def moved(adapters: LoRAAdapters, seed: int = 0) -> LoRAAdapters:
    """B is zero at first, and then adapters change nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapters


def run(lm: TransformersLM, seed: int = 0, layers: int | None = None) -> Tensor:
    embeddings = lm.embed(torch.randint(3, 100, (2, 7), generator=torch.Generator().manual_seed(seed)))
    return lm.hidden(embeddings, None, torch.arange(7).expand(2, 7), layers)


@needs_peft
@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_outside_of_the_block_the_model_is_what_it_was(kind: str) -> None:
    lm = tiny_language_model(kind)
    module = lm.frozen.module
    before, weights, states = state_of(module), lm.frozen.snapshot(), run(lm)
    adapters = moved(LoRAAdapters(lm, LoRAConfig()))
    adapted = AdaptedLanguageModel(lm, adapters)
    assert isinstance(adapted, LanguageModel)
    assert state_of(module) == before
    changed = run(adapted)
    assert state_of(module) == before

    def fail() -> None:
        with adapters.on():
            assert state_of(module) != before
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert state_of(module) == before
    assert not torch.allclose(changed, states)
    assert torch.equal(run(lm), states)
    assert torch.equal(run(adapted), changed)
    after = module.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(weights[name], tensor) for name, tensor in after.items())


@needs_peft
def test_they_learn_and_the_frozen_weights_get_no_gradient() -> None:
    lm = tiny_language_model()
    adapters = moved(LoRAAdapters(lm, LoRAConfig(r=3)))
    run(AdaptedLanguageModel(lm, adapters)).square().sum().backward()
    assert len(list(adapters.parameters())) == 3 * 2 * 2
    assert all(p.grad is not None and p.grad.any() for p in adapters.parameters())
    assert all(p.grad is None for p in lm.frozen.module.parameters())


@needs_peft
def test_new_adapters_change_no_bit_and_the_seed_decides_them() -> None:
    lm = tiny_language_model()
    before = torch.random.get_rng_state()
    made = [LoRAAdapters(lm, LoRAConfig(), seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(run(AdaptedLanguageModel(lm, made[0])), run(lm))
    states = [adapters.state_dict() for adapters in made]
    name = "model.layers.0.self_attn.q_proj.lora_A.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


@needs_peft
def test_several_adapters_share_one_model() -> None:
    lm = tiny_language_model()
    one, two = (moved(LoRAAdapters(lm, LoRAConfig(), seed), seed) for seed in (1, 2))
    first = [run(AdaptedLanguageModel(lm, adapters)) for adapters in (one, two)]
    again = [run(AdaptedLanguageModel(lm, adapters)) for adapters in (one, two)]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.allclose(first[0], first[1])


@needs_peft
def test_dropout_is_on_in_training_alone() -> None:
    lm = tiny_language_model()
    adapters = moved(LoRAAdapters(lm, LoRAConfig(dropout=0.5)))
    adapted = AdaptedLanguageModel(lm, adapters)
    assert torch.equal(run(adapted), run(adapted))
    adapters.train()
    assert not torch.equal(run(adapted), run(adapted))
    assert not any(part.training for part in lm.frozen.module.modules())


@needs_peft
def test_cut_bodies_and_decoding_have_the_adapters_too() -> None:
    lm = tiny_language_model()
    adapted = AdaptedLanguageModel(lm, moved(LoRAAdapters(lm, LoRAConfig())))
    assert not torch.allclose(run(adapted, layers=1), run(lm, layers=1))
    ids = torch.tensor([[5, 6, 7]])
    decoding = adapted.decode(adapted.embed(ids[:, :2]), torch.tensor([2]))
    decoding.append(ids[:, 2])
    whole = adapted.hidden(adapted.embed(ids), None, torch.arange(3)[None])
    torch.testing.assert_close(decoding.logits, adapted.logits(whole[:, -1]), atol=1e-4, rtol=1e-4)


@needs_peft
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_model_of_few_bits_is_adapted_in_float32(precision: Any, tmp_path: Path) -> None:
    if precision != "bfloat16":
        pytest.importorskip("bitsandbytes", reason="needs: pip install 'allmrec[quantised]'")
    lm = load_language_model(save_tiny_language_model(tmp_path / "lm", dim=64), precision=precision)
    before, states = state_of(lm.frozen.module), run(lm)
    adapters = moved(LoRAAdapters(lm, LoRAConfig()))
    assert {p.dtype for p in adapters.parameters()} == {torch.float32}
    found = run(AdaptedLanguageModel(lm, adapters))
    assert found.dtype == states.dtype
    assert not torch.allclose(found, states)
    found.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in adapters.parameters())
    assert state_of(lm.frozen.module) == before


def wrapped(model: nn.Module, name: str) -> TransformersLM:
    return TransformersLM(model, tiny_tokenizer(), name)


def gpt2() -> TransformersLM:
    config = GPT2Config(vocab_size=512, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
    return wrapped(GPT2LMHeadModel(config), "tiny-gpt2")


def neox() -> TransformersLM:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return wrapped(GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=512, **sizes)), "tiny-neox")


@needs_peft
@pytest.mark.parametrize(
    ("make", "names", "layers"),
    [
        (lambda: tiny_language_model("opt"), {"q_proj", "v_proj"}, 6),
        (gpt2, {"c_attn"}, 2),
        (neox, {"query_key_value"}, 2),
    ],
)
def test_query_and_value_are_found_by_name(make: Any, names: set[str], layers: int) -> None:
    lm = make()
    adapters = moved(LoRAAdapters(lm, LoRAConfig()))
    assert {path.rpartition(".")[2] for path in adapters.layers} == names
    assert len(adapters.layers) == layers
    assert not torch.allclose(run(AdaptedLanguageModel(lm, adapters)), run(lm))


@needs_peft
def test_layers_may_be_named() -> None:
    lm = tiny_language_model()
    adapters = LoRAAdapters(lm, LoRAConfig(targets=("o_proj", "model.layers.1.mlp.up_proj")))
    attention = {f"model.layers.{n}.self_attn.o_proj" for n in range(3)}
    assert set(adapters.layers) == attention | {"model.layers.1.mlp.up_proj"}


class Strange(nn.Module):
    """A layer that peft knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))


@needs_peft
def test_mistakes_name_the_field() -> None:
    with pytest.raises(ConfigError, match=r"no layer called 'wide'.*lora\.targets.*'q_proj'"):
        LoRAAdapters(tiny_language_model(), LoRAConfig(targets=("q_proj", "wide")))
    lm = tiny_language_model()
    for layer in lm.frozen.module.model.layers:
        for name in ("q_proj", "v_proj"):
            layer.self_attn._modules[f"my_{name}"] = layer.self_attn._modules.pop(name)
    with pytest.raises(ConfigError, match=r"query and value.*lora\.targets.*'my_q_proj'"):
        LoRAAdapters(lm, LoRAConfig())
    lm = tiny_language_model()
    lm.frozen.module.model.layers[1].self_attn.q_proj = Strange()
    before = state_of(lm.frozen.module)
    with pytest.raises(ConfigError, match=r"cannot be adapted.*lora\.targets"):
        LoRAAdapters(lm, LoRAConfig())
    assert state_of(lm.frozen.module) == before


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"peft.*pip install 'allmrec\[lora\]'"):
        LoRAAdapters(tiny_language_model(), LoRAConfig())
