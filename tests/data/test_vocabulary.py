from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import DataError, UnknownIdError
from allmrec.data import Vocabulary


def test_numbers_begin_at_first() -> None:
    items = Vocabulary(("a", "b"), first=1, kind="item")
    assert (items.number("a"), items.number("b"), items.id(1), items.id(2)) == (1, 2, "a", "b")
    assert (len(items), list(items), "b" in items, items.get("c"), items.numbers("ba")) == (
        2,
        ["a", "b"],
        True,
        None,
        [2, 1],
    )


def test_an_unknown_id_is_told_its_neighbours() -> None:
    items = Vocabulary(("B001DJ2USM", "B00ALHISAQ"), first=1, kind="item")
    with pytest.raises(UnknownIdError, match=r"no item 'B001DJ2USN' among 2\. Did you mean 'B001DJ2USM'\?"):
        items.number("B001DJ2USN")


@pytest.mark.parametrize("number", [0, 3, -1])
def test_padding_and_outside_have_no_id(number: int) -> None:
    with pytest.raises(UnknownIdError, match="numbers go from 1 to 2"):
        Vocabulary(("a", "b"), first=1).id(number)


def test_an_id_twice_is_refused() -> None:
    with pytest.raises(DataError, match="user 'b' stands twice"):
        Vocabulary(("a", "b", "c", "b"), first=0, kind="user")


def test_extending_keeps_numbers() -> None:
    items = Vocabulary(("a",), first=1).extended(["z", "b"])
    assert items.numbers("azb") == [1, 2, 3]


@given(st.lists(st.lists(st.text(max_size=2), max_size=4), min_size=1, max_size=4), st.integers(0, 1))
def test_extending_several_times_is_one_vocabulary_of_all(parts: list[list[str]], first: int) -> None:
    ids = [name for part in parts for name in part]

    def extended() -> Vocabulary:
        found = Vocabulary(tuple(parts[0]), first)
        for part in parts[1:]:
            found = found.extended(part)
        return found

    if len(set(ids)) < len(ids):
        with pytest.raises(DataError, match="stands twice"):
            extended()
        return
    found, whole = extended(), Vocabulary(tuple(ids), first)
    assert found == whole
    assert found.numbers(ids) == whole.numbers(ids)
    assert [found.id(number) for number in whole.numbers(ids)] == ids
    assert found.get("absent") is None


@given(st.lists(st.text(), unique=True), st.integers(0, 1))
def test_id_and_number_are_inverse(ids: list[str], first: int) -> None:
    vocabulary = Vocabulary(tuple(ids), first)
    assert [vocabulary.id(vocabulary.number(name)) for name in ids] == ids
    assert vocabulary.numbers(ids) == list(range(first, first + len(ids)))
