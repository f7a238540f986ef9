"""Cuts a transformers encoder in two at a layer, sharing every weight, and proves by a probe that the halves make the whole."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from allmrec.core.errors import ConfigError

__all__ = ["CutEncoder", "check_hidden", "last_hidden"]

# Halves and whole may differ by rounding, as a share of the largest number.
_TOLERANCE = 1e-4


def last_hidden(
    model: Any, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
) -> Float[Tensor, "texts tokens dim"]:
    """A model's last hidden states."""
    state: Tensor = model(input_ids=ids, attention_mask=real.long()).last_hidden_state
    return state


@torch.no_grad()
def check_hidden(model: Any, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"], name: str) -> int:
    """Try a model on a few texts.

    Args:
        model: a transformers model in evaluation mode.
        ids, real: texts padded on the right.
        name: the encoder's name, for messages.

    Returns:
        The length of its hidden states.

    Raises:
        ConfigError: it gives no hidden state a token, or numbers that are none.
    """
    try:
        hidden: Any = last_hidden(model, ids, real)
    except (RuntimeError, TypeError, AttributeError, ValueError, IndexError, KeyError) as error:
        raise ConfigError(
            f"{name} ({type(model).__name__}) cannot be run on texts alone ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}). Choose a text encoder such as BERT's kind."
        ) from error
    if not isinstance(hidden, Tensor) or hidden.shape[:2] != ids.shape:
        raise ConfigError(
            f"{name} ({type(model).__name__}) gives no hidden state for each token of a text. Choose another encoder."
        )
    if not bool(hidden[real].isfinite().all()):
        raise ConfigError(f"{name} gives numbers that are NaN or infinite; its weights are damaged. Get it again.")
    return int(hidden.shape[-1])


class CutEncoder:
    """An encoder as its lower layers and its upper ones.

    Both halves are the whole model with its list of layers changed, so what a family does around its layers happens in
    either: projections of embeddings, masks, positions, a norm behind the last layer. The lower half stops in front of
    layer `cut`; in the upper one the layers before hand on what they are given, and layer `cut` reads the states it is
    given in place of that.

    Whether this is right for a family is asked of the model itself: on `ids` the halves must give what the whole gives,
    with the states padded anew as a text bank does it.

    Args:
        model: a transformers encoder in evaluation mode; it stays as it is.
        tuned: how many of the last layers the upper half has.
        ids, real: a few texts of unlike lengths, padded on the right.
        name: the encoder's name, for messages.

    Raises:
        ConfigError: there are not so many layers, or the halves do not make the whole; says why.
    """

    def __init__(
        self,
        model: nn.Module,
        tuned: int,
        ids: Int[Tensor, "texts tokens"],
        real: Bool[Tensor, "texts tokens"],
        name: str,
    ) -> None:
        path, outputs, whole = _find_layers(model, ids, real, name)
        layers = list(model.get_submodule(path).children())
        if not 0 < tuned <= len(layers):
            raise ConfigError(f"{name} has {len(layers)} layers; cannot tune the last {tuned} of them.")
        cut = len(layers) - tuned
        self.tuned = nn.ModuleList(layers[cut:])
        self._catch, self._begin = _Catch(layers[cut], outputs[cut]), _Begin(layers[cut])
        passing = [_Pass(layer, output) for layer, output in zip(layers, outputs, strict=True)]
        self.lower = _with_layers(model, path, [*layers[:cut], self._catch, *passing[cut + 1 :]])
        self._upper = _with_layers(model, path, [*passing[:cut], self._begin, *layers[cut + 1 :]])
        # A token that is no padding: some families tell padding by its number.
        self._padding, self._word = int(ids[~real][0]), int(ids[0, 0])
        self._prove(ids, real, whole, name, tuned)

    def states(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens hidden"]:
        """What the lower half hands to the upper one."""
        last_hidden(self.lower, ids, real)
        found, self._catch.found = self._catch.found, None
        if found is None:
            raise ConfigError("The lower half of an encoder gave no states; tune it in full or not at all.")
        # Longformer pads to whole windows inside.
        return found[:, : ids.shape[1]]

    def from_states(
        self, states: Float[Tensor, "texts tokens hidden"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens dim"]:
        """The last hidden states, from what the lower half gave."""
        ids = torch.where(real, self._word, self._padding)
        self._begin.given = states
        try:
            return last_hidden(self._upper, ids, real)
        finally:
            self._begin.given = None

    @torch.no_grad()
    def _prove(self, ids: Tensor, real: Tensor, whole: Tensor, name: str, tuned: int) -> None:
        advice = f'Tune {name} in full or not at all (encoder.tune = "full" or "frozen").'
        try:
            states = self.states(ids, real)
            # As a text bank keeps them: without what stood at padding.
            found = self.from_states(states * real[..., None].to(states.dtype), real)
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError, KeyError) as error:
            raise ConfigError(
                f"The last {tuned} layers of {name} cannot be run by themselves ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no reason given'}). {advice}"
            ) from error
        off = float((found - whole)[real].abs().max() / whole[real].abs().max())
        if not off <= _TOLERANCE:
            raise ConfigError(
                f"The last {tuned} layers of {name} behind the others do not give what the whole gives (off by {off:.1g} of "
                f"the largest number): its layers share more than hidden states, or padding changes what they give. {advice}"
            )


class _Catch(nn.Module):
    """Stands in a layer's place and keeps what it was given."""

    def __init__(self, layer: nn.Module, output: Any) -> None:
        super().__init__()
        # In a tuple so that torch does not register it.
        self._layer, self._output = (layer,), output
        self.found: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.found = _hidden(args, kwargs)
        return _as(self._output, self.found)


class _Pass(_Catch):
    """Stands in a layer's place and hands on what it is given."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return _as(self._output, _hidden(args, kwargs))


class _Begin(nn.Module):
    """A layer that reads what `given` holds and not what it is called with."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = (layer,)
        self.given: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = _hidden(args, kwargs)
        if self.given is None or found.shape[0] != self.given.shape[0] or found.shape[2] != self.given.shape[2]:
            raise ValueError("the upper half of an encoder was called without states of its shape")
        # Longformer pads to whole windows inside; what stands there is masked.
        given = torch.cat([self.given, found[:, self.given.shape[1] :]], dim=1)
        if args:
            return self._layer[0](given, *args[1:], **kwargs)
        return self._layer[0](**{**kwargs, "hidden_states": given})


def _attribute(stand_in: nn.Module, name: str) -> Any:
    """An attribute of a module that stands in a layer's place: its own, else the layer's, which families read."""
    try:
        return nn.Module.__getattr__(stand_in, name)
    except AttributeError:
        if "_layer" not in vars(stand_in):
            raise
        return getattr(vars(stand_in)["_layer"][0], name)


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    found = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(found, Tensor) or found.dim() != 3:
        raise TypeError("its layers are not called with hidden states")
    return found


def _as(output: Any, hidden: Tensor) -> Any:
    """Hidden states in the form in which a layer returns them."""
    return (hidden, *output) if isinstance(output, tuple) else hidden


@torch.no_grad()
def _find_layers(model: nn.Module, ids: Tensor, real: Tensor, name: str) -> tuple[str, list[Any], Tensor]:
    """Where a model keeps its layers, what each returns beside hidden states, and what the whole model gives.

    The layers are the first list as long as the model is deep whose modules are called one after the other, once each.

    Raises:
        ConfigError: there is no such list.
    """
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)  # type: ignore[union-attr, operator]
    lists = {
        path: list(module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    }
    place = {id(layer): (path, number) for path, layers in lists.items() for number, layer in enumerate(layers)}
    called: dict[str, list[int]] = {path: [] for path in lists}
    outputs: dict[str, list[Any]] = {path: [] for path in lists}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        path, number = place[id(module)]
        called[path].append(number)
        outputs[path].append((None,) * (len(output) - 1) if isinstance(output, tuple) else None)

    hooks = [layer.register_forward_hook(note) for layers in lists.values() for layer in layers]
    try:
        whole = last_hidden(model, ids, real)
    finally:
        for hook in hooks:
            hook.remove()
    for path, numbers in called.items():
        if depth and numbers == list(range(depth)):
            return path, outputs[path], whole
    raise ConfigError(
        f"The layers of {name} ({type(model).__name__}) cannot be told apart: no list of {depth} of them is called one after "
        'the other. Tune it in full or not at all (encoder.tune = "full" or "frozen").'
    )


def _with_layers(model: nn.Module, path: str, layers: list[nn.Module]) -> nn.Module:
    """A second module around the same sub-modules, with other layers; the first one stays as it is."""
    view = parent = _shallow(model)
    *way, last = path.split(".")
    for name in way:
        child = _shallow(parent.get_submodule(name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(layers)
    return view


def _shallow(module: nn.Module) -> nn.Module:
    """A copy that shares children and parameters, but not the registers that list them."""
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    return copied
