from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ConfigError
from allmrec.data import InteractionDataset, leave_one_out
from allmrec.data.splitting import drawn_users

lists_of_items = st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), min_size=1, max_size=6)


def test_last_tests_and_the_one_before_validates(small: InteractionDataset) -> None:
    split = leave_one_out(small)
    assert split.test.tolist() == [5, 1, 0, 0]
    assert split.validation.tolist() == [4, 3, 0, 0]
    assert [split.train(user).tolist() for user in range(4)] == [[1, 2, 3], [2], [1, 2], [5]]
    assert split.validation_history(0).tolist() == [1, 2, 3]
    assert split.test_history(0).tolist() == [1, 2, 3, 4]
    assert split.test_history(2).tolist() == [1, 2]
    assert np.flatnonzero(split.test).tolist() == [0, 1]
    assert split.train_counts().tolist() == [0, 2, 3, 1, 0, 1, 0]


def test_held_out_items_leave_training_and_stay_in_histories(small: InteractionDataset) -> None:
    split = leave_one_out(small, hold_out=1)
    assert [split.train(user).tolist() for user in range(4)] == [[1, 2], [2], [1], [5]]
    assert [split.held_out(user).tolist() for user in range(4)] == [[3], [], [2], []]
    assert split.validation_history(0).tolist() == [1, 2, 3]
    assert split.test_history(0).tolist() == [1, 2, 3, 4]
    assert split.train_counts().tolist() == [0, 2, 2, 0, 0, 1, 0]


def test_only_chosen_users_train(small: InteractionDataset) -> None:
    split = leave_one_out(small, train_users=np.array([1, 3]))
    assert split.train_end.tolist() == [0, 1, 0, 1]
    assert np.flatnonzero(split.train_end).tolist() == [1, 3]
    assert split.test.tolist() == [5, 1, 0, 0]
    assert split.test_history(0).tolist() == [1, 2, 3, 4]


def test_impossible_options_are_refused(small: InteractionDataset) -> None:
    with pytest.raises(ConfigError, match="hold_out is -1"):
        leave_one_out(small, hold_out=-1)
    with pytest.raises(ConfigError, match="0 to 3"):
        leave_one_out(small, train_users=np.array([4]))


@given(lists_of_items, st.integers(0, 9))
def test_parts_make_up_the_sequence(rows: list[list[str]], hold_out: int) -> None:
    dataset = InteractionDataset.from_sequences({str(n): row for n, row in enumerate(rows)}, items=list("abcdef"))
    split = leave_one_out(dataset, hold_out)
    plain = leave_one_out(dataset)
    counts = [0] * 7
    for user in range(dataset.n_users):
        sequence = dataset.sequence(user).tolist()
        ends = [int(split.validation[user]), int(split.test[user])] if len(sequence) >= 3 else []
        assert split.train(user).tolist() + split.held_out(user).tolist() + ends == sequence
        assert (split.test[user] == 0) == (len(sequence) < 3)
        assert len(split.train(user)) >= min(1, len(sequence))
        prefix = len(plain.train(user))
        # Two stay of three or more; one of two, unless nobody would have two.
        expected = min(hold_out, prefix - 2 if prefix > 2 else int(prefix == 2))
        if prefix == 2 and all(len(plain.train(one)) <= 2 for one in range(dataset.n_users)):
            expected = 0
        assert len(split.held_out(user)) == expected
        assert split.validation_history(user).tolist() == plain.validation_history(user).tolist()
        assert (
            split.test_history(user).tolist()
            == plain.test_history(user).tolist()
            == (sequence[:-1] if ends else sequence)
        )
        for item in split.train(user):
            counts[item] += 1
    assert split.train_counts().tolist() == counts


def test_the_training_part_ends_before_the_validation_item() -> None:
    data = InteractionDataset.from_sequences({"a": ["1", "2", "3", "4", "5"], "b": ["2", "3"]})
    part = leave_one_out(data, hold_out=1).training_part()
    assert part.sequence(0).tolist() == data.sequence(0)[:3].tolist()
    assert part.sequence(1).tolist() == data.sequence(1).tolist()
    assert part.items == data.items


def test_targets_can_be_withheld_from_few_users_only() -> None:
    data = InteractionDataset.from_sequences({f"u{n}": [f"i{i}" for i in range(2 + n % 5)] for n in range(40)})
    everything, plain = leave_one_out(data, hold_out=2), leave_one_out(data)
    few = leave_one_out(data, hold_out=2, hold_out_users=6, seed=3)
    withheld = np.flatnonzero(few.train_end < plain.train_end)
    able = np.flatnonzero(plain.prefix_end > 1)
    assert withheld.tolist() == sorted(drawn_users(able, 6, 3).tolist())
    assert (few.train_end[withheld] == everything.train_end[withheld]).all()
    assert (few.prefix_end == plain.prefix_end).all()
    # Whoever draws fewer or more from them with the same seed agrees about the first.
    assert drawn_users(able, 4, 3).tolist() == drawn_users(able, 6, 3)[:4].tolist()
    assert set(withheld) != set(drawn_users(able, 6, 4).tolist())
    assert (leave_one_out(data, hold_out=2, hold_out_users=1000).train_end == everything.train_end).all()


@pytest.mark.parametrize(("lengths", "train", "fails"), [((4, 5, 20), [1, 2, 8], False), ((4, 4), [2, 2], True)])
def test_short_histories_withhold_what_they_can(lengths: tuple[int, ...], train: list[int], fails: bool) -> None:
    data = InteractionDataset.from_sequences(
        {f"u{n}": [f"i{i}" for i in range(n)] for n in set(lengths)}
        | {f"v{n}": [f"i{i}" for i in range(n)] for n in lengths}
    )
    split = leave_one_out(data, hold_out=10)
    assert split.train_end[-len(lengths) :].tolist() == train
    assert split.held_out_fails is fails
