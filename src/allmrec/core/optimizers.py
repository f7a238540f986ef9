"""AdamW that moves only those rows of a table which a step has seen, where the table's gradient is sparse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["RowAdamW", "clip_norm"]


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter, ICLR 2019); a parameter whose gradient is sparse is updated lazily, row by row.

    Of such a parameter the rows without a gradient stay as they are, and so do their moments; the bias correction counts all steps, as
    `torch.optim.SparseAdam` has it. A step then takes as long as it has rows, and not as long as the table is. Weight decay shrinks the
    rows of the step. Arguments are AdamW's.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.register_step_pre_hook(lambda optimizer, *_: self._move_all_rows())

    @torch.no_grad()
    def _move_all_rows(self) -> None:
        """What of a step is by rows, before the rest of it."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._move_rows(parameter, parameter.grad.coalesce(), group)
                    parameter.grad = None  # so that the rest leaves it out

    def _move_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        steps, (beta1, beta2), rate = float(state["step"]), group["betas"], float(group["lr"])
        rows, change = gradient.indices()[0], gradient.values()
        first = state["exp_avg"][rows].lerp_(change, 1 - beta1)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(change, change, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        below = second.div_(1 - beta2**steps).sqrt_().add_(group["eps"])
        moved = parameter[rows].mul_(1 - rate * group["weight_decay"])
        parameter.index_copy_(0, rows, moved.addcdiv_(first, below, value=-rate / (1 - beta1**steps)))


def clip_norm(parameters: list[torch.nn.Parameter], most: float) -> None:
    """Shrink all gradients together until their norm is `most` or less; sparse ones too.

    Args:
        parameters: whose gradients; those without one are left out.
        most: the largest norm.
    """
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    found = [p.grad for p in parameters if p.grad is not None]
    values = [gradient.values() if gradient.is_sparse else gradient for gradient in found]
    norm = torch.nn.utils.get_total_norm(values)
    share = torch.clamp(most / (norm + 1e-6), max=1.0)
    for gradient in values:
        gradient.mul_(share)
