"""Requests in ids: what users give becomes numbers of the data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.data.interactions import InteractionDataset
from allmrec.ranking import Query, Ranking
from allmrec.recommend.allmrec import NewItem
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.request import Request, resolve

DATA = InteractionDataset.from_sequences({"7": ["10", "20"], "8": ["30", "40", "10"]})


class ByNumber:
    """The items in the order of their numbers."""

    def retrieve(
        self, queries: Sequence[Query], count: int, exclude: Sequence[np.ndarray], allow: Sequence[np.ndarray | None]
    ) -> list[Ranking]:
        found = []
        for seen, only in zip(exclude, allow, strict=True):
            left = np.setdiff1d(np.arange(1, DATA.n_items + 1) if only is None else only, seen)[:count]
            found.append(Ranking(left, -np.arange(len(left), dtype=float)))
        return found


MODEL = Recommender(DATA, None, ByNumber())


def asked(**request: object) -> list[str]:
    """Ids of what is recommended."""
    return [item.item_id for item in MODEL.recommend(**request)]


@pytest.mark.parametrize(
    "history", [["10", "30"], [10, 30], np.array([10, 30]), np.array(["10", "30"]), torch.tensor([10, 30])]
)
def test_a_history_of_whole_numbers_is_one_of_their_digits(history: Sequence[str]) -> None:
    assert asked(history=history, k=2) == ["20", "40"]


@pytest.mark.parametrize("user", ["7", 7, np.int64(7)])
def test_a_user_may_be_a_whole_number(user: str) -> None:
    assert asked(user=user, k=2) == ["30", "40"]


@pytest.mark.parametrize("ids", [["20", "30"], [20, 30], np.array([20, 30]), {20, "30"}])
def test_lists_of_items_may_be_whole_numbers_and_sets(ids: list[int]) -> None:
    assert asked(history=[10], allow=ids) == ["20", "30"]
    assert asked(history=[10], deny=ids) == ["40"]


def test_an_empty_history_is_one_and_a_text_is_none() -> None:
    assert asked(history=np.array([], dtype=np.int64), k=4) == ["10", "20", "30", "40"]
    with pytest.raises(ConfigError, match="The history is no list: found the text '10,30'"):
        Request(history="10,30")
    with pytest.raises(ConfigError, match="which has no order"):
        Request(history={10, 30})
    with pytest.raises(ConfigError, match="either a history or a user"):
        Request(history=np.array([10]), user=7)


def test_unknown_numbers_are_named_or_skipped_like_unknown_texts() -> None:
    with pytest.raises(UnknownIdError, match="2 of 3 items are not among 4: '11', '12'"):
        MODEL.recommend(history=[11, 10, 12])
    assert resolve(DATA, Request(history=[11, 10], unknown="skip")).skipped == ("11",)


def test_a_new_items_id_may_be_a_whole_number() -> None:
    assert NewItem(item_id=np.int32(50), title="Fifty").item_id == "50"
