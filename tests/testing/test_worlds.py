"""The known-answer worlds hold what makes their answers known."""

from __future__ import annotations

import numpy as np

from allmrec.testing.worlds import THEMES, mixed_world, ring_world, taste_world, title_world


def test_on_the_ring_every_item_is_followed_by_the_next() -> None:
    data = ring_world(users=5, items=7, length=9)
    assert data.n_items == 7
    for user in range(5):
        steps = np.diff(data.sequence(user))
        assert set(steps.tolist()) <= {1, -6}


def test_users_keep_to_a_taste_and_tastes_share_no_item() -> None:
    data = taste_world(users=8, tastes=4, items_per_taste=3, length=3)
    taken = [set(data.sequence(user).tolist()) for user in range(8)]
    for user in range(4):
        assert taken[user] == taken[user + 4]
        assert all(taken[user].isdisjoint(taken[other]) for other in range(user))


def test_title_worlds_items_have_one_user_each() -> None:
    data = title_world(users=6, length=3)
    assert np.bincount(data.item_numbers)[1:].max() == 1


def test_half_of_a_mixed_world_is_known_by_each() -> None:
    data = mixed_world(users=80, tastes=4)
    counts = np.bincount(data.item_numbers, minlength=data.n_items + 1)
    for user in range(80):
        titles = [str(data.catalogue.titles[item]) for item in data.sequence(user)]
        if user % 2:
            assert len({title.rpartition(" ")[0] for title in titles}) == 1
            assert any(titles[0].startswith(theme) for theme in THEMES)
            assert (counts[data.sequence(user)] == 1).all()
        else:
            assert not any(title.startswith(THEMES) for title in titles)
            assert (counts[data.sequence(user)] > 1).all()


def test_titles_of_tastes_say_nothing_and_are_no_others() -> None:
    for data in (mixed_world(), mixed_world(tastes=20)):
        titles = [str(title) for title in data.catalogue.titles[1:]]
        assert len({*titles[:-600]}) == len(titles) - 600


def test_worlds_repeat_themselves() -> None:
    for world in (ring_world, taste_world, title_world, mixed_world):
        assert world(users=4).content_hash == world(users=4).content_hash
        assert world(users=9, seed=1).content_hash != world(users=9, seed=2).content_hash
