"""Any Hugging Face causal language model behind the LanguageModel protocol."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from allmrec.core.errors import ConfigError
from allmrec.core.frozen import Frozen
from allmrec.core.words import Words
from allmrec.llm.decoding import CachedDecoding, additive_mask
from allmrec.llm.language_model import KeysAndValues
from allmrec.llm.precision import Precision, keep_weights, loading_arguments

__all__ = ["TransformersLM", "load_language_model"]


class TransformersLM:
    """Wraps a transformers model and its tokenizer; the model is frozen from here on.

    Args:
        model: a causal language model with a body (`base_model`) that takes `inputs_embeds`, `position_ids` and a
            four-dimensional `attention_mask`, as OPT, Llama, Gemma and their like do.
        tokenizer: its tokenizer; from here on it takes every text for words, and puts no blank before a text by itself.
        name: what to call it in manifests.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model = Frozen(model)
        self._tokenizer = tokenizer
        self._name = name
        self._bodies: dict[int, nn.Module] = {}
        config = model.config.get_text_config()
        self._softcap = getattr(config, "final_logit_softcapping", None)
        self._depth = int(config.num_hidden_layers)
        self._max_tokens = int(getattr(config, "max_position_embeddings", 2048))
        weight = model.get_input_embeddings().weight
        self._dim = int(weight.shape[1])
        self._hidden_dim = int(model.get_output_embeddings().weight.shape[1])
        self._scale = float(weight.detach().float().square().mean().sqrt())
        eos = tokenizer.eos_token_id
        if eos is None:
            raise ConfigError(f"The tokenizer of {name} has no end-of-text token; a title could not be ended. Set one.")
        self._eos = int(eos)
        # What the tokenizer itself puts before any text; a token that it puts behind (EOS) is no prefix.
        around = tokenizer("", add_special_tokens=True)["input_ids"]
        probe = tokenizer("a", add_special_tokens=True)["input_ids"]
        self._prefix = tuple(int(i) for i in around if probe and probe[0] == i)[:1]
        self._words = Words(tokenizer, in_pieces=True)

    @property
    def name(self) -> str:
        return self._name

    @property
    def frozen(self) -> Frozen:
        """The frozen model, for tests that compare its bytes."""
        return self._model

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def hidden_dim(self) -> int:
        return self._hidden_dim

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return self._prefix

    @property
    def eos_id(self) -> int:
        return self._eos

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.module.get_input_embeddings().weight.device
        return device

    @property
    def embedding_scale(self) -> float:
        return self._scale

    def embedding_moments(self) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
        weight = self._model.module.get_input_embeddings().weight.detach().float()
        return weight.mean(dim=0), torch.cov(weight.T)

    def tokenize(self, text: str) -> list[int]:
        return self._words.ids(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._words.text(ids)

    def embed(self, ids: Int[Tensor, " *shape"]) -> Float[Tensor, "*shape dim"]:
        with torch.no_grad():
            embeddings: Tensor = self._model.module.get_input_embeddings()(ids.to(self.device))
        return embeddings

    def hidden(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        layers: int | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        batch, tokens, _ = embeddings.shape
        mask: Tensor
        if visible is None:
            mask = torch.ones(batch, tokens, dtype=torch.long, device=embeddings.device)
        else:
            mask = additive_mask(visible, embeddings)
        body = self._body(self._depth if layers is None else layers)
        output = body(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False)
        state: Tensor = output.last_hidden_state
        return state

    @torch.inference_mode()
    def keep(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
        behind: KeysAndValues | None = None,
    ) -> KeysAndValues:
        layers = self._read_behind(behind, embeddings, visible, positions).past_key_values.layers
        new = embeddings.shape[1]
        return KeysAndValues(
            torch.stack([layer.keys[..., -new:, :] for layer in layers]),
            torch.stack([layer.values[..., -new:, :] for layer in layers]),
        )

    @torch.inference_mode()
    def hidden_behind(
        self,
        behind: KeysAndValues,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        state: Tensor = self._read_behind(behind, embeddings, visible, positions).last_hidden_state
        return state

    @torch.inference_mode()
    def attention(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        places: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch layers heads tokens"]:
        batch, tokens, _ = embeddings.shape
        rows = torch.arange(batch, device=embeddings.device)
        if visible is None:
            visible = (
                torch.ones(tokens, tokens, dtype=torch.bool, device=embeddings.device).tril().expand(batch, -1, -1)
            )
        # Reading the whole prompt with its attention weights kept would take tokens² numbers a head. So the prompt is read
        # as always, and then its one place again, behind the keys and values of the others.
        kept = self.keep(embeddings, visible, positions)
        seen = visible[rows, places].clone()
        seen[rows, places] = False
        seen = torch.cat([seen, seen.new_ones(batch, 1)], dim=1)
        with self._eager_attention():
            output = self._read_behind(
                kept,
                embeddings[rows, places][:, None],
                seen[:, None],
                positions[rows, places][:, None],
                output_attentions=True,
            )
        given = [] if output.attentions is None else [weights for weights in output.attentions if weights is not None]
        if len(given) != self._depth or len({weights.shape for weights in given}) != 1:
            raise ConfigError(
                f"{self._name} ({type(self._model.module).__name__}) gives attention weights of {len(given)} of its "
                f"{self._depth} layers; expected the same number of heads in every layer. Use a language model whose "
                "layers all have plain attention, as OPT and Llama do."
            )
        weights = torch.stack(given, dim=1)[..., 0, :].float()
        shares = weights[..., :-1].clone()
        shares[rows, :, :, places] = weights[..., -1]
        return shares

    @contextmanager
    def _eager_attention(self) -> Iterator[None]:
        """Within it attention is computed step by step, which is the only way that gives its weights."""
        model = self._model.module
        parts = {part: getattr(model.config, part, None) for part in model.config.sub_configs}
        before = {part: config._attn_implementation for part, config in parts.items() if config is not None}
        before[""] = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            yield
        finally:
            model.set_attn_implementation(before)

    def _read_behind(
        self, behind: KeysAndValues | None, embeddings: Tensor, visible: Tensor, positions: Tensor, **options: bool
    ) -> Any:
        cache = DynamicCache()
        if behind is not None:
            for layer, (keys, values) in enumerate(zip(behind.keys, behind.values, strict=True)):
                cache.update(keys, values, layer)
        return self._body(self._depth)(
            inputs_embeds=embeddings,
            attention_mask=additive_mask(visible, embeddings),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **options,
        )

    def logits(self, hidden: Float[Tensor, "places hidden"]) -> Float[Tensor, "places vocabulary"]:
        logits: Tensor = self._model.module.get_output_embeddings()(hidden)
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def decode(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        lengths: Int[Tensor, " batch"],
        positions: Int[Tensor, "batch tokens"] | None = None,
        visible: Bool[Tensor, "batch tokens tokens"] | None = None,
    ) -> CachedDecoding:
        return CachedDecoding(self, self._body(self._depth), embeddings, lengths, positions, visible)

    def _body(self, layers: int) -> nn.Module:
        """The model's body cut after `layers` layers, sharing every weight with the whole."""
        if not 1 <= layers <= self._depth:
            raise ConfigError(
                f"{self._name} has {self._depth} layers; {layers} cannot be run. Give 1 to {self._depth}."
            )
        body: nn.Module = self._model.module.base_model
        if layers == self._depth:
            return body
        if layers not in self._bodies:
            self._bodies[layers] = _first_layers(body, self._depth, layers)
        return self._bodies[layers]


def _first_layers(body: nn.Module, depth: int, layers: int) -> nn.Module:
    """A shallow copy of `body` whose list of layers is shorter; weights are shared, nothing is moved."""
    path = next((n for n, m in body.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None)
    if path is None:
        raise ConfigError(f"{type(body).__name__} keeps its {depth} layers in no list; run it with all layers.")
    twin = _shallow(body)
    parent = twin
    *way, last = path.split(".")
    for name in way:
        child = _shallow(parent.get_submodule(name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(list(parent.get_submodule(last).children())[:layers])
    return twin


def _shallow(module: nn.Module) -> nn.Module:
    """A copy of a module that shares its children and parameters but can be given another child."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def load_language_model(
    name: str | Path,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    trust_remote_code: bool = False,
) -> TransformersLM:
    """Load a causal language model by name or folder; GGUF folders and packaged models included.

    Args:
        name: a packaged model's name, a hub name, or a folder.
        device: where to put it.
        precision: how its weights are held; auto: bfloat16 on a GPU and on a CPU that is faster at it, else float32.
        trust_remote_code: whether Python files that come with it may run; they can do all that the user can.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable; or damaged, without some of its weights, an
            adapter, or no causal language model.
        MissingExtraError: int8 or int4 without their package.
        ConfigError: int8 or int4 on a device that cannot.
    """
    from allmrec.llm.gguf import resolve_language_model
    from allmrec.llm.reading import check_causal, read_language_model  # slow to import, needed by this function alone

    where = resolve_language_model(str(name))
    device = torch.device(device)
    arguments = loading_arguments(precision, device)
    model, tokenizer = read_language_model(where, str(name), arguments, trust_remote_code)
    keep_weights(model)
    if "quantization_config" not in arguments:
        model.to(device)
    model.eval()
    check_causal(model, where, str(name))
    return TransformersLM(model, tokenizer, str(name))
