"""A trained ranker with vectors exchanged among users and items: the words stay, so what it loses came through the slots."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.splitting import Split
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["OthersVectors", "exchanged_ranker"]


class OthersVectors:
    """A backbone that gives each user the vector of another one.

    Args:
        backbone: whose vectors they are.
        split: users' histories.
        other: for each user number the user whose vector it gets.
    """

    def __init__(self, backbone: Backbone, split: Split, other: Int[np.ndarray, " users"]) -> None:
        self._backbone, self._split, self._other = backbone, split, other
        self.dim, self.max_history, self.n_items = backbone.dim, backbone.max_history, backbone.n_items

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """The backbone's own."""
        return self._backbone.item_vectors()

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """Vectors of the other users, each from that user's history before the test item."""
        others = self._other[batch.users]
        histories = left_pad([self._split.test_history(int(user)) for user in others], self.max_history)
        return self._backbone.user_vectors(SequenceBatch(others, histories))


def exchanged_ranker(
    own: PromptedRanker, split: Split, rng: np.random.Generator, counts: Int[np.ndarray, " items"] | None = None
) -> PromptedRanker:
    """A ranker of the same weights that reads users' and items' vectors exchanged among one another.

    Args:
        own: the trained one, which stays as it is.
        split: of the data that it was trained on.
        rng: draws who gets whose vector: a permutation of users and one of items, by which a few may keep their own.
        counts: interactions of each item number, where the ranker's configuration needs them.
    """
    data = split.dataset
    order = np.concatenate([[0], rng.permutation(np.arange(1, data.n_items + 1))])
    joint = JointItemTable.from_tensors({name: tensor[order] for name, tensor in own.joint.tensors().items()})
    strangers = OthersVectors(own.backbone, split, np.roll(rng.permutation(data.n_users), 1))
    others = PromptedRanker(own.lm, strangers, joint, data.catalogue.titles, own.config, counts=counts)
    others.load_state_dict(own.state_dict())
    return others
