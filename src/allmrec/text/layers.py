"""Cuts a transformers encoder in two at a layer, sharing every weight."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from allmrec.core.errors import ConfigError

__all__ = ["find_layers", "lower_view", "upper_view"]

# Where BERT, RoBERTa, MPNet, XLM-R (encoder) and DistilBERT (transformer) keep their layers. None of them puts a norm
# behind the last layer, so the output of the lower half is exactly what the upper half starts from.
_HOLDERS = ("encoder", "transformer")


def find_layers(model: nn.Module) -> nn.ModuleList:
    """The model's layers in order.

    Raises:
        ConfigError: the model keeps them somewhere else.
    """
    for name in _HOLDERS:
        layers = getattr(getattr(model, name, None), "layer", None)
        if isinstance(layers, nn.ModuleList) and isinstance(getattr(model, "embeddings", None), nn.Module):
            return layers
    raise ConfigError(f"Cannot tell the layers of a {type(model).__name__} apart; tune it in full or not at all.")


def lower_view(model: nn.Module, cut: int) -> nn.Module:
    """The same model with the embeddings and the layers before `cut` only."""
    return _with_layers(model, find_layers(model)[:cut])


def upper_view(model: nn.Module, cut: int) -> nn.Module:
    """The same model with the layers from `cut` on only; it starts from `inputs_embeds` as they are."""
    view = _with_layers(model, find_layers(model)[cut:])
    view.embeddings = _Given()
    return view


def _with_layers(model: nn.Module, layers: nn.ModuleList) -> nn.Module:
    """A second module around the same sub-modules, with other layers; the first one stays as it is."""
    view = _shallow(model)
    name = next(name for name in _HOLDERS if hasattr(model, name))
    holder = _shallow(getattr(model, name))
    holder.layer = layers
    setattr(view, name, holder)
    return view


def _shallow(module: nn.Module) -> nn.Module:
    """A copy that shares children and parameters, but not the registers that list them."""
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    return copied


class _Given(nn.Module):
    """Stands where the embeddings were and hands the given states on; families pass them under different names."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.is_floating_point():
                return value
        raise TypeError("the upper half of an encoder starts from inputs_embeds; none were given")
