"""A wrapper that keeps a module as it is."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """Pins a module to evaluation mode without gradients to its weights, whatever its parent does.

    `requires_grad=False` alone leaves dropout on when a parent calls `train()`; the released A-LLMRec program has that
    defect. Gradients still flow *through* the module to its inputs, which stage 2 needs. Its weights are no part of
    the parent's state dict, so they are never stored with a deliverable.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        module.eval()
        module.requires_grad_(False)
        # In a tuple so that torch does not register it as a child: parameters(), state_dict() and train() pass it by.
        self._held = (module,)

    @property
    def module(self) -> Any:
        """The module itself; typed Any because a wrapper adds nothing to the wrapped interface."""
        return self._held[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        return self._held[0](*args, **kwargs)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode."""
        self.training = False
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Frozen:
        self._held[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        return self

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of every weight and buffer, to compare bytes with later."""
        return {name: tensor.detach().clone() for name, tensor in self._held[0].state_dict().items()}
