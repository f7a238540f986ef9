"""How one model's body is called, and its hidden states turned into logits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from allmrec.core.errors import ConfigError
from allmrec.llm.head import OwnHead
from allmrec.llm.language_model import KeysAndValues
from allmrec.llm.masks import Locality

__all__ = ["Reader", "Way", "kept_by"]

# What configurations call the number of positions that a model was made for, and what is taken where none does.
_LENGTHS = ("max_position_embeddings", "max_seq_len", "context_length")
_TOKENS = 2048
# What bodies call their caches, the usual name first.
_CACHES = ("past_key_values", "cache_params")


@dataclass(frozen=True)
class Way:
    """What a model's body is given.

    Attributes:
        positions: position numbers; without them a model counts by itself.
        by_kind: a mask for each kind of its layers, where a mask says which place sees which; else one for all.
    """

    positions: bool = True
    by_kind: bool = False


class Reader:
    """Calls a body in the way that its model wants.

    Attributes:
        model: the causal language model.
        name: what it is called.
        max_tokens: the longest input that it has positions for.
        config: its text model's configuration.
        way: what the body is given.
        head: turns hidden states [places, hidden] into logits.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        self.config = model.config.get_text_config()
        self.max_tokens = _most_tokens(model, self.config)
        self.way = Way()
        self.head: Callable[[Tensor], Tensor] = self.plain_head
        self._place = _body_place(model, name)
        parameters = inspect.signature(self.body.forward).parameters
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        self._accepted = None if takes_any else frozenset(parameters)

    @property
    def body(self) -> nn.Module:
        """The model without its head."""
        body: nn.Module = getattr(self.model, self._place)
        return body

    @property
    def locality(self) -> Locality:
        """How far its layers look back."""
        return Locality.of(self.config)

    def plain_head(self, hidden: Float[Tensor, "places hidden"]) -> Float[Tensor, "places vocabulary"]:
        """The output layer and nothing else."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    def heads(self) -> list[Callable[[Tensor], Tensor]]:
        """Ways to logits, the cheapest first."""
        below = [name for name, _ in self.body.named_children()]
        through = [(), *((name,) for name in below if name in ("decoder", "transformer", "model"))]
        return [self.plain_head, *(OwnHead(self.model, self._place, names) for names in through)]

    def embed(self, ids: Int[Tensor, " *shape"]) -> Float[Tensor, "*shape dim"]:
        """Input embeddings of token ids, as the model itself looks them up."""
        table = self.model.get_input_embeddings()
        with torch.no_grad():
            embeddings: Tensor = table(ids.to(table.weight.device))
        return embeddings

    def embedding_factor(self) -> float:
        """What the module that holds the embeddings multiplies its weights by."""
        weight = self.model.get_input_embeddings().weight
        ids = torch.arange(min(16, len(weight)), device=weight.device)
        own, given = weight.detach()[ids].float(), self.embed(ids).float()
        return float((own * given).sum() / own.square().sum().clamp_min(torch.finfo(torch.float32).tiny))

    def read(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        positions: Int[Tensor, "batch tokens"],
        visible: Bool[Tensor, "batch tokens seen"] | None = None,
        *,
        body: nn.Module | None = None,
        real: Int[Tensor, "batch seen"] | None = None,
        seen_positions: Int[Tensor, "batch seen"] | None = None,
        cache: Any = None,
        keep: bool = False,
        **options: Any,
    ) -> Any:
        """Read places.

        Args:
            embeddings: what stands at each place.
            positions: the position number of each place.
            visible: which places each place sees; none: all real ones before it and itself.
            body: what to call in the body's place.
            real: which places are no padding, those in the cache included; none: all of them are.
            seen_positions: position numbers of all that may be seen; none: `positions`.
            cache: what was read before.
            keep: give back a cache.
            options: further arguments.

        Returns:
            What the body gives.
        """
        mask: Any = real
        if visible is not None:
            seen = positions if seen_positions is None else seen_positions
            mask = self.locality.mask(visible, positions, seen, embeddings, self.way.by_kind)
        elif real is None and cache is None:
            mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        # A copy, for some models scale what they are given where it stands.
        given: dict[str, Any] = {
            "inputs_embeds": embeddings.clone(),
            "attention_mask": mask,
            "use_cache": keep,
            **options,
        }
        if self.way.positions:
            given["position_ids"] = positions
        if cache is not None:
            given |= dict.fromkeys(_CACHES if self._accepted is not None else _CACHES[:1], cache)
        if self._accepted is not None:
            given = {name: value for name, value in given.items() if name in self._accepted}
        return (body or self.body)(**given)

    def read_behind(
        self,
        behind: KeysAndValues | None,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
        body: nn.Module | None = None,
        **options: Any,
    ) -> Any:
        """Read places behind kept keys and values, and keep their own."""
        # Of full layers: what a window leaves out is in the mask.
        cache = DynamicCache()
        seen = positions
        if behind is not None:
            cache.layers = [_full_layer(keys, values) for keys, values in zip(behind.keys, behind.values, strict=True)]
            seen = torch.cat([behind.positions.to(positions.device), positions], dim=1)
        return self.read(
            embeddings, positions, visible, body=body, seen_positions=seen, cache=cache, keep=True, **options
        )

    def read_branches(
        self,
        prompt: Float[Tensor, "tokens dim"],
        branches: Float[Tensor, "branches further dim"],
        body: nn.Module | None = None,
    ) -> tuple[Float[Tensor, " hidden"], Float[Tensor, "branches further hidden"]]:
        """Read several continuations of one prompt behind a cache of it.

        Returns:
            The hidden state at the prompt's end, and those of the continuations.
        """
        length, further = len(prompt), branches.shape[1]
        positions = torch.arange(length + further, device=prompt.device)
        first = self.read(prompt[None], positions[None, :length], body=body, keep=True)
        cache = kept_by(first)
        cache.reorder_cache(torch.zeros(len(branches), dtype=torch.long, device=prompt.device))
        behind = self.read(
            branches,
            positions[None, length:].expand(len(branches), -1),
            body=body,
            cache=cache,
            keep=True,
        )
        return first.last_hidden_state[0, -1], behind.last_hidden_state


def kept_by(output: Any) -> Any:
    """The cache that a body gave back.

    Raises:
        ConfigError: it gave none.
    """
    found = [output[name] for name in _CACHES if output.get(name) is not None]
    if not found:
        raise ConfigError("The model keeps nothing of what it read; it cannot be continued.")
    return found[0]


def _full_layer(keys: Tensor, values: Tensor) -> DynamicLayer:
    """A layer of a cache that holds these, without copying them as its own `update` would."""
    layer = DynamicLayer()  # type: ignore[no-untyped-call]  # transformers has no types here
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer


def _body_place(model: Any, name: str) -> str:
    """The name of the part of a model that is all of it but its head.

    Raises:
        ConfigError: there is no such part.
    """
    prefix: str = model.base_model_prefix
    if prefix in model._modules:
        return prefix
    parts = [part for part, module in model.named_children() if isinstance(module, PreTrainedModel)]
    if len(parts) != 1:
        raise ConfigError(
            f"{name} ({type(model).__name__}) is no body with a head of its own: what it reads cannot be told from what it "
            "says. Use another language model, such as one of the Llama, Qwen, OPT or Gemma families."
        )
    found: str = parts[0]
    return found


def _most_tokens(model: Any, config: Any) -> int:
    """The longest input that a model has positions for."""
    named = [getattr(config, name, None) for name in _LENGTHS]
    length = next((int(value) for value in named if isinstance(value, int) and value > 0), _TOKENS)
    # Some tables of positions begin with rows for padding (RoBERTa's).
    words = model.get_input_embeddings()
    for module in model.modules():
        if not isinstance(module, nn.Embedding) or module is words:
            continue
        if module.num_embeddings == length and module.padding_idx is not None:
            return length - module.padding_idx - 1
    return length
