"""Low-rank adapters on a frozen language model, there for its owner alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from torch import nn

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.core.seeding import seeded_torch
from allmrec.llm.transformers_lm import TransformersLM

__all__ = ["AdaptedLanguageModel", "LoRAAdapters", "LoRAConfig"]

# What families call their query and value projections. Those that compute both in one layer come behind.
_PROJECTIONS = (
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("wq", "wv"),
    ("c_attn",),
    ("query_key_value",),
    ("qkv_proj",),
    ("Wqkv",),
)
_PARTS = ("lora_A", "lora_B", "lora_dropout")
# What peft calls the one adapter that a layer is given.
_ADAPTER = "default"


class LoRAConfig(Config):
    """Sizes of the adapters. The defaults are TALLRec's."""

    r: int = Field(8, ge=1, description="Rank of the change to a layer's weights.")
    alpha: float = Field(16, gt=0, description="The change is scaled by alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout in front of the adapters while they are trained.")
    targets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Names of the layers to adapt; none: the query and value projections."
    )


@dataclass(frozen=True)
class _Place:
    """Where an adapter goes: the name of a child, the child itself, and what stands in for it."""

    path: str
    parent: nn.Module
    original: nn.Module
    adapted: Any

    def put(self, module: nn.Module) -> None:
        """Make `module` the parent's child of that name."""
        self.parent._modules[self.path.rpartition(".")[2]] = module


class LoRAAdapters(nn.Module):
    """Trainable low-rank changes to layers of a frozen language model (LoRA, Hu et al., ICLR 2022), made by peft.

        layer(x) + (alpha / r) · B A dropout(x),    A uniform, B zero at first

    The changed layers stand in the model inside `on()` only. Outside of it the model has the layers, parameters and
    names that it had before, so that other systems, its fingerprint and its snapshot know nothing of the adapters;
    nothing is copied. While one thread is inside `on()`, no other may use the model.

    The module's own parameters are A and B in float32, named as peft names them. It begins in evaluation mode.

    Args:
        lm: the language model; it is left as it is.
        config: sizes and places.
        seed: of the initialisation.

    Raises:
        MissingExtraError: peft is not installed.
        ConfigError: the model has no layers of the names in `targets`, or none whose names tell query and value.
    """

    def __init__(self, lm: TransformersLM, config: LoRAConfig, seed: int = 0) -> None:
        super().__init__()
        if importlib.util.find_spec("peft") is None:
            raise MissingExtraError("peft", "lora", "Adapting a language model")
        if lm.is_shared:
            raise ConfigError(
                f"{lm.name} is shared by several processes, and cannot be adapted so. Train without --share-llm."
            )
        with seeded_torch(seed, "lora", "initialisation"):
            # In a tuple so that torch does not take the frozen layers for children.
            self._places = tuple(_places(lm.frozen.module, lm.name, config))
        for place in self._places:
            for part in _PARTS:
                _register(self, f"{place.path}.{part}", getattr(place.adapted, part)[_ADAPTER])
        # peft gives them the model's own precision, at which a step of 1e-4 can be rounded away.
        self.float()
        self.eval()

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of the layers that are adapted."""
        return tuple(place.path for place in self._places)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have the adapted layers in the model for the length of the block."""
        for place in self._places:
            place.put(place.adapted)
        try:
            yield
        finally:
            for place in self._places:
                place.put(place.original)


class AdaptedLanguageModel(TransformersLM):
    """The same language model with adapters on whenever it computes; shares everything with the other.

    Args:
        lm: the language model.
        adapters: made for it.
    """

    def __init__(self, lm: TransformersLM, adapters: LoRAAdapters) -> None:
        vars(self).update(vars(lm))
        self._adapters = adapters

    def _body(self, layers: int) -> nn.Module:
        return _WithAdapters(super()._body(layers), self._adapters)


class _WithAdapters(nn.Module):
    """A module that is called with the adapters on."""

    def __init__(self, module: nn.Module, adapters: LoRAAdapters) -> None:
        super().__init__()
        # In a tuple so that torch registers neither.
        self._held = (module, adapters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        module, adapters = self._held
        with adapters.on():
            return module(*args, **kwargs)


def _places(module: nn.Module, name: str, config: LoRAConfig) -> list[_Place]:
    """The adapted layers, made by peft inside the model and taken out of it again.

    Raises:
        ConfigError: there are no layers of these names, or peft cannot adapt them.
    """
    from peft import LoraConfig, inject_adapter_in_model  # an optional package, slow to import
    from transformers.pytorch_utils import Conv1D

    targets = _query_and_value(module, name) if config.targets is None else config.targets
    missing = [target for target in targets if not _named(module, target)]
    if missing:
        raise ConfigError(
            f"{name} has no layer called {missing[0]!r}. Name its layers in lora.targets, such as "
            f"{sorted({path.rpartition('.')[2] for path, _ in _matrices(module)})}."
        )
    transposed = all(isinstance(layer, Conv1D) for target in targets for layer in _named(module, target))
    settings = LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # whole by its annotation, any number by what is computed
        lora_dropout=config.dropout,
        target_modules=list(targets),
        fan_in_fan_out=transposed,
    )
    try:
        inject_adapter_in_model(settings, module)
    except ValueError as error:
        raise ConfigError(
            f"{', '.join(targets)} of {name} cannot be adapted: {error} Name other layers in lora.targets."
        ) from error
    finally:
        places = _taken_out(module)
    return places


def _taken_out(module: nn.Module) -> list[_Place]:
    """Give the model its own layers back, and return what stood in for them."""
    from peft.tuners.lora import LoraLayer  # an optional package, slow to import

    places = []
    for path, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            place = _Place(path, module.get_submodule(path.rpartition(".")[0]), layer.get_base_layer(), layer)
            place.put(place.original)
            places.append(place)
    vars(module).pop("peft_config", None)
    return places


def _query_and_value(module: nn.Module, name: str) -> Sequence[str]:
    """Names of the query and value projections.

    Raises:
        ConfigError: no known names are among the model's layers.
    """
    for names in _PROJECTIONS:
        if all(_named(module, one) for one in names):
            return names
    raise ConfigError(
        f"{name} ({type(module).__name__}) has no layers whose names are known to be query and value projections. "
        f"Name them in lora.targets; its layers are called {sorted({p.rpartition('.')[2] for p, _ in _matrices(module)})}."
    )


def _matrices(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every layer with a matrix of its own, with its path."""
    for path, layer in module.named_modules():
        weight = getattr(layer, "weight", None)
        if path and not isinstance(layer, nn.Embedding) and weight is not None and weight.dim() == 2:
            yield path, layer


def _named(module: nn.Module, name: str) -> list[nn.Module]:
    """The layers that a name means: the whole path, or its end."""
    return [layer for path, layer in _matrices(module) if path == name or path.endswith(f".{name}")]


def _register(root: nn.Module, path: str, module: nn.Module) -> None:
    """Make `module` the child of that path, with empty modules on the way."""
    *way, last = path.split(".")
    for name in way:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)
