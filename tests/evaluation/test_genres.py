"""Genres in words: found as whole words, evaluated by hand."""

from __future__ import annotations

import numpy as np
import pytest

from allmrec.core.errors import DataError
from allmrec.data.catalogue import Catalogue
from allmrec.evaluation.genres import evaluate_genres, frequent_genres, item_genres, majority_genres, named_genres

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


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_precision_by_hand() -> None:
    texts = {
        "own": ["drama", "war and comedy", "drama", "nothing at all"],
        "exchanged": ["war", "war and comedy", "drama", "SCI-FI"],
        "a third": ["comedy, drama and war"] * 4,
    }
    found = evaluate_genres(texts, item_genres([1, 2, 3, 4], catalogue()), catalogue(), rng())
    # Item 3 has no categories; the rest: 1, 1/2, 0 against 0, 1/2, 1 and 2/3, 1/3, 1/3.
    assert found.answers == 3
    own, exchanged, third = found.systems.values()
    assert (own.precision.value, exchanged.precision.value) == (0.5, 0.5)
    assert third.precision.value == pytest.approx(4 / 9)
    assert (own.silent, exchanged.silent, third.silent) == (1, 0, 0)
    assert (own.named, exchanged.named, third.named) == (1.0, 4 / 3, 3.0)
    assert list(found.differences) == ["exchanged", "a third"]
    assert found.differences["exchanged"].value == 0.0
    assert found.differences["exchanged"].includes_zero
    assert found.differences["a third"].value == pytest.approx(1 / 18)


def test_the_base_rate_names_as_many_of_the_most_frequent_genres() -> None:
    assert frequent_genres(catalogue()) == ["drama", "comedy", "sci-fi", "war"]
    texts = {"own": ["war", "sci-fi and war", "drama"], "silent": [""] * 3}
    found = evaluate_genres(texts, item_genres([1, 2, 4], catalogue()), catalogue(), rng())
    # In their place: drama, drama and comedy, drama. Right: 1, 0, 1 of them; what was said: 0, 1/2, 1.
    assert found.systems["own"].base_rate.value == pytest.approx(2 / 3)
    assert found.systems["own"].precision.value == 0.5
    assert found.systems["own"].above_base_rate.value == pytest.approx(-1 / 6)
    # Who names nothing is compared with naming nothing.
    assert found.systems["silent"].base_rate.value == found.systems["silent"].precision.value == 0.0


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


def test_vectors_that_tell_are_told_from_vectors_that_do_not() -> None:
    right = item_genres([1, 2, 4] * 20, catalogue())
    good, bad = ["comedy", "war", "sci-fi"] * 20, ["war", "sci-fi", "comedy"] * 20
    found = evaluate_genres({"own": good, "exchanged": bad}, right, catalogue(), rng())
    assert found.differences["exchanged"].low == 1.0
    same = evaluate_genres({"own": bad, "exchanged": bad}, right, catalogue(), rng()).differences["exchanged"]
    assert (same.low, same.high) == (0.0, 0.0)


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(DataError, match="categories"):
        evaluate_genres({"own": ["drama"]}, item_genres([3], catalogue()), catalogue(), rng())
    with pytest.raises(ValueError, match="2 texts of own came for 1"):
        evaluate_genres({"own": ["drama", "war"]}, item_genres([1], catalogue()), catalogue(), rng())
