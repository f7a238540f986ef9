"""A fixed validation sample that measures dot-product scores while something trains."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.core.errors import DataError
from allmrec.core.grouping import length_groups
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.negatives import room_for_negatives, sample_negatives
from allmrec.data.splitting import Split

__all__ = ["ValidationSample"]

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
        self._seen: list[Int64[np.ndarray, " seen"]] = []
        if room is None:
            self._seen = [
                np.setdiff1d(history, [0, target]) for history, target in zip(histories, self.targets, strict=True)
            ]
        else:
            others = sample_negatives(split.dataset, chosen, room.n, rng)
            self.candidates = np.concatenate([self.targets[:, None], others], axis=1).astype(np.int64)
        self.batch = SequenceBatch(users=chosen, histories=left_pad(histories, length))

    def figures(self, user_vectors: Tensor, item_vectors: Tensor) -> dict[str, float]:
        """NDCG@10 and Hit@1 of the dot products; a tie counts against the model.

        NDCG@10 comes first: it moves with every rank, so it tells two checkpoints apart that hit equally often.
        """
        rank = self._ranks(user_vectors, item_vectors).double()
        gain = torch.where(rank < 10, 1 / torch.log2(rank + 2), 0.0)
        return {"ndcg@10": float(gain.mean()), "hit@1": float((rank < 1).double().mean())}

    def _ranks(self, user_vectors: Tensor, item_vectors: Tensor) -> Int[Tensor, " users"]:
        """How many other items are at least as good as the target."""
        if self.candidates is not None:
            chosen = item_vectors[torch.as_tensor(self.candidates, device=item_vectors.device)]
            scores = torch.einsum("ud,ucd->uc", user_vectors, chosen)
            return (scores[:, 1:] >= scores[:, :1]).sum(1)
        ranks = []
        for start in range(0, len(user_vectors), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            scores = user_vectors[part] @ item_vectors.T
            scores[:, 0] = -torch.inf
            for row, seen in zip(scores, self._seen[part], strict=True):
                row[torch.as_tensor(seen, device=row.device)] = -torch.inf
            own = scores.gather(1, torch.as_tensor(self.targets[part], device=scores.device)[:, None])
            ranks.append((scores >= own).sum(1) - 1)
        return torch.cat(ranks)

    def user_vectors(self, backbone: Backbone, batch_size: int = 256) -> Tensor:
        """`x_u` of every drawn user; those with histories of like length are read together, so that little is padding."""
        groups = length_groups((self.batch.histories != 0).sum(axis=1), largest=batch_size)
        read = [backbone.user_vectors(SequenceBatch(self.batch.users[g], self.batch.histories[g])) for g in groups]
        vectors = torch.cat(read)
        found = torch.empty_like(vectors)
        found[torch.as_tensor(np.concatenate(groups), device=found.device)] = vectors
        return found
