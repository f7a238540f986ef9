"""What an item slot carries before F_I: its CF joint vector, its text joint vector, both, or a mixture."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.alignment.joint_items import JointItemTable

__all__ = ["SlotContents", "SlotKind"]

SlotKind = Literal["counts", "both", "gate"]

# Training interactions at which the gate begins by trusting both vectors alike.
_EVEN_AT = 5.0


class SlotContents(nn.Module):
    """Makes F_I's inputs from rows of a table.

    - counts: the one vector of an item that counts, `e` or `q` (the paper's).
    - both (ours): `e` and `q` side by side, twice as wide, so that F_I can compare them.
    - gate (ours): `g e + (1 − g) q` with `g = σ(a · ln(1 + n) + b)`, n the item's training interactions; a and b are
      learned and begin such that 5 interactions mean an even mixture.

    Args:
        kind: which of them.
    """

    def __init__(self, kind: SlotKind) -> None:
        super().__init__()
        self.kind = kind
        self.gate = None
        if kind == "gate":
            self.gate = nn.Linear(1, 1)
            nn.init.ones_(self.gate.weight)
            nn.init.constant_(self.gate.bias, -float(torch.tensor(1 + _EVEN_AT).log()))

    def dim(self, joint: JointItemTable) -> int:
        """Components of an input of F_I."""
        return joint.cf.shape[1] * (2 if self.kind == "both" else 1)

    def table(
        self, joint: JointItemTable, counts: Int[Tensor, " _known"] | None = None
    ) -> Float[Tensor, "rows columns"]:
        """One row an item, from which `forward` makes the input.

        Args:
            joint: both vectors of every item, and which of them counts.
            counts: training interactions by item number; the gate wants them. Items behind its end have none.

        Raises:
            ValueError: the gate came without counts.
        """
        chosen = joint.vectors().float()
        if self.kind == "counts":
            return chosen
        if self.kind == "both":
            return torch.cat([chosen, joint.text.float()], dim=1)
        if counts is None:
            raise ValueError("slots of kind 'gate' need the items' interaction counts")
        known = chosen.new_zeros(len(chosen))
        known[: len(counts)] = counts.to(known)
        return torch.cat([chosen, joint.text.float(), known.log1p()[:, None]], dim=1)

    def forward(self, rows: Float[Tensor, "*items columns"]) -> Float[Tensor, "*items inputs"]:
        """Inputs of F_I from rows of `table`."""
        if self.gate is None:
            return rows
        dim = (rows.shape[-1] - 1) // 2
        share = torch.sigmoid(self.gate(rows[..., -1:]))
        return share * rows[..., :dim] + (1 - share) * rows[..., dim:-1]
