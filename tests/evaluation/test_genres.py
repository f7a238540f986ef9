"""Genres in words: found as whole words, evaluated by hand."""

from __future__ import annotations

import numpy as np
import pytest

from allmrec.core.errors import DataError
from allmrec.data.catalogue import Catalogue
from allmrec.evaluation.genres import frequent_genres, genre_scores, item_genres, majority_genres, named_genres

GENRES = ["Comedy", "Sci-Fi", "Drama", "Romantic Comedy", "Children's", "War"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Comedy, drama.", {"comedy", "drama"}),
        ("a ROMANTIC COMEDY", {"romantic comedy"}),
        ("a romantic comedy, and a comedy", {"romantic comedy", "comedy"}),
        ("melodrama about warfare", set()),
        ("Sci-Fi/Drama|Children's", {"sci-fi", "drama", "children's"}),
        ("Science fiction", set()),
        ("", set()),
    ],
)
def test_genres_are_named_by_whole_words(text: str, expected: set[str]) -> None:
    assert named_genres(text, GENRES) == expected


def catalogue() -> Catalogue:
    categories = ((), ("Comedy", "Drama"), ("War",), (), ("Sci-Fi", "drama"))
    return Catalogue((None, "a", "b", "c", "d"), (None,) * 5, categories)


def test_precision_by_hand() -> None:
    texts = ["drama", "war and comedy", "SCI-FI, war, melodrama", "nothing at all"]
    found = genre_scores(texts, item_genres([1, 2, 4, 4], catalogue()), catalogue())
    assert found.precision.tolist() == [1, 1 / 2, 1 / 2, 0]
    assert found.named.tolist() == [1, 2, 2, 0]


def test_the_base_rate_names_as_many_of_the_most_frequent_genres() -> None:
    assert frequent_genres(catalogue()) == ["drama", "comedy", "sci-fi", "war"]
    found = genre_scores(["war", "sci-fi and war", "drama", ""], item_genres([1, 2, 4, 1], catalogue()), catalogue())
    # In their place: drama, drama and comedy, drama. Who names nothing is compared with naming nothing.
    assert found.base_rate.tolist() == [1, 0, 1, 0]
    assert found.precision.tolist() == [0, 1 / 2, 1, 0]


def test_a_history_stands_for_what_most_of_its_items_are() -> None:
    histories = [np.array(items, dtype=np.int64) for items in ([1, 4, 2], [1, 3, 3, 3], [1, 2], [2, 2, 1, 1], [3], [])]
    assert majority_genres(histories, catalogue()) == [
        {"drama"},  # two of three
        {"comedy", "drama"},  # items without categories do not count
        {"comedy", "drama", "war"},  # half is no majority, so all that are equally frequent
        {"comedy", "drama", "war"},
        set(),
        set(),
    ]


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(DataError, match="no genre is right"):
        genre_scores(["drama", "war"], item_genres([1, 3], catalogue()), catalogue())
    with pytest.raises(ValueError, match="2 texts came for 1"):
        genre_scores(["drama", "war"], item_genres([1], catalogue()), catalogue())
