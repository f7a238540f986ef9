"""Leave one out by time: who trains on what, and what validates and tests."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from allmrec.core.errors import ConfigError
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset

__all__ = ["Split", "drawn_users", "leave_one_out"]

# A user needs one item to train, one to validate and one to test.
_SHORTEST = 3


@dataclass(frozen=True, eq=False)
class Split:
    """A data set with one test item and one validation item per user; see `leave_one_out`.

    Attributes:
        dataset: what is split.
        train_end: how many of each user's first interactions train.
        prefix_end: the same with the held-out items, that is, everything before the validation item.
        validation, test: item numbers; 0 where the user has fewer than three interactions.
        hold_out: how many last training items were to be withheld of each user.
    """

    dataset: InteractionDataset
    train_end: Int64[np.ndarray, " users"]
    prefix_end: Int64[np.ndarray, " users"]
    validation: Int32[np.ndarray, " users"]
    test: Int32[np.ndarray, " users"]
    hold_out: int = 0

    @property
    def held_out_fails(self) -> bool:
        """Whether items were to be withheld and nobody's history is long enough."""
        return self.hold_out > 0 and not np.any(self.train_end < self.prefix_end)

    def train(self, user: int) -> Int32[np.ndarray, " length"]:
        """The items that a user's training may see, oldest first; without the held-out ones."""
        start = self.dataset.offsets[user]
        return self.dataset.item_numbers[start : start + self.train_end[user]]

    def held_out(self, user: int) -> Int32[np.ndarray, " held"]:
        """The last training items, withheld from `train` by `hold_out`, oldest first."""
        start = self.dataset.offsets[user]
        return self.dataset.item_numbers[start + self.train_end[user] : start + self.prefix_end[user]]

    def validation_history(self, user: int) -> Int32[np.ndarray, " length"]:
        """Everything before the validation item, held-out items included."""
        start = self.dataset.offsets[user]
        return self.dataset.item_numbers[start : start + self.prefix_end[user]]

    def test_history(self, user: int) -> Int32[np.ndarray, " length"]:
        """Everything before the test item: as above, and the validation item."""
        start = self.dataset.offsets[user]
        return self.dataset.item_numbers[start : start + self.prefix_end[user] + (self.validation[user] != 0)]

    def training_part(self) -> InteractionDataset:
        """The data set without validation and test items, held-out ones included; ids and numbers stay."""
        dataset = self.dataset
        place = np.arange(dataset.n_interactions) - np.repeat(dataset.offsets[:-1], dataset.lengths)
        kept = place < np.repeat(self.prefix_end, dataset.lengths)
        return replace(
            dataset,
            offsets=np.concatenate([[0], np.cumsum(self.prefix_end)]).astype(np.int64),
            item_numbers=dataset.item_numbers[kept],
            times=None if dataset.times is None else dataset.times[kept],
        )

    def validated(self) -> Int64[np.ndarray, " users"]:
        """Users with a validation item who train. Those who train nothing (few-shot, cold users) are the test's alone."""
        return np.flatnonzero((self.validation != 0) & (self.train_end > 0)).astype(np.int64)

    def train_mask(self) -> Bool[np.ndarray, " interactions"]:
        """Whether each entry of the data set's `item_numbers` trains."""
        dataset = self.dataset
        place = np.arange(dataset.n_interactions) - np.repeat(dataset.offsets[:-1], dataset.lengths)
        trains: Bool[np.ndarray, " interactions"] = place < np.repeat(self.train_end, dataset.lengths)
        return trains

    def train_counts(self) -> Int64[np.ndarray, " items_and_padding"]:
        """Training interactions per item number; entry 0 is 0."""
        items = self.dataset.item_numbers[self.train_mask()]
        return np.bincount(items, minlength=self.dataset.n_items + 1).astype(np.int64)


def leave_one_out(
    dataset: InteractionDataset,
    hold_out: int = 0,
    train_users: Int[np.ndarray, " chosen"] | None = None,
    hold_out_users: int | None = None,
    seed: int = 0,
) -> Split:
    """Split by time: a user's last item tests, the one before validates, the rest train.

    Users with fewer than three interactions have nothing to test; all of theirs trains.

    Args:
        dataset: what to split.
        hold_out: withhold that many of each user's last training items from training, so that a later stage can learn
            on items that the CF model has not seen as targets. A user with a short history withholds fewer, so that two
            training items stay, an item and the one after it; of two one is withheld. Where that leaves nobody two, users
            with two withhold none. Histories for validation and test are unaffected.
        train_users: only these users train, as in the few-shot and cold-user scenarios; everybody is tested.
        hold_out_users: withhold from so many users only, the first of `drawn_users`; none: from all.
        seed: of that draw.

    Raises:
        ConfigError: `hold_out` or `hold_out_users` is negative, or `train_users` leaves the data set.
    """
    if hold_out < 0 or (hold_out_users or 0) < 0:
        raise ConfigError(
            f"hold_out is {hold_out} and hold_out_users {hold_out_users}; expected how many items to withhold, of how many "
            "users, 0 or more."
        )
    lengths = dataset.lengths
    tested = lengths >= _SHORTEST
    prefix_end = np.where(tested, lengths - 2, lengths)
    train_end = prefix_end - np.minimum(hold_out, np.where(prefix_end > 2, prefix_end - 2, prefix_end == 2))
    if hold_out_users is not None:
        withheld = np.zeros(dataset.n_users, dtype=bool)
        withheld[drawn_users(np.flatnonzero(prefix_end > 1), hold_out_users, seed)] = True
        train_end = np.where(withheld, train_end, prefix_end)
    if not np.any(train_end > 1):
        train_end = np.where(prefix_end == 2, prefix_end, train_end)
    if train_users is not None:
        if len(train_users) and not 0 <= train_users.min() <= train_users.max() < dataset.n_users:
            raise ConfigError(f"train_users leave 0 to {dataset.n_users - 1}; expected user numbers of the data set.")
        chosen = np.zeros(dataset.n_users, dtype=bool)
        chosen[train_users] = True
        train_end = np.where(chosen, train_end, 0)
    test = np.zeros(dataset.n_users, dtype=np.int32)
    validation = np.zeros(dataset.n_users, dtype=np.int32)
    ends = dataset.offsets[1:][tested]
    test[tested] = dataset.item_numbers[ends - 1]
    validation[tested] = dataset.item_numbers[ends - 2]
    return Split(dataset, train_end, prefix_end, validation, test, hold_out)


def drawn_users(users: Int[np.ndarray, " users"], count: int | None, seed: int) -> Int[np.ndarray, " drawn"]:
    """The users of sampled tuning, in the order in which they were drawn.

    Whoever draws more from the same users with the same seed gets these first, so that those whose items are withheld
    and those who are tuned on are the same.

    Args:
        users: who is drawn from, each once, in ascending order.
        count: how many; none: all.
        seed: names the draw.
    """
    return numpy_generator(seed, "tuning users").permutation(users)[:count]
