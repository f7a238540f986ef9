"""Genres in words: found as whole words, judged by hand."""

from __future__ import annotations

import numpy as np
import pytest

from allmrec.core.errors import DataError
from allmrec.data.catalogue import Catalogue
from allmrec.evaluation.genres import judge_genres, named_genres

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
    categories = ((), ("Comedy", "Drama"), ("War",), (), ("Sci-Fi",))
    return Catalogue((None, "a", "b", "c", "d"), (None,) * 5, categories)


def test_precision_by_hand() -> None:
    own = ["drama", "war and comedy", "drama", "nothing at all"]
    shuffled = ["war", "war and comedy", "drama", "SCI-FI"]
    found = judge_genres(own, shuffled, [1, 2, 3, 4], catalogue(), np.random.default_rng(0))
    # Item 3 has no categories; the rest: 1, 1/2, 0 against 0, 1/2, 1.
    assert (found.own.value, found.shuffled.value, found.difference.value) == (0.5, 0.5, 0.0)
    assert (found.pairs, found.silent, found.silent_shuffled) == (3, 1, 0)
    assert found.difference.includes_zero


def test_vectors_that_tell_are_told_from_vectors_that_do_not() -> None:
    items = [1, 2, 4] * 20
    right = ["comedy", "war", "sci-fi"] * 20
    wrong = ["war", "sci-fi", "comedy"] * 20
    found = judge_genres(right, wrong, items, catalogue(), np.random.default_rng(0))
    assert found.difference.low == 1.0
    same = judge_genres(wrong, wrong, items, catalogue(), np.random.default_rng(0))
    assert (same.difference.low, same.difference.high) == (0.0, 0.0)


def test_items_without_categories_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="categories"):
        judge_genres(["drama"], ["drama"], [3], catalogue(), np.random.default_rng(0))
