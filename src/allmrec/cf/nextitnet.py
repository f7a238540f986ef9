"""NextItNet (Yuan et al., WSDM 2019): dilated causal convolutions over a history."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.cf.losses import Objective
from allmrec.cf.text_items import ITEM_SOURCE, ItemSource
from allmrec.cf.tied import TiedBackbone
from allmrec.core.config import Config

__all__ = ["NextItNet", "NextItNetConfig"]


class NextItNetConfig(Config):
    """Size and habits of NextItNet."""

    dim: int = Field(50, ge=1, description="Length d of item and user vectors, and channels of the convolutions.")
    max_history: int = Field(50, ge=1, description="Most recent items that the model looks at.")
    kernel: int = Field(3, ge=2, description="Positions that a convolution joins.")
    dilations: tuple[int, ...] = Field(
        (1, 4, 1, 4), min_length=1, description="One residual block each; its two convolutions skip l and 2l positions."
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of item embeddings and of the last states.")
    items: ItemSource = Field("ids", description=ITEM_SOURCE)
    objective: Objective = Field(Objective(loss="sampled_softmax", negatives=64), description="What it is trained for.")


class NextItNet(TiedBackbone[NextItNetConfig]):
    """Item embeddings, then residual blocks of two dilated causal convolutions, each with layer norm and ReLU.

    The paper's second residual block (figure 3b), with dilation l in the first convolution and 2l in the second.
    One block with kernel k sees 3 l (k - 1) positions further back: with kernel 3 and dilations 1 and 4, a vector sees
    31 items.

    Departures from the paper. Padding is 0 before every convolution, so it makes no difference how far a history is
    padded. The table that embeds items scores them too, because the score must be x_u · E_i; the paper has a matrix of
    its own for the output. The softmax is over sampled items, not over the catalogue. Dropout is added, which the data
    sets here, far smaller than the paper's, need.

    An empty history has the vector 0. Initial weights come from torch's global stream.

    Args:
        n_items: number of items, the padding not counted.
        config: sizes.
    """

    def __init__(self, n_items: int, config: NextItNetConfig) -> None:
        super().__init__(n_items, config)
        self.blocks = nn.ModuleList(_Block(config.dim, config.kernel, dilation) for dilation in config.dilations)

    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length d"]:
        """The last block's output at each position; 0 at padding."""
        real = (histories != 0).unsqueeze(-1)
        hidden = self.emb_dropout(self.item_emb(histories))
        for block in self.blocks:
            hidden = block(hidden, real)
        return self.objective.user_side(self.state_dropout(hidden))


class _Block(nn.Module):
    """Two causal convolutions with layer norm and ReLU behind each, and a residual connection round both."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _CausalConvolution(dim, kernel, dilation)
        self.norm1 = nn.LayerNorm(dim)
        self.conv2 = _CausalConvolution(dim, kernel, 2 * dilation)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, hidden: Float[Tensor, "batch length d"], real: Bool[Tensor, "batch length 1"]
    ) -> Float[Tensor, "batch length d"]:
        # Norm and bias give padding a value, which the next convolution must not see.
        inner = F.relu(self.norm1(self.conv1(hidden))) * real
        return hidden + F.relu(self.norm2(self.conv2(inner))) * real


class _CausalConvolution(nn.Module):
    """A dilated convolution that sees no later position, as one product with the joined positions.

    On a CPU this is faster than `nn.Conv1d`, whose channels lie in the other order.
    """

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.joined = nn.Linear(kernel * dim, dim)

    def forward(self, hidden: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch length d"]:
        length = hidden.shape[1]
        padded = F.pad(hidden, (0, 0, (self.kernel - 1) * self.dilation, 0))
        taps = [padded[:, tap * self.dilation : tap * self.dilation + length] for tap in range(self.kernel)]
        return cast(Tensor, self.joined(torch.cat(taps, dim=-1)))
