from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.data.filtering import k_core, without_repeats

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return flat[:, 0], flat[:, 1]


@pytest.mark.parametrize(
    ("repeats", "expected"), [("keep", [1, 1, 1, 1, 1]), ("first", [1, 1, 0, 1, 0]), ("last", [0, 1, 0, 1, 1])]
)
def test_repeats_by_hand(repeats: Literal["keep", "first", "last"], expected: list[int]) -> None:
    users, items = arrays([(0, 5), (0, 6), (0, 5), (1, 5), (0, 5)])
    assert without_repeats(users, items, repeats).astype(int).tolist() == expected


@given(pairs, st.sampled_from(["first", "last"]))
def test_repeats_equal_a_plain_loop(rows: list[tuple[int, int]], repeats: Literal["first", "last"]) -> None:
    place = {row: number for number, row in (enumerate(rows) if repeats == "last" else reversed(list(enumerate(rows))))}
    expected = [place[row] == number for number, row in enumerate(rows)]
    assert without_repeats(*arrays(rows), repeats).tolist() == expected


def test_one_pass_counts_before_removing() -> None:
    # Item 2 has one interaction and goes; user 1 falls to one interaction by that, and stays in one pass only.
    users, items = arrays([(0, 1), (0, 3), (1, 1), (1, 2), (2, 1), (2, 3)])
    assert k_core(users, items, 2, 2, "one").tolist() == [True, True, True, False, True, True]
    assert k_core(users, items, 2, 2, "all").tolist() == [True, True, False, False, True, True]


def test_users_and_items_have_limits_of_their_own() -> None:
    users, items = arrays([(0, 1), (0, 2), (1, 1)])
    assert k_core(users, items, 2, 0, "one").tolist() == [True, True, False]
    assert k_core(users, items, 0, 2, "one").tolist() == [True, False, True]


def test_what_does_not_count_may_stay() -> None:
    users, items = arrays([(0, 1), (0, 1), (0, 2), (1, 1), (1, 2)])
    counted = np.array([True, True, False, True, False])
    assert k_core(users, items, 2, 0, "one", counted).tolist() == [True, True, True, False, False]


@given(pairs, st.integers(0, 4), st.integers(0, 4))
def test_one_pass_equals_a_plain_loop(rows: list[tuple[int, int]], user_core: int, item_core: int) -> None:
    by_user, by_item = Counter(u for u, _ in rows), Counter(i for _, i in rows)
    expected = [by_user[user] >= user_core and by_item[item] >= item_core for user, item in rows]
    assert k_core(*arrays(rows), user_core, item_core, "one").tolist() == expected


@given(pairs, st.integers(0, 4), st.integers(0, 4))
def test_all_passes_reach_the_largest_fixed_point(rows: list[tuple[int, int]], user_core: int, item_core: int) -> None:
    users, items = arrays(rows)
    kept = k_core(users, items, user_core, item_core, "all")
    assert k_core(users[kept], items[kept], user_core, item_core, "all").all()
    assert (k_core(users, items, user_core, item_core, "one") | ~kept).all()
    # Plain: remove one offender at a time, in any order, until there is none.
    left = set(range(len(rows)))
    while True:
        by_user, by_item = Counter(rows[n][0] for n in left), Counter(rows[n][1] for n in left)
        bad = [n for n in left if by_user[rows[n][0]] < user_core or by_item[rows[n][1]] < item_core]
        if not bad:
            break
        left.discard(bad[0])
    assert np.flatnonzero(kept).tolist() == sorted(left)
