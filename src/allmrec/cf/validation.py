"""A fixed validation sample that measures dot-product scores while something trains."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.core.errors import DataError
from allmrec.core.grouping import length_groups
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.negatives import room_for_negatives, sample_negatives
from allmrec.data.splitting import Split

__all__ = ["ValidationSample", "gains"]

# Users whose scores of all items are in memory at a time.
_AT_A_TIME = 256


class ValidationSample:
    """Users with their validation item among sampled ones, drawn once; measures any scores.

    Args:
        split: gives validation items and histories.
        users: users drawn at the most. Those who leave too few negatives are left out (`room_for_negatives`).
        negatives: items that each validation item is ranked against, at the most: fewer where the catalogue is small;
            none: all that the history does not hold.
        length: most recent items of a history that are kept.
        seed: names the draw.

    Raises:
        DataError: no user that trains has a validation item, or none leaves an item unseen.
    """

    def __init__(self, split: Split, users: int, negatives: int | None, length: int, seed: int) -> None:
        having = split.validated()
        if not len(having):
            raise DataError("No training user has a validation item (that takes three interactions); use more data.")
        room = None if negatives is None else room_for_negatives(split.dataset, having, negatives)
        rng = numpy_generator(seed, "cf", "validation")
        chosen = np.sort(rng.permutation(having if room is None else room.kept)[:users]).astype(np.int64)
        histories = [split.validation_history(int(user)) for user in chosen]
        self.targets = split.validation[chosen].astype(np.int64)
        self.candidates: Int64[np.ndarray, "users candidates"] | None = None
        # What each user has met, one user behind the other, and where each begins.
        self._seen: Int64[np.ndarray, " seen"] = np.zeros(0, dtype=np.int64)
        self._starts: Int64[np.ndarray, " users_and_end"] = np.zeros(len(chosen) + 1, dtype=np.int64)
        if room is None:
            seen = [np.setdiff1d(history, target) for history, target in zip(histories, self.targets, strict=True)]
            self._seen = np.concatenate(seen).astype(np.int64)
            self._starts[1:] = np.cumsum([len(row) for row in seen])
        else:
            others = sample_negatives(split.dataset, chosen, room.n, rng)
            self.candidates = np.concatenate([self.targets[:, None], others], axis=1).astype(np.int64)
        self.batch = SequenceBatch(users=chosen, histories=left_pad(histories, length))

    def figures(self, user_vectors: Tensor, item_vectors: Tensor) -> dict[str, float]:
        """NDCG@10 and Hit@1 of the dot products; a tie counts against the model.

        NDCG@10 comes first: it moves with every rank, so it tells two checkpoints apart that hit equally often.
        """
        rank = self._ranks(user_vectors, item_vectors)
        return {"ndcg@10": float(gains(rank, 10).mean()), "hit@1": float((rank < 1).double().mean())}

    def _ranks(self, user_vectors: Tensor, item_vectors: Tensor) -> Int[Tensor, " users"]:
        """How many other items are at least as good as the target."""
        if self.candidates is not None:
            chosen = item_vectors[torch.as_tensor(self.candidates, device=item_vectors.device)]
            scores = torch.einsum("ud,ucd->uc", user_vectors, chosen)
            return (scores[:, 1:] >= scores[:, :1]).sum(1)
        return torch.cat([self.ranks(user_vectors[block] @ item_vectors.T, block) for block in self.blocks()])

    def blocks(self, at_a_time: int = _AT_A_TIME) -> list[slice]:
        """The drawn users in parts, of whom scores of all items fit in memory."""
        n = len(self.targets)
        return [slice(start, min(start + at_a_time, n)) for start in range(0, n, at_a_time)]

    def ranks(self, scores: Float[Tensor, "users rows"], block: slice) -> Int[Tensor, " users"]:
        """How many other items that a user has not met are at least as good as the target, of a block's users.

        Args:
            scores: of every item number; what the users have met, and padding, is overwritten in place.
            block: one of `blocks`, of a sample without drawn negatives.
        """
        starts = self._starts[block.start : block.stop + 1]
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        met = torch.as_tensor(self._seen[starts[0] : starts[-1]], device=scores.device)
        scores[:, 0] = -torch.inf
        scores[torch.as_tensor(rows, device=scores.device), met] = -torch.inf
        own = scores.gather(1, torch.as_tensor(self.targets[block], device=scores.device)[:, None])
        return (scores >= own).sum(1) - 1

    def user_vectors(self, backbone: Backbone, batch_size: int = 256) -> Tensor:
        """`x_u` of every drawn user; those with histories of like length are read together, so that little is padding."""
        groups = length_groups((self.batch.histories != 0).sum(axis=1), largest=batch_size)
        read = [backbone.user_vectors(SequenceBatch(self.batch.users[g], self.batch.histories[g])) for g in groups]
        vectors = torch.cat(read)
        found = torch.empty_like(vectors)
        found[torch.as_tensor(np.concatenate(groups), device=found.device)] = vectors
        return found


def gains(ranks: Int[Tensor, " users"], depth: int) -> Float64[Tensor, " users"]:
    """What a target at each rank, from 0, adds to NDCG@depth: 0 from `depth` on."""
    return torch.where(ranks < depth, 1 / torch.log2(ranks.double() + 2), 0.0)
