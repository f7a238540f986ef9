"""The loss of next-item prediction over a batch, computed without waste."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.catalogue_softmax import catalogue_softmax
from allmrec.cf.samples import TrainingBatch
from allmrec.cf.text_items import kept_items
from allmrec.core.grouping import length_groups
from allmrec.core.precision import precision_here

__all__ = ["NextItemLoss"]


class NextItemLoss(nn.Module):
    """A backbone's objective, averaged over a batch's real positions.

    Two things make it faster than one pass over the batch, and change the result by rounding only. Rows of like length go
    through the model together, so that short ones are not as wide as the longest. And the table of items is looked up
    once: every look-up has a gradient as large as the whole table, so the model gets a small table of the batch's own
    items in the place of the large one.

    Args:
        backbone: what is trained.
        worth_a_pass: positions that a further group must save. On an accelerator there is one group, whatever this says.
        by_rows: whether the gradient of the table of items is sparse: of the rows that the batch looks at. A softmax over the whole
            catalogue looks at all of them, and has none.
    """

    def __init__(self, backbone: SequenceBackbone, worth_a_pass: int = 256, by_rows: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.by_rows = by_rows
        self.worth_a_pass = worth_a_pass

    def of(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """The loss of a batch."""
        with kept_items(self.backbone, self._used(batch)):
            return self._of(batch)

    def _used(self, batch: TrainingBatch) -> Int[Tensor, " items"] | None:
        """The items that a batch looks at, ascending, padding among them; none where that is the whole catalogue."""
        if batch.competing is None:
            return None
        used = np.union1d(np.append(batch.histories, 0), batch.competing)
        return torch.as_tensor(used, device=next(self.backbone.parameters()).device)

    def _of(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        device = next(self.backbone.parameters()).device
        histories, users, targets, negatives = (
            torch.as_tensor(array, device=device)
            for array in (batch.histories, batch.users, batch.targets, batch.negatives)
        )
        groups = self.groups(batch) if device.type == "cpu" else [np.arange(len(batch))]
        competing, offsets = (
            None if array is None else torch.as_tensor(array, device=device)
            for array in (batch.competing, batch.offsets)
        )
        whole = (histories, users, targets, negatives, groups, competing, offsets)
        table = self.backbone.item_table
        # A subclass may have put something else in the place of its parent's table.
        weights = None if table is None else dict(self.backbone.named_parameters()).get(table)
        if weights is None or (competing is None and self.backbone.objective.loss == "softmax"):
            return cast(Tensor, self(*whole))
        used = torch.zeros(len(weights), dtype=torch.bool, device=device)
        used[0] = True  # padding stays item 0
        for items in (histories, targets, negatives, competing):
            if items is not None:
                used[items] = True
        small = F.embedding(used.nonzero().squeeze(1), weights, padding_idx=0, sparse=self.by_rows)
        place = used.cumsum(0) - 1
        renumbered = (
            place[histories],
            users,
            place[targets],
            place[negatives],
            groups,
            None if competing is None else place[competing],
            offsets,
        )
        return cast(Tensor, functional_call(self, {f"backbone.{table}": small}, renumbered))

    def forward(
        self,
        histories: Int[Tensor, "batch length"],
        users: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch length"],
        negatives: Int[Tensor, "batch drawn"],
        groups: list[Int[np.ndarray, " _rows"]],
        competing: Int[Tensor, " competing"] | None = None,
        offsets: Float[Tensor, " competing"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, group by group."""
        backbone, objective = self.backbone, self.backbone.objective
        if objective.loss == "softmax":
            return self._softmax(histories, users, targets, groups, competing, offsets)
        shared = None if objective.negatives is None else backbone.vectors_of(negatives).transpose(1, 2)
        states, followed, against = [], [], []
        for chosen, columns, part, real in self._parts(histories, users, targets, groups):
            states.append(part.flatten(0, 1)[real])
            followed.append(targets[chosen, -columns:].flatten()[real])
            if shared is None:
                against.append(negatives[chosen, -columns:].flatten()[real])
            else:
                against.append((part @ shared[chosen]).flatten(0, 1)[real])
        state, items, other = torch.cat(states), torch.cat(followed), torch.cat(against)
        if shared is None:
            pair = (state * backbone.vectors_of(torch.stack([items, other]))).sum(-1)
            return objective(pair[0], pair[1].unsqueeze(-1))
        return objective((state * backbone.vectors_of(items)).sum(-1), other)

    def _softmax(
        self,
        histories: Int[Tensor, "batch length"],
        users: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch length"],
        groups: list[Int[np.ndarray, " _rows"]],
        competing: Int[Tensor, " competing"] | None,
        offsets: Float[Tensor, " competing"] | None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy over the catalogue, or over the batch's competing items."""
        states, followed = [], []
        for chosen, columns, part, real in self._parts(histories, users, targets, groups):
            states.append(part.flatten(0, 1)[real])
            followed.append(targets[chosen, -columns:].flatten()[real])
        state, wanted = torch.cat(states), torch.cat(followed)
        precision = self.backbone.objective.precision
        products = getattr(torch, precision_here(state.device) if precision == "auto" else precision)
        if competing is None or offsets is None:
            return catalogue_softmax(state, self.backbone.item_vectors()[1:], wanted - 1, products=products)
        # Ascending, in the small table too.
        place = torch.searchsorted(competing, wanted)
        return catalogue_softmax(state, self.backbone.vectors_of(competing), place, offsets, products=products)

    def _parts(
        self,
        histories: Int[Tensor, "batch length"],
        users: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch length"],
        groups: list[Int[np.ndarray, " _rows"]],
    ) -> Iterator[tuple[Tensor, int, Tensor, Tensor]]:
        """Each group's rows, its used columns on the right, the vectors there, and the flat places of real positions."""
        for rows in groups:
            chosen = torch.from_numpy(rows).to(histories.device)
            columns = _used_columns(targets[chosen] != 0)
            part = self.backbone.position_vectors(histories[chosen, -columns:], users[chosen])
            # Flat indices: a mask would be searched anew each time that it picks something.
            yield chosen, columns, part, targets[chosen, -columns:].flatten().nonzero().squeeze(1)

    def groups(self, batch: TrainingBatch) -> list[Int[np.ndarray, " _rows"]]:
        """Rows that go through the model together. What a row gives does not depend on its neighbours."""
        return length_groups((batch.targets != 0).sum(axis=1), worth=self.worth_a_pass)


def _used_columns(real: Bool[Tensor, "rows length"]) -> int:
    """Columns on the right that hold something."""
    return max(1, int(real.any(dim=0).sum()))
