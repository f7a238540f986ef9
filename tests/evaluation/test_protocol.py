"""The frozen protocol: what it contains, that it repeats, and that nobody can change it unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation.protocol import EvaluationProtocol, draw_protocol

from .conftest import world


@given(
    n_users=st.integers(1, 12),
    n_items=st.integers(12, 30),
    length=st.integers(3, 8),
    n_candidates=st.integers(2, 5),
    seed=st.integers(0, 1000),
    part=st.sampled_from(["test", "validation"]),
)
def test_candidates_hold_the_target_once_and_nothing_that_the_user_interacted_with(
    n_users: int, n_items: int, length: int, n_candidates: int, seed: int, part: str
) -> None:
    split = world(n_users, n_items, length, seed)
    protocol = draw_protocol(split, part, None, n_candidates, seed)
    assert sorted(protocol.users.tolist()) == list(range(n_users))
    assert protocol.candidates.shape == (n_users, n_candidates)
    for user, target, candidates in zip(protocol.users, protocol.targets, protocol.candidates, strict=True):
        assert target == (split.test if part == "test" else split.validation)[user]
        assert sorted(candidates).count(target) == 1
        assert len(set(candidates.tolist())) == n_candidates
        assert set(candidates.tolist()) & set(split.dataset.sequence(int(user)).tolist()) == {int(target)}


@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_fewer_users_are_the_beginning_of_more(n: int, seed: int) -> None:
    split = world()
    all_users, some = draw_protocol(split, seed=seed), draw_protocol(split, n_users=n, seed=seed)
    assert len(some) == n
    assert some.hash == all_users.first(n).hash
    assert np.array_equal(some.candidates, all_users.candidates[:n])


def test_the_seed_decides_and_parts_are_drawn_apart() -> None:
    split = world()
    assert draw_protocol(split, seed=3).hash == draw_protocol(split, seed=3).hash
    hashes = {draw_protocol(split, part, seed=seed).hash for part in ("test", "validation") for seed in (3, 4)}
    assert len(hashes) == 4


def test_users_and_the_targets_place_are_shuffled() -> None:
    protocol = draw_protocol(world(n_users=400, n_items=60))
    assert protocol.users.tolist() != sorted(protocol.users.tolist())
    places = np.argmax(protocol.candidates == protocol.targets[:, None], axis=1)
    counts = np.bincount(places, minlength=20)
    # Twenty users are expected at each place; the bounds are five standard deviations.
    assert counts.min() > 0
    assert counts.max() < 43


def test_users_without_a_target_are_never_asked() -> None:
    dataset = InteractionDataset.from_sequences({"short": ["a", "b"], "long": ["a", "b", "c"]}, items=list("abcdefgh"))
    protocol = draw_protocol(leave_one_out(dataset), n_candidates=3)
    assert protocol.users.tolist() == [1]


def test_queries_hold_everything_before_the_target(split: Split) -> None:
    for part in ("test", "validation"):
        protocol = draw_protocol(split, part, n_users=5)
        for query, user in zip(protocol.queries(split), protocol.users.tolist(), strict=True):
            whole = split.dataset.sequence(user).tolist()
            assert query.user == user
            assert query.history.tolist() == (whole[:-1] if part == "test" else whole[:-2])


def test_saved_and_loaded_it_is_the_same(split: Split, tmp_path: Path) -> None:
    protocol = draw_protocol(split, n_users=7, seed=5)
    protocol.save(tmp_path / "p.json")
    loaded = EvaluationProtocol.load(tmp_path / "p.json", split.dataset.content_hash)
    assert loaded.hash == protocol.hash
    assert (loaded.part, loaded.seed, loaded.dataset_hash) == ("test", 5, split.dataset.content_hash)
    for name in ("users", "targets", "candidates"):
        assert np.array_equal(getattr(loaded, name), getattr(protocol, name))
        assert getattr(loaded, name).dtype == getattr(protocol, name).dtype
    row = next(line for line in (tmp_path / "p.json").read_text().splitlines() if '"candidates"' in line)
    assert row.strip() == f'"candidates": {protocol.candidates[0].tolist()}', "a person can read it"
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_candidate(path: Path) -> None:
    """Replace one negative by an item that is in no row of its user: still a valid protocol, but not this one."""
    value = json.loads(path.read_text())
    row = value["rows"][0]
    place = next(n for n, item in enumerate(row["candidates"]) if item != row["target"])
    row["candidates"][place] = next(i for i in range(1, 41) if i not in row["candidates"])
    path.write_text(json.dumps(value))


def target_moved(path: Path) -> None:
    value = json.loads(path.read_text())
    value["rows"][0]["target"] = 10**6
    path.write_text(json.dumps(value))


def row_lost(path: Path) -> None:
    change(path, rows=json.loads(path.read_text())["rows"][:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_candidate, "changed after it was drawn"),
        (row_lost, "changed after it was drawn"),
        (lambda path: change(path, seed=99), "changed after it was drawn"),
        (lambda path: change(path, dataset_hash="0" * 64), "changed after it was drawn"),
        (target_moved, "is damaged .*lack their target"),
        (lambda path: change(path, rows=[{"user": 1}]), "is damaged"),
        (lambda path: change(path, rows=[{"user": 1, "target": 2, "candidates": "x"}]), "is damaged"),
        (lambda path: change(path, part="train"), "is damaged"),
        (lambda path: change(path, kind="allmrec report"), "expected 'allmrec evaluation protocol'"),
        (lambda path: change(path, format=99), "format 99; expected"),
        (lambda path: path.write_text(path.read_text()[:-30]), "cannot be read as JSON"),
        (lambda path: path.unlink(), "does not exist"),
    ],
)
def test_damage_is_noticed(split: Split, tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / "p.json"
    draw_protocol(split, n_users=7).save(path)
    damage(path)
    with pytest.raises(ArtifactError, match=message):
        EvaluationProtocol.load(path)


def test_another_data_set_is_refused_and_both_are_named(split: Split, tmp_path: Path) -> None:
    other = world(seed=1)
    draw_protocol(split).save(tmp_path / "p.json")
    mine, theirs = split.dataset.content_hash[:12], other.dataset.content_hash[:12]
    for use in (
        lambda: EvaluationProtocol.load(tmp_path / "p.json", other.dataset.content_hash),
        lambda: draw_protocol(split).queries(other),
    ):
        with pytest.raises(ArtifactError, match=rf"data set {mine}, and this one is {theirs}"):
            use()


def test_what_cannot_be_drawn_is_refused(split: Split) -> None:
    with pytest.raises(ConfigError, match="31 users were asked for; expected 1 to 30"):
        draw_protocol(split, n_users=31)
    with pytest.raises(ConfigError, match="0 users"):
        draw_protocol(split, n_users=0)
    with pytest.raises(ConfigError, match="1 candidates"):
        draw_protocol(split, n_candidates=1)
    full = leave_one_out(InteractionDataset.from_sequences({"u": ["a", "b", "c"], "v": ["c", "a", "b"]}))
    with pytest.raises(DataError, match="No user leaves any of the 3 items unseen"):
        draw_protocol(full)
    short = leave_one_out(InteractionDataset.from_sequences({"u": ["a", "b"]}))
    with pytest.raises(DataError, match="No user has a test item"):
        draw_protocol(short)


def test_a_small_catalogue_has_fewer_candidates_and_chance_is_higher() -> None:
    # Fifteen items; eleven users met four of them, and one met fourteen.
    rows = {f"u{n}": [f"i{(n + step) % 15}" for step in range(4)] for n in range(11)}
    data = InteractionDataset.from_sequences(
        {**rows, "heavy": [f"i{n}" for n in range(14)]}, items=[f"i{n}" for n in range(15)]
    )
    protocol = draw_protocol(leave_one_out(data), n_candidates=20)
    assert protocol.candidates.shape == (11, 12), "the target and the eleven items that are left"
    assert data.users.number("heavy") not in protocol.users
    ranks = []
    for seed in range(200):
        drawn = draw_protocol(leave_one_out(data), n_candidates=20, seed=seed)
        ranks += np.argmax(drawn.candidates == drawn.targets[:, None], axis=1).tolist()
    # Whoever knows nothing finds the target at any of twelve places: 6.5 on average.
    assert np.mean(ranks) + 1 == pytest.approx(6.5, abs=0.25)
    assert draw_protocol(leave_one_out(data), n_candidates=5).candidates.shape == (11, 5)


def test_one_heavy_user_is_left_out_and_takes_nothing_from_others() -> None:
    rows = {f"u{n}": [f"i{n}", f"i{n + 1}", f"i{n + 2}"] for n in range(30)} | {"all": [f"i{n}" for n in range(22)]}
    data = InteractionDataset.from_sequences(rows, items=[f"i{n}" for n in range(40)])
    protocol = draw_protocol(leave_one_out(data))
    assert protocol.candidates.shape == (30, 20)
    assert data.users.number("all") not in protocol.users


@pytest.mark.parametrize(
    ("users", "targets", "candidates", "message"),
    [
        ([1, 1], [5, 6], [[5, 6], [5, 6]], "same user twice"),
        ([1], [5], [[5, 5]], "same item twice"),
        ([1], [5], [[5, 0]], "padding"),
        ([1], [5], [[6, 7]], "lack their target"),
    ],
)
def test_parts_that_do_not_fit_are_refused(users, targets, candidates, message: str) -> None:
    with pytest.raises(DataError, match=message):
        EvaluationProtocol(
            "hash",
            "test",
            0,
            np.array(users, dtype=np.int64),
            np.array(targets, dtype=np.int32),
            np.array(candidates, dtype=np.int32),
        )
