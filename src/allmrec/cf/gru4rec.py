"""GRU4Rec (Hidasi et al., ICLR 2016 and CIKM 2018): a recurrent network over a history."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.cf.losses import Objective
from allmrec.cf.text_items import ITEM_SOURCE, ItemSource
from allmrec.cf.tied import TiedBackbone
from allmrec.core.config import Config

__all__ = ["GRU4Rec", "GRU4RecConfig"]


class GRU4RecConfig(Config):
    """Size and habits of GRU4Rec."""

    dim: int = Field(50, ge=1, description="Length d of item and user vectors, and of the recurrent state.")
    max_history: int = Field(50, ge=1, description="Most recent items that the model looks at.")
    layers: int = Field(1, ge=1, description="Recurrent layers.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of item embeddings and states.")
    items: ItemSource = Field("ids", description=ITEM_SOURCE)
    objective: Objective = Field(Objective(loss="bpr_max", negatives=64), description="What it is trained for.")


class GRU4Rec(TiedBackbone[GRU4RecConfig]):
    """Item embeddings, a GRU over them, and its state after each item as the user's vector.

    Departures from the papers. Rows are pieces of one user's history, trained over their whole length, in place of
    session-parallel steps of one item. Negatives are drawn uniformly for each row and spare what its user took, in
    place of the other sessions' items and of popularity's power. The same table embeds items at the input and scores
    them at the output ("constrained embedding" of the second paper), and the score has no last activation and no
    bias of the item, because it must be x_u · E_i. Adam in place of Adagrad.

    A state begins at zero, so an empty history has the vector 0. Initial weights come from torch's global stream.

    Args:
        n_items: number of items, the padding not counted.
        config: sizes.
    """

    def __init__(self, n_items: int, config: GRU4RecConfig) -> None:
        super().__init__(n_items, config)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(config.dim, config.dim, config.layers, batch_first=True, dropout=between)

    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length d"]:
        """The state after each position; 0 where nothing but padding has been before it."""
        real = histories != 0
        # A step over padding would move the state, so rows are pushed to the left, where padding comes last.
        columns = torch.arange(histories.shape[1], device=histories.device)
        leading = (real.cumsum(1) == 0).sum(1, keepdim=True)
        begun = columns >= leading
        pushed = histories.gather(1, (columns + leading).clamp(max=histories.shape[1] - 1))
        states = self.gru(self.emb_dropout(self.item_emb(pushed)))[0]
        back = (columns - leading).clamp(min=0)
        aligned = states.gather(1, back.unsqueeze(-1).expand(-1, -1, self.dim))
        return self.objective.user_side(self.state_dropout(aligned * begun.unsqueeze(-1)))
