"""NCF as two towers (He et al., WWW 2017): a vector for each user and each item."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.cf.backbone import SequenceBackbone, check_numbers, row_count, trimmed, with_parameters
from allmrec.cf.fold_in import least_squares
from allmrec.cf.losses import Objective
from allmrec.core.config import Config
from allmrec.data.batching import SequenceBatch

__all__ = ["NCF", "NCFConfig"]

# Positions folded in at once: each takes a matrix of d by d numbers.
_FOLDED_AT_ONCE = 4096


class NCFConfig(Config):
    """Size and habits of NCF."""

    dim: int = Field(50, ge=1, description="Length d of item and user vectors.")
    max_history: int = Field(50, ge=1, description="Most recent items of a user the model does not know.")
    hidden: tuple[int, ...] = Field((100,), description="Widths of each tower's hidden layers; none: a linear tower.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of embeddings.")
    ridge: float = Field(
        1.0, gt=0, description="Ridge of the least squares that stand in for an unknown user's vector."
    )
    unseen: float = Field(0.1, ge=0, description="Weight of items not interacted with in these least squares.")
    objective: Objective = Field(
        Objective(loss="binary_cross_entropy", negatives=64), description="What it is trained for."
    )


class NCF(SequenceBackbone):
    """A table of users and one of items, each through a multi-layer perceptron of its own; the score is their product.

    Departures from the paper. Its networks read a user and an item together, so that neither has a vector by itself;
    here each has its tower and they meet in a dot product, as A-LLMRec must have it. Nothing is pre-trained (the
    paper's NeuMF starts from its two parts). Negatives count as much as the positive, however many are drawn. The first
    item of each user's training sequence is no target, because `pretrain` predicts what follows something.

    A user who was trained has the same vector whatever the history holds, so no later item can move an earlier state,
    and no earlier one either. Somebody else (`users` -1, or a number that had no training row) is folded in from the
    history's last `max_history` items: the least-squares vector against the item vectors (`cf.fold_in.least_squares`),
    in which order does not count; an empty history has the vector 0.

    Initial weights come from torch's global stream.

    Args:
        n_items: number of items, the padding not counted.
        n_users: number of users.
        config: sizes.
    """

    item_table = "item_emb.weight"
    user_tables = ("user_emb.weight", "user_trained")
    user_trained: Tensor

    def __init__(self, n_items: int, n_users: int, config: NCFConfig) -> None:
        super().__init__(n_items, config.dim, config.max_history)
        self.config = config
        self.n_users = n_users
        self.user_emb = nn.Embedding(n_users, config.dim)
        self.item_emb = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        for table in (self.user_emb, self.item_emb):
            nn.init.normal_(table.weight, std=0.01)
        self.item_emb.weight.data[0] = 0
        self.emb_dropout = nn.Dropout(config.dropout)
        self.user_tower = _tower(config.dim, config.hidden)
        self.item_tower = _tower(config.dim, config.hidden)
        # Part of the weights: without it a user without training would be answered by a random vector.
        self.register_buffer("user_trained", torch.zeros(n_users, dtype=torch.bool))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray | Tensor], config: NCFConfig) -> NCF:
        """Build one from trained weights.

        Raises:
            ArtifactError: a parameter is missing, superfluous or of another shape than the config asks for.
        """
        n_items, n_users = (row_count(arrays, f"{word}_emb.weight", "NCF") for word in ("item", "user"))
        return with_parameters(lambda: cls(n_items - 1, n_users, config), arrays, f"NCF of {config!r}")

    @property
    def objective(self) -> Objective:
        """What `pretrain` minimises."""
        return self.config.objective

    def trained_on(self, users: Int[np.ndarray, " users"]) -> None:
        """Note whose row of the table will mean something."""
        self.user_trained[torch.from_numpy(users)] = True

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        return self.vectors_of(torch.arange(self.n_items + 1, device=self.item_emb.weight.device))

    def vectors_of(self, items: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """`E` of some items, without the rest of the catalogue."""
        vectors = self.item_tower(self.emb_dropout(self.item_emb(items))) * (items != 0).unsqueeze(-1)
        return self.objective.item_side(vectors)

    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length d"]:
        """A known user's vector at every position; of anybody else what the items up to there tell."""
        vectors = self._of_known(users).unsqueeze(1).expand(-1, histories.shape[1], -1)
        folded = ~self._known(users)
        if not folded.any():
            return vectors
        length = histories.shape[1]
        upto = torch.ones(length, length, dtype=torch.bool, device=histories.device).tril()
        prefixes = (histories[folded].unsqueeze(1) * upto).reshape(-1, length)
        vectors = vectors.clone()
        vectors[folded] = self._folded_in(prefixes).view(-1, length, self.dim)
        return vectors

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`x_u`: a known user's own vector, or what the whole history tells.

        Raises:
            UnknownIdError: a number that is no item or no user of the model; -1 is somebody unknown.
        """
        check_numbers(batch, self.n_items, self.n_users)
        device = self.item_emb.weight.device
        users = torch.as_tensor(batch.users, device=device)
        vectors, folded = self._of_known(users), ~self._known(users)
        if folded.any():
            histories = torch.as_tensor(trimmed(batch.histories, self.max_history), device=device)
            vectors = vectors.clone()
            vectors[folded] = self._folded_in(histories[folded])
        return vectors

    def _known(self, users: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        return (users >= 0) & self.user_trained[users.clamp(min=0)]

    def _of_known(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch d"]:
        """The vectors of known users; what the others' rows hold means nothing."""
        return self.objective.user_side(self.user_tower(self.emb_dropout(self.user_emb(users.clamp(min=0)))))

    def _folded_in(self, histories: Int[Tensor, "rows length"]) -> Float[Tensor, "rows d"]:
        E = self.item_vectors()
        parts = torch.split(histories, _FOLDED_AT_ONCE)
        found = torch.cat([least_squares(E, part, self.config.ridge, self.config.unseen) for part in parts])
        return self.objective.user_side(found)


def _tower(dim: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them, from embedding to vector."""
    sizes = (dim, *hidden, dim)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
