"""From hidden states to logits, the way a model's own forward goes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from allmrec.llm.cutting import shallow

__all__ = ["OwnHead"]


class OwnHead:
    """A model's own forward with its body taken out: scales, caps and biases of the logits are those of the model itself.

    Args:
        model: a causal language model of transformers. It is left as it is.
        place: the name of its part that is the body.
        through: names of parts below the body by which its forward calls the body (OPT's goes by `decoder`).
    """

    def __init__(self, model: Any, place: str, through: tuple[str, ...] = ()) -> None:
        body = shallow(getattr(model, place))
        parent = body
        for part in through:
            child = shallow(parent.get_submodule(part))
            parent._modules[part] = child
            parent = child
        _give_back(parent)
        twin = shallow(model)
        # accelerate puts a forward on each module that it watches over, bound to the module that it was copied from.
        vars(twin).pop("forward", None)
        twin._modules[place] = body
        self._twin: Any = twin

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states [places, hidden]."""
        # The body stands in for one that has read as many tokens as there are places.
        logits: Tensor = self._twin(inputs_embeds=hidden[None], use_cache=False).logits
        return logits[0]


def _give_back(body: nn.Module) -> None:
    """Have a body hand on what it is given; whatever else its model asks of it, such as a multiplier, it still has."""

    def forward(*args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _Output:
        return _Output(last_hidden_state=inputs_embeds)

    vars(body)["forward"] = forward
    body._forward_hooks, body._forward_pre_hooks = OrderedDict(), OrderedDict()


class _Output(BaseModelOutputWithPast):
    """What a body gives; whatever else some families hand on (router logits, cross attention) is none."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)
