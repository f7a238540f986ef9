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
from allmrec.recommend.by_id import TopOfCatalogue

DATA = InteractionDataset.from_sequences({"7": ["10", "20"], "8": ["30", "40", "10"]})


class ByNumber:
    """The items in the order of their numbers."""

    def top(self, queries: Sequence[Query], exclude: Sequence[np.ndarray], k: int) -> list[Ranking]:
        left = [np.setdiff1d(np.arange(1, DATA.n_items + 1), seen)[:k] for seen in exclude]
        return [Ranking(items, -np.arange(len(items), dtype=float)) for items in left]


MODEL = TopOfCatalogue(DATA, ByNumber())


@pytest.mark.parametrize(
    "history", [["10", "30"], [10, 30], np.array([10, 30]), np.array(["10", "30"]), torch.tensor([10, 30])]
)
def test_a_history_of_whole_numbers_is_one_of_their_digits(history: Sequence[str]) -> None:
    assert [item.item_id for item in MODEL.recommend(history, k=2, candidates=2)] == ["20", "40"]


@pytest.mark.parametrize("user", ["7", 7, np.int64(7)])
def test_a_user_may_be_a_whole_number(user: str) -> None:
    assert MODEL.query(user=user).user == DATA.users.number("7")
    assert [item.item_id for item in MODEL.recommend(user=user, k=2, candidates=2)] == ["30", "40"]


def test_an_empty_history_is_one_and_a_text_is_none() -> None:
    assert MODEL.query(history=np.array([], dtype=np.int64)).history.tolist() == []
    with pytest.raises(ConfigError, match="The history is no list: found the text '10,30'"):
        MODEL.query(history="10,30")
    with pytest.raises(ConfigError, match="either a history or a user"):
        MODEL.query(history=np.array([10]), user=7)


def test_unknown_numbers_are_named_or_skipped_like_unknown_texts() -> None:
    with pytest.raises(UnknownIdError, match="2 of 3 items are not among 4: '11', '12'"):
        MODEL.query(history=[11, 10, 12])
    assert MODEL.query(history=[11, 10], skip_unknown=True).history.tolist() == [DATA.items.number("10")]


def test_a_new_items_id_may_be_a_whole_number() -> None:
    assert NewItem(item_id=np.int32(50), title="Fifty").item_id == "50"
