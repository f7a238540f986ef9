"""Cross-entropy over the whole catalogue in pieces, so that memory does not grow with items times positions."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["catalogue_softmax"]

# Numbers of a piece's logits at the most: 16 MB of float32. Larger pieces are slower, as memory is asked for anew each time.
_PIECE = 1 << 22


def catalogue_softmax(
    states: Float[Tensor, "positions d"],
    items: Float[Tensor, "items d"],
    targets: Int[Tensor, " positions"],
    offsets: Float[Tensor, " items"] | None = None,
    piece: int = _PIECE,
    products: torch.dtype | None = None,
) -> Float[Tensor, ""]:
    """Mean of -log softmax(states · itemsᵀ + offsets)_target.

    The logits are made for some positions at a time and given up again; the gradients come with them, so there is one pass.

    Args:
        states: x of each position.
        items: E of the items that compete.
        targets: for each position the row of `items` that came next.
        offsets: added to each item's score, such as -log q of a sample drawn with probabilities q (Bengio and Senecal,
            2008; Yi et al., RecSys 2019).
        piece: logits in memory at a time.
        products: what the three products of matrices are computed in; none: as `states` are. The softmax between them, the
            sums over pieces and the gradients are held as `states` are.
    """
    rows = max(1, piece // max(1, len(items)))
    found: Tensor = _CatalogueSoftmax.apply(states, items, targets, offsets, rows, products or states.dtype)  # type: ignore[no-untyped-call]  # torch leaves it without annotations
    return found


class _CatalogueSoftmax(torch.autograd.Function):
    """The loss with both gradients, computed together."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        items: Tensor,
        targets: Tensor,
        offsets: Tensor | None,
        rows: int,
        products: torch.dtype,
    ) -> Tensor:
        loss, exact = states.new_zeros(()), states.dtype
        left, right = states.to(products), items.to(products)
        by_state, by_item = torch.empty_like(states), torch.zeros_like(items)
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            logits = (left[part] @ right.T).to(exact)
            if offsets is not None:
                logits += offsets
            totals = torch.logsumexp(logits, dim=1, keepdim=True)
            wanted = targets[part, None]
            loss += (totals - logits.gather(1, wanted)).sum()
            shares = logits.sub_(totals).exp_()
            shares.scatter_add_(1, wanted, shares.new_full((len(wanted), 1), -1.0))
            shares = shares.to(products)
            by_state[part] = (shares @ right).to(exact)
            if products == exact:
                by_item.addmm_(shares.T, left[part])
            else:
                by_item += shares.T @ left[part]
        ctx.save_for_backward(by_state, by_item)
        ctx.count = max(1, len(states))
        mean: Tensor = loss / ctx.count
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        by_state, by_item = ctx.saved_tensors
        scale = gradients[0] / ctx.count
        return by_state * scale, by_item * scale, None, None, None, None
