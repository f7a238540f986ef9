"""What backbones share whose one table embeds items at the input and scores them at the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.losses import Objective
from allmrec.cf.text_items import ItemSource, loaded

__all__ = ["TiedBackbone", "TiedConfig"]


@runtime_checkable
class TiedConfig(Protocol):
    """The settings that such a backbone has at the least."""

    @property
    def dim(self) -> int: ...

    @property
    def max_history(self) -> int: ...

    @property
    def dropout(self) -> float: ...

    @property
    def items(self) -> ItemSource: ...

    @property
    def objective(self) -> Objective: ...


C = TypeVar("C", bound=TiedConfig)


class TiedBackbone(SequenceBackbone, Generic[C]):
    """A table of items with dropout behind it, and dropout for the states; what stands between them is the subclass's.

    Initial weights come from torch's global stream, the table's first.

    Args:
        n_items: number of items, the padding not counted.
        config: sizes.
    """

    item_table = "item_emb.weight"

    def __init__(self, n_items: int, config: C) -> None:
        super().__init__(n_items, config.dim, config.max_history)
        self.config = config
        self.item_emb = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        nn.init.normal_(self.item_emb.weight, std=config.dim**-0.5)
        self.item_emb.weight.data[0] = 0
        self.emb_dropout = nn.Dropout(config.dropout)
        self.state_dropout = nn.Dropout(config.dropout)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray | Tensor], config: C) -> Self:
        """Build one from trained weights.

        Raises:
            ArtifactError: a parameter is missing, superfluous or of another shape than the config asks for.
        """
        return loaded(cls, arrays, config)

    @property
    def objective(self) -> Objective:
        """What `pretrain` minimises."""
        return self.config.objective

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        return self.objective.item_side(self.item_emb.weight)

    def vectors_of(self, items: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """`E` of some items, without the rest of the catalogue."""
        return self.objective.item_side(self.item_emb(items))
