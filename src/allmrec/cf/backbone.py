"""What a collaborative-filtering model must offer to be given a language model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.cf.losses import Objective
from allmrec.core.errors import ArtifactError, UnknownIdError
from allmrec.core.tensors import as_tensors, load_parameters
from allmrec.data.batching import SequenceBatch

__all__ = ["Backbone", "SequenceBackbone", "check_numbers", "row_count", "trimmed", "with_parameters"]

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Backbone(Protocol):
    """A trained collaborative-filtering model (CF), seen from outside: two tables of vectors.

    The score of item `i` for user `u` is the dot product `x_u · E_i`; whatever another system computes fits as soon as
    it gives these two. Items are numbered from 1; row 0 of the item vectors belongs to the padding.
    """

    @property
    def dim(self) -> int:
        """Length `d` of the vectors."""
        ...

    @property
    def max_history(self) -> int:
        """How many of a user's most recent items the model looks at."""
        ...

    @property
    def n_items(self) -> int:
        """Number of items, the padding not counted."""
        ...

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        ...

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`x_u` of each row, given its history. An empty history gives a vector too, never NaN."""
        ...


class SequenceBackbone(nn.Module):
    """Base of the backbones that this project trains itself: a vector after each position of a history.

    A new one implements `item_vectors` and `position_vectors` and is entered in `allmrec.cf.registry.BACKBONES`,
    or by an entry point of the group `allmrec.backbones`.

    Args:
        n_items: number of items, the padding not counted.
        dim: length `d` of the vectors.
        max_history: how many of the most recent items are looked at.
    """

    # The parameter that has a row for each item and is only ever looked up by item number, where there is one: training
    # then puts a smaller one, of a batch's own items, in its place. None is always right.
    item_table: ClassVar[str | None] = None

    # Parameters and buffers that have a row for each user. With the above they say what a model that goes on from an earlier
    # one takes over by id (`cf.continuing`).
    user_tables: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_items: int, dim: int, max_history: int) -> None:
        super().__init__()
        self.n_items = n_items
        self.dim = dim
        self.max_history = max_history

    @property
    def objective(self) -> Objective:
        """What `pretrain` minimises; SASRec's binary cross-entropy unless a backbone says otherwise."""
        return Objective()

    @abstractmethod
    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        raise NotImplementedError

    @abstractmethod
    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length d"]:
        """The user's vector after each position; column `t` has seen columns up to `t` and nothing later.

        Args:
            histories: left-padded item numbers, at most `max_history` columns.
            users: the users' numbers, -1 for somebody the data set does not hold; most models ignore them.
        """
        raise NotImplementedError

    def trained_on(self, users: Int[np.ndarray, " users"]) -> None:
        """Hear which users training has rows of, before the first step. A model with a table of users needs to know."""

    def vectors_of(self, items: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """`E` of some items; worth overriding where `item_vectors` computes the whole catalogue anew."""
        return F.embedding(items, self.item_vectors())

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`x_u`: the vector after the last position of each history.

        Raises:
            UnknownIdError: a history holds a number that is no item of the model.
        """
        return self.position_vectors(*self._tensors(batch))[:, -1]

    def fast_user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`user_vectors` to within rounding, for retrieval; worth overriding where less than every position will do.

        What is trained and what ranks given candidates keeps to `user_vectors`, so that its figures are the same to the bit
        whatever is done here.

        Raises:
            UnknownIdError: a history holds a number that is no item of the model.
        """
        return self.user_vectors(batch)

    def _tensors(self, batch: SequenceBatch) -> tuple[Int[Tensor, "batch length"], Int[Tensor, " batch"]]:
        """Histories and users of a batch, checked and as long as the model looks."""
        check_numbers(batch, self.n_items)
        histories = trimmed(np.asarray(batch.histories), self.max_history)
        device = next(chain(self.parameters(), self.buffers())).device
        items = torch.as_tensor(histories, dtype=torch.long, device=device)
        return items, torch.as_tensor(np.asarray(batch.users), dtype=torch.long, device=device)


def trimmed(histories: Int[np.ndarray, "batch length"], length: int) -> Int[np.ndarray, "batch kept"]:
    """The last `length` columns at the most, without the leading columns in which every row is padding."""
    recent = histories[:, -length:]
    used = (recent != 0).any(axis=0)
    # One column stays where nothing is real, so that an empty history still has a last position.
    first = int(used.argmax()) if used.any() else recent.shape[1] - 1
    return recent[:, first:]


def check_numbers(batch: SequenceBatch, n_items: int, n_users: int | None = None) -> None:
    """Make sure that a batch holds numbers that a model knows; an index error of torch's would not say which.

    Args:
        batch: histories and users.
        n_items: items go from 1 to this, 0 pads.
        n_users: users go from 0 to one less; none: the model has no table of users, so any number will do.

    Raises:
        UnknownIdError: an item or a user outside.
    """
    items, users = batch.histories, batch.users
    wrong = items[(items < 0) | (items > n_items)]
    if len(wrong):
        raise UnknownIdError(
            f"A history holds item number {int(wrong[0])}; this model knows items 1 to {n_items} (0 pads). Number the "
            "items by the data set that the model was trained on."
        )
    if n_users is not None:
        wrong = users[(users < -1) | (users >= n_users)]
        if len(wrong):
            raise UnknownIdError(
                f"User number {int(wrong[0])} came; this model knows users 0 to {n_users - 1}. Give -1 for somebody "
                "whom the data set does not hold."
            )


def with_parameters(make: Callable[[], M], arrays: Mapping[str, np.ndarray | Tensor], name: str) -> M:
    """A model with its trained parameters, in evaluation mode; see `core.tensors.load_parameters`.

    Args:
        make: makes an untrained one of the right sizes.
        arrays: parameter name to values.
        name: what the model is, for the message.

    Raises:
        ArtifactError: a parameter is missing, superfluous, of another shape or another kind of number.
    """
    return load_parameters(make, as_tensors(arrays), name)


def row_count(arrays: Mapping[str, np.ndarray | Tensor], key: str, name: str) -> int:
    """Rows of the table that tells a model's size.

    Raises:
        ArtifactError: there is no such table.
    """
    if key not in arrays or not arrays[key].ndim or not arrays[key].size:
        raise ArtifactError(f"These weights have no {key}; expected the parameters of a {name}.")
    return int(arrays[key].shape[0])
