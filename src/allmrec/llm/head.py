"""From hidden states to logits, the way a model's own forward goes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from allmrec.llm.cutting import shallow

__all__ = ["OwnHead"]


class OwnHead:
    """A model's own forward with its body taken out: scales, caps and biases of the logits are those of the model itself.

    Args:
        model: a causal language model of transformers. It is left as it is.
        through: names of parts below the body by which its forward calls the body (OPT's goes by `decoder`).
    """

    def __init__(self, model: Any, through: tuple[str, ...] = ()) -> None:
        given = _Given()
        body: nn.Module = given
        for part in reversed(through):
            holder = nn.Module()
            holder.add_module(part, body)
            body = holder
        twin = shallow(model)
        # accelerate puts a forward on each module that it watches over, bound to the module that it was copied from.
        vars(twin).pop("forward", None)
        twin._modules[model.base_model_prefix] = body
        self._twin: Any = twin
        self._given = given

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states [places, hidden]."""
        # The body stands in for one that has read as many tokens as there are places.
        logits: Tensor = self._twin(inputs_embeds=hidden[None], use_cache=False).logits
        return logits[0]


class _Given(nn.Module):
    """Stands for a body and gives back what it is given."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=inputs_embeds)  # type: ignore[arg-type]  # a Tensor is meant
