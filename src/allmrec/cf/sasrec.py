"""SASRec (Kang and McAuley, ICDM 2018): self-attention over a history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.losses import Objective
from allmrec.cf.text_items import ITEM_SOURCE, ItemSource, loaded
from allmrec.core.config import Config
from allmrec.data.batching import SequenceBatch

__all__ = ["SASRec", "SASRecConfig"]

_EPSILON = 1e-8


class SASRecConfig(Config):
    """Size and habits of SASRec. The defaults are the paper's."""

    dim: int = Field(50, ge=1, description="Length d of item and user vectors.")
    max_history: int = Field(50, ge=1, description="Most recent items that the model looks at.")
    blocks: int = Field(2, ge=1, description="Self-attention blocks.")
    heads: int = Field(1, ge=1, description="Attention heads; must divide the dim.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of embeddings, attention weights and feed-forward.")
    mask_padding: bool = Field(
        True,
        description="Keep attention off padding, as in the original SASRec. False as in A-LLMRec's released program, "
        "whose output then depends on how much padding there is.",
    )
    items: ItemSource = Field("ids", description=ITEM_SOURCE)
    objective: Objective = Field(Objective(), description="What it is trained for.")

    @model_validator(mode="after")
    def _heads_fit(self) -> SASRecConfig:
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the dim {self.dim}; choose a divisor")
        return self


class SASRec(SequenceBackbone):
    """Item embeddings, position embeddings, causal self-attention blocks, one last norm.

    The layout and the parameters' names are those of the program that A-LLMRec's authors released, so weights trained
    there load here (`from_arrays`). Positions are counted from the right end, and with `mask_padding` no padding is
    attended to: a history gives the same vector however far it is padded.

    Initial weights come from torch's global stream; `core.seeding.seeded_torch` names it.

    Args:
        n_items: number of items, the padding not counted.
        config: sizes.
    """

    item_table = "item_emb.weight"

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__(n_items, config.dim, config.max_history)
        self.config = config
        dim, dropout = config.dim, config.dropout
        self.item_emb = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.pos_emb = nn.Embedding(config.max_history, dim)
        self.emb_dropout = nn.Dropout(dropout)
        blocks = range(config.blocks)
        self.attention_layernorms = nn.ModuleList(nn.LayerNorm(dim, eps=_EPSILON) for _ in blocks)
        self.attention_layers = nn.ModuleList(_Attention(dim, config.heads, dropout) for _ in blocks)
        self.forward_layernorms = nn.ModuleList(nn.LayerNorm(dim, eps=_EPSILON) for _ in blocks)
        self.forward_layers = nn.ModuleList(_FeedForward(dim, dropout) for _ in blocks)
        self.last_layernorm = nn.LayerNorm(dim, eps=_EPSILON)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter.data)
        self.item_emb.weight.data[0] = 0

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray | Tensor], config: SASRecConfig) -> SASRec:
        """Build a SASRec from weights trained elsewhere.

        Args:
            arrays: parameter name, as in this class and in the released program, to its values.
            config: the sizes that the weights were trained with.

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

    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length d"]:
        """The user's vector after each position. At a position with nothing but padding before it: a constant vector.

        Raises:
            ValueError: there are more columns than the model has positions.
        """
        return self._states(histories)

    def fast_user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`user_vectors` to within rounding: the last block reads every position and computes the last alone."""
        return self._states(self._tensors(batch)[0], last=True)[:, -1]

    def _states(self, histories: Int[Tensor, "batch length"], last: bool = False) -> Float[Tensor, "batch wanted d"]:
        """The user's vector after each position, or after the last one alone."""
        length = histories.shape[1]
        if length > self.max_history:
            raise ValueError(f"histories have {length} columns; this SASRec looks at the last {self.max_history} only.")
        if not self.config.mask_padding:
            # Padding keys take part in the attention there, and the released program always pads to the full length.
            histories = F.pad(histories, (self.max_history - length, 0))
        columns = histories.shape[1]
        real = (histories != 0).unsqueeze(-1)
        positions = torch.arange(self.max_history - columns, self.max_history, device=histories.device)
        hidden = self.item_emb(histories) * self.dim**0.5 + self.pos_emb(positions)
        hidden = self.emb_dropout(hidden) * real
        visible = self._visible(histories)
        blocks = zip(
            self.attention_layernorms,
            self.attention_layers,
            self.forward_layernorms,
            self.forward_layers,
            strict=True,
        )
        for number, (norm, attention, norm_2, feed_forward) in enumerate(blocks, start=1):
            # Nothing reads what the last block would make of other positions.
            first = columns - 1 if last and number == self.config.blocks else 0
            query = norm(hidden[:, first:])
            hidden = norm_2(query + attention(query, hidden, visible[:, :, first:]))
            hidden = feed_forward(hidden) * real[:, first:]
        return self.objective.user_side(self.last_layernorm(hidden)[:, -1 if last else columns - length :])

    def _visible(self, histories: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch_or_one 1 length length"]:
        """True where a query (row) may look at a key (column)."""
        length = histories.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=histories.device).tril()
        if not self.config.mask_padding:
            return causal[None, None]
        itself = torch.eye(length, dtype=torch.bool, device=histories.device)
        # A padding position sees itself: a row without any key would turn the softmax into NaN.
        return (causal & ((histories != 0)[:, None, :] | itself)).unsqueeze(1)


class _Attention(nn.Module):
    """Multi-head attention with torch.nn.MultiheadAttention's parameter names, through the fused kernel."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "batch wanted d"],
        hidden: Float[Tensor, "batch length d"],
        visible: Bool[Tensor, "batch_or_one 1 wanted length"],
    ) -> Float[Tensor, "batch wanted d"]:
        batch, wanted, dim = query.shape
        q = F.linear(query, self.in_proj_weight[:dim], self.in_proj_bias[:dim])
        k, v = F.linear(hidden, self.in_proj_weight[dim:], self.in_proj_bias[dim:]).chunk(2, dim=-1)
        q, k, v = (t.view(batch, t.shape[1], self.heads, -1).transpose(1, 2) for t in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)
        return cast(Tensor, self.out_proj(mixed.transpose(1, 2).reshape(batch, wanted, dim)))


class _Pointwise(nn.Conv1d):
    """A convolution with kernel 1 is a linear layer: its name and shape are the released ones, its speed is Linear's."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, kernel_size=1)

    def forward(self, hidden: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch length d"]:
        return F.linear(hidden, self.weight.squeeze(-1), self.bias)


class _FeedForward(nn.Module):
    """Two pointwise layers with a residual connection."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = _Pointwise(dim)
        self.conv2 = _Pointwise(dim)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch length d"]:
        inner = F.relu(self.dropout1(self.conv1(hidden)))
        return hidden + cast(Tensor, self.dropout2(self.conv2(inner)))
