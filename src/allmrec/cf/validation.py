"""A fixed validation sample that measures dot-product scores while something trains."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.core.errors import DataError
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.negatives import sample_negatives
from allmrec.data.splitting import Split

__all__ = ["ValidationSample"]

# Users whose scores of all items are in memory at a time.
_AT_A_TIME = 256


class ValidationSample:
    """Users with their validation item among sampled ones, drawn once; measures any scores.

    Args:
        split: gives validation items and histories.
        users: users drawn at the most.
        negatives: items that each validation item is ranked against; none: all that the history does not hold.
        length: most recent items of a history that are kept.
        seed: names the draw.

    Raises:
        DataError: no user that trains has a validation item.
    """

    def __init__(self, split: Split, users: int, negatives: int | None, length: int, seed: int) -> None:
        # Users that train nothing (few-shot, cold users) are the test's alone.
        having = np.flatnonzero((split.validation != 0) & (split.train_end > 0))
        if not len(having):
            raise DataError("No training user has a validation item (that takes three interactions); use more data.")
        rng = numpy_generator(seed, "cf", "validation")
        chosen = np.sort(rng.permutation(having)[:users]).astype(np.int64)
        histories = [split.validation_history(int(user)) for user in chosen]
        self.targets = split.validation[chosen].astype(np.int64)
        self.candidates: Int64[np.ndarray, "users candidates"] | None = None
        self._seen: list[Int64[np.ndarray, " seen"]] = []
        if negatives is None:
            self._seen = [
                np.setdiff1d(history, [0, target]) for history, target in zip(histories, self.targets, strict=True)
            ]
        else:
            others = sample_negatives(split.dataset, chosen, negatives, rng)
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
        """`x_u` of every drawn user."""
        parts = []
        for start in range(0, len(self.batch.users), batch_size):
            rows = slice(start, start + batch_size)
            parts.append(backbone.user_vectors(SequenceBatch(self.batch.users[rows], self.batch.histories[rows])))
        return torch.cat(parts)
