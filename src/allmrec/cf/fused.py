"""Several CF models as one: their scores are added, each times a weight, and one index answers for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from allmrec.cf.backbone import Backbone, SequenceBackbone
from allmrec.cf.text_items import TextItems, with_new_items
from allmrec.core.errors import ConfigError
from allmrec.data.batching import SequenceBatch, left_pad

__all__ = ["FusedBackbone", "centred", "emphasis", "rarity"]

# Interactions at which what `emphasis` adds has fallen to 1/e.
_FEW = 3.0

# The users' side of rarity. It is large, so that the items' side is small and tells little in the similarity of two items.
_USER_SIDE = 64.0


class FusedBackbone:
    """The sum of CF models' scores as one `Backbone`: vectors stand behind one another, users' times the weights.

        x_u · E_i = Σ_k w_k x_u^k · E_i^k · m_i^k + r_i

    EnsRec (Collins et al., 2025) adds the scores of a model of item ids and one of item texts, trained apart. Rarity r and emphasis m
    are ours. Both models are trained on what people interacted with, and so score frequent items higher than their order asks for:
    taking λ log(1 + interactions) off is logit adjustment (Menon et al., ICLR 2021) after training. And interactions tell the less of
    an item the fewer they are, texts do not: of rare items the last model counts m_i times as much, and m is 1 for the other models.

    Args:
        parts: trained models of the same items in evaluation mode. One that knows fewer items than another gives the others
            the vector 0, and they are no part of its histories.
        weights: one a part, above or equal to 0.
        rarity: r of each item number, 0 for padding; see `rarity`. Items beyond it have that of an item without interactions,
            which is the highest. None: 0 everywhere.
        emphasis: m of each item number for the last model; see `emphasis`. Items beyond it have that of an item without
            interactions. None: 1 everywhere.
        n_centred: items up to this number have the mean that is taken out of each model's vectors, so that items that are added
            later change nothing of the others' vectors; None: all that are known.
    """

    def __init__(
        self,
        parts: Sequence[Backbone],
        weights: Sequence[float],
        rarity: Float[Tensor, " rows"] | None = None,
        emphasis: Float[Tensor, " rows"] | None = None,
        n_centred: int | None = None,
    ) -> None:
        if len(parts) != len(weights) or not parts:
            raise ConfigError(f"{len(parts)} models came with {len(weights)} weights; give one for each.")
        self.parts, self.weights = tuple(parts), tuple(float(weight) for weight in weights)
        self.rarity, self.emphasis = rarity, emphasis
        self.n_centred = self.n_items if n_centred is None else n_centred
        self._taken_out: list[Tensor] | None = None

    @property
    def dim(self) -> int:
        """Length of the joined vectors."""
        return sum(part.dim for part in self.parts) + (self.rarity is not None)

    @property
    def max_history(self) -> int:
        """The most that any of the models looks at."""
        return max(part.max_history for part in self.parts)

    @property
    def n_items(self) -> int:
        """Items that any of the models knows."""
        return max(part.n_items for part in self.parts)

    @torch.no_grad()
    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """The models' item vectors behind one another, each model's mean taken out.

        That moves all scores of a user alike. An item that a model does not know gets that model's mean score, and neither
        leads nor trails for it.
        """
        rows = self.n_items + 1
        tables = [centred(part.item_vectors(), self.n_centred) for part in self.parts]
        joined = [torch.cat([t, t.new_zeros(rows - len(t), t.shape[1])]) for t in tables]
        if self.emphasis is not None:
            factors = joined[-1].new_full((rows,), float(self.emphasis.max()))  # of an item without interactions
            factors[: len(self.emphasis)] = self.emphasis
            joined[-1] = joined[-1] * factors[:, None]
        if self.rarity is not None:
            rare = joined[0].new_zeros(rows)  # of an item without interactions
            rare[: len(self.rarity)] = self.rarity
            joined.append(centred(rare[:, None] / _USER_SIDE, self.n_centred))
        return torch.cat(joined, dim=1)

    @torch.no_grad()
    def item_vectors_from(self, first: int) -> Float[Tensor, "later d"]:
        """`item_vectors` of the items from a number on, without those before.

        Args:
            first: above the number of every item that counts in the means that are taken out.
        """
        numbers, joined = torch.arange(first, self.n_items + 1), []
        for part, mean in zip(self.parts, self._means, strict=True):
            known = numbers[numbers <= part.n_items].to(mean.device)
            rows = part.vectors_of(known) if isinstance(part, SequenceBackbone) else part.item_vectors()[known]
            joined.append(torch.cat([rows - mean, rows.new_zeros(len(numbers) - len(known), rows.shape[1])]))
        if self.emphasis is not None:
            joined[-1] = (
                joined[-1] * _rows_from(self.emphasis, first, len(numbers), float(self.emphasis.max()))[:, None]
            )
        if self.rarity is not None:
            mean = self.rarity[1 : self.n_centred + 1].sum() / self.n_centred
            rare = _rows_from(self.rarity, first, len(numbers), 0.0)  # of an item without interactions
            joined.append(((rare - mean) / _USER_SIDE)[:, None].to(joined[0]))
        return torch.cat(joined, dim=1)

    @property
    def _means(self) -> list[Float[Tensor, " d"]]:
        """What is taken out of each model's vectors."""
        if self._taken_out is None:
            self._taken_out = [part.item_vectors()[1 : self.n_centred + 1].mean(dim=0) for part in self.parts]
        return self._taken_out

    @torch.no_grad()
    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """The models' user vectors behind one another, each times its weight; 0 of a model that knows nothing of a history.

        Rarity counts where any model knows something.
        """
        found, known_to_any = [], np.zeros(len(batch.histories), dtype=np.bool_)
        for part, weight in zip(self.parts, self.weights, strict=True):
            histories = batch.histories
            if (histories > part.n_items).any():
                known = [row[(row > 0) & (row <= part.n_items)] for row in histories]
                histories = left_pad(known, histories.shape[1])
            vectors = weight * part.user_vectors(SequenceBatch(batch.users, histories))
            # A model that knows nothing of a history has nothing to say of what comes next.
            knows = (histories != 0).any(axis=1)
            found.append(vectors * torch.from_numpy(knows).to(vectors)[:, None])
            known_to_any |= knows
        if self.rarity is not None:
            found.append(_USER_SIDE * torch.from_numpy(known_to_any).to(found[0])[:, None])
        return torch.cat(found, dim=1)

    def with_new_items(self, vectors: Float[Tensor, "new texts"]) -> FusedBackbone:
        """The same with new items, which the models on texts know from untouched vectors of their texts."""
        parts = [
            with_new_items(part, vectors)
            if isinstance(part, SequenceBackbone) and isinstance(getattr(part, "item_emb", None), TextItems)
            else part
            for part in self.parts
        ]
        other = FusedBackbone(parts, self.weights, self.rarity, self.emphasis, self.n_centred)
        with torch.no_grad():
            other._taken_out = self._means
        return other


def centred(table: Float[Tensor, "rows d"], items: int) -> Float[Tensor, "rows d"]:
    """Item vectors without the mean of the first `items` ones; 0 for padding."""
    found = table - table[1 : items + 1].mean(dim=0)
    found[0] = 0
    return found


def _rows_from(values: Float[Tensor, " rows"], first: int, count: int, beyond: float) -> Float[Tensor, " later"]:
    """So many values from a number on; another one for numbers that have none."""
    found = values[first : first + count]
    return torch.cat([found, found.new_full((count - len(found),), beyond)])


def rarity(counts: Int[np.ndarray, " rows"], weight: float) -> Float[Tensor, " rows"]:
    """-weight · log(1 + interactions) of each item number; 0 for padding, and for an item that nobody interacted with.

    Args:
        counts: training interactions of each item number.
        weight: λ, in units of the joined scores.
    """
    found = -weight * np.log1p(np.asarray(counts, dtype=np.float64))
    found[0] = 0
    return torch.from_numpy(found).float()


def emphasis(counts: Int[np.ndarray, " rows"], weight: float) -> Float[Tensor, " rows"]:
    """1 + weight · exp(-interactions / 3) of each item number, padding included.

    Args:
        counts: training interactions of each item number; 0 for padding.
        weight: β, how much more the texts of an item count that nobody interacted with.
    """
    return torch.from_numpy(1 + weight * np.exp(-np.asarray(counts, dtype=np.float64) / _FEW)).float()
