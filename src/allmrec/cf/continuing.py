"""A CF model that goes on from an earlier one: rows of known items and users, and all other weights, are taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.text_items import TEXT_TABLES
from allmrec.core.errors import ArtifactError
from allmrec.data.vocabulary import Vocabulary

__all__ = ["EarlierWeights", "earlier_numbers", "take_over"]


@dataclass(frozen=True, eq=False)
class EarlierWeights:
    """Weights of a model that was trained on earlier data.

    Attributes:
        tensors: its parameters by name.
        items: by item number of now, the number that the item had then; 0 for the padding and for new items.
        users: by user number of now, the number that the user had then; -1 for new users.
    """

    tensors: Mapping[str, Tensor]
    items: Int64[np.ndarray, " items_and_padding"]
    users: Int64[np.ndarray, " users"]


def earlier_numbers(now: Vocabulary, then: Vocabulary, absent: int) -> Int64[np.ndarray, " ids"]:
    """The number that each id of `now` had `then`; `absent` for ids that were not there."""
    found = (then.get(name) for name in now)
    return np.fromiter((absent if number is None else number for number in found), dtype=np.int64, count=len(now))


@torch.no_grad()
def take_over(model: SequenceBackbone, earlier: EarlierWeights) -> None:
    """Put earlier weights into a new model of the same settings; rows of new items and users stay as they were initialised.

    Which tensors have a row for each item or user is what `item_table` and `user_tables` of its class say.

    Raises:
        ArtifactError: a tensor is missing, superfluous or of another shape.
    """
    state = model.state_dict()
    rows = dict.fromkeys(model.user_tables, earlier.users)
    if model.item_table is not None:
        rows[model.item_table] = earlier.items
    wrong = sorted(state.keys() ^ earlier.tensors.keys())
    for name, tensor in state.items():
        if name in wrong or name in TEXT_TABLES:
            continue  # vectors of texts are those of today's texts
        theirs, numbers = earlier.tensors[name].to(tensor), rows.get(name)
        if theirs.shape[numbers is not None :] != tensor.shape[numbers is not None :]:
            wrong.append(name)
        elif numbers is None:
            tensor.copy_(theirs)
        else:
            # Number 0 of the items is the padding and stays as it is.
            known = torch.from_numpy(np.flatnonzero(numbers > 0 if name == model.item_table else numbers >= 0))
            tensor[known] = theirs[torch.from_numpy(numbers)[known]]
    if wrong:
        raise ArtifactError(
            f"The earlier weights do not fit this {type(model).__name__}: {', '.join(wrong)} is missing, superfluous or of another "
            "shape. Train without --from, or with the settings that the earlier run has."
        )
