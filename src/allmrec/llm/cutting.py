"""The first layers of a model's body, sharing every weight with the whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from allmrec.core.errors import ConfigError

__all__ = ["first_layers", "last_states", "layers_of", "shallow"]


def first_layers(body: nn.Module, depth: int, layers: int, name: str) -> nn.Module:
    """A shallow copy of a body whose list of layers is shorter; weights are shared, nothing is moved.

    Args:
        body: the whole.
        depth: how many layers it has.
        layers: how many are wanted.
        name: what the model is called.

    Raises:
        ConfigError: the body keeps its layers in no list of this length.
    """
    twin = shallow(body)
    parent = twin
    *way, last = _path(body, depth, name).split(".")
    for part in way:
        child = shallow(parent.get_submodule(part))
        parent._modules[part] = child
        parent = child
    parent._modules[last] = nn.ModuleList(list(parent.get_submodule(last).children())[:layers])
    return twin


def layers_of(body: nn.Module, depth: int, name: str) -> nn.ModuleList:
    """A body's layers, in their order; arguments and errors as those of `first_layers`."""
    return cast(nn.ModuleList, body.get_submodule(_path(body, depth, name)))


def last_states(body: nn.Module, depth: int, layers: int, name: str, read: Callable[[], Any]) -> Tensor:
    """What layer number `layers` gives on when `read` is called, which may read the whole body or one cut there."""
    layer = body.get_submodule(f"{_path(body, depth, name)}.{layers - 1}")
    given: list[Any] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: given.append(output))
    try:
        read()
    finally:
        hook.remove()
    if not given:
        raise ConfigError(f"{name} does not read its layers in their order; run it with all {depth} layers.")
    states: Tensor = given[-1][0] if isinstance(given[-1], tuple) else given[-1]
    return states


def shallow(module: nn.Module) -> nn.Module:
    """A copy of a module that shares its children and parameters but can be given another child."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _path(body: nn.Module, depth: int, name: str) -> str:
    path: str | None = next(
        (n for n, m in body.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None
    )
    if path is None:
        raise ConfigError(
            f"{name} ({type(body).__name__}) keeps its {depth} layers in no list; run it with all layers."
        )
    return path
