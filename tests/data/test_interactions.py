from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allmrec.core.errors import ArtifactError, DataError, UnknownIdError
from allmrec.data import InteractionDataset, Provenance

sequences = st.dictionaries(
    st.text(max_size=4), st.lists(st.sampled_from([*"abcde", "é", " ", "\0"]), max_size=6), min_size=1, max_size=5
)


def test_sequences_are_numbers_in_order(small: InteractionDataset) -> None:
    assert [small.sequence(user).tolist() for user in range(4)] == [[1, 2, 3, 4, 5], [2, 3, 1], [1, 2], [5]]
    times = small.sequence_times(1)
    assert times is not None
    assert times.tolist() == [3, 3, 9]
    assert (small.n_users, small.n_items, small.n_interactions) == (4, 6, 11)
    assert small.lengths.tolist() == [5, 3, 2, 1]
    assert small.user_of_interaction().tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3]


def test_summary_by_hand(small: InteractionDataset) -> None:
    summary = small.summary()
    assert summary.as_dict() == {
        "users": 4,
        "items": 6,
        "interactions": 11,
        "average_length": 11 / 4,
        "density": 11 / 24,
        "items_without_title": 4,
        "items_without_description": 4,
    }
    assert str(summary).startswith("4 users, 6 items, 11 interactions, 2.75 per user, density 45.833%")


def test_density_counts_repeats_once() -> None:
    assert InteractionDataset.from_sequences({"u": ["a", "a", "a"], "v": ["b"]}).summary().density == 0.5


def test_arrays_are_read_only(small: InteractionDataset) -> None:
    with pytest.raises(ValueError, match="read-only"):
        small.item_numbers[0] = 3
    with pytest.raises(ValueError, match="read-only"):
        small.sequence(0)[0] = 3


@given(sequences, st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_saved_and_loaded_is_the_same(tmp_path: Path, who: dict[str, list[str]], timed: bool) -> None:
    times = {user: list(range(len(items))) for user, items in who.items()} if timed else None
    before = InteractionDataset.from_sequences(who, times=times, titles={"a": "An { odd } \0 title ☃"})
    before = replace(before, provenance=Provenance(source="x", skipped={"f: kind": 3}, options={"a": [1, None]}))
    before.save(tmp_path / "set")
    after = InteractionDataset.load(tmp_path / "set")
    assert after.content_hash == before.content_hash
    assert (after.users, after.items, after.catalogue) == (before.users, before.items, before.catalogue)
    assert after.provenance == before.provenance
    assert np.array_equal(after.offsets, before.offsets)
    assert np.array_equal(after.item_numbers, before.item_numbers)
    assert (after.times is None) == (not timed)
    assert {path.name for path in (tmp_path / "set").iterdir()} == {
        "interactions.safetensors",
        "items.parquet",
        "users.parquet",
        "manifest.json",
    }


def test_hash_changes_with_content_only(small: InteractionDataset) -> None:
    catalogue = small.catalogue
    assert replace(small, provenance=Provenance(source="elsewhere")).content_hash == small.content_hash
    changed = [
        replace(small, catalogue=replace(catalogue, titles=(None, "Alphb", *catalogue.titles[2:]))),
        replace(small, catalogue=replace(catalogue, titles=(None, None, *catalogue.titles[2:]))),
        replace(small, catalogue=replace(catalogue, categories=((), ("x",), *catalogue.categories[2:]))),
        replace(small, times=None),
        replace(small, item_numbers=np.flip(small.item_numbers)),
        replace(small, offsets=np.array([0, 4, 8, 10, 11])),
    ]
    assert len({small.content_hash, *(dataset.content_hash for dataset in changed)}) == 1 + len(changed)


@pytest.mark.parametrize("name", ["interactions.safetensors", "items.parquet", "users.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_damaged_folder_is_an_artifact_error(
    small: InteractionDataset, tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "set"
    small.save(folder)
    file = folder / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-20] if damage == "cut" else b"something else")
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        InteractionDataset.load(folder)


def test_a_changed_file_is_noticed(small: InteractionDataset, tmp_path: Path) -> None:
    small.save(tmp_path / "one")
    replace(small, item_numbers=np.flip(small.item_numbers)).save(tmp_path / "two")
    (tmp_path / "two" / "interactions.safetensors").replace(tmp_path / "one" / "interactions.safetensors")
    with pytest.raises(ArtifactError, match="changed after it was written"):
        InteractionDataset.load(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "reads format 1"), ({"kind": "a model"}, "no data set"), ({"provenance": {"x": 1}}, "damaged")],
)
def test_a_manifest_of_another_kind_is_refused(
    small: InteractionDataset, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    small.save(tmp_path / "set")
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        InteractionDataset.load(tmp_path / "set")


def test_no_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="allmrec prepare"):
        InteractionDataset.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": np.array([0, 5, 8, 10, 12])},
        {"offsets": np.array([0, 5, 4, 10, 11])},
        {"offsets": np.array([0, 11])},
        {"item_numbers": np.zeros(11, dtype=np.int32)},
        {"item_numbers": np.full(11, 7, dtype=np.int32)},
    ],
)
def test_parts_that_do_not_fit_are_refused(small: InteractionDataset, change: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError):
        replace(small, **change)


def test_from_sequences_refuses_what_does_not_fit() -> None:
    with pytest.raises(UnknownIdError):
        InteractionDataset.from_sequences({"u": ["a", "b"]}, items=["a"])
    with pytest.raises(DataError, match="another shape"):
        InteractionDataset.from_sequences({"u": ["a", "b"]}, times={"u": [1]})


@given(sequences)
def test_interacted_keys_equal_a_plain_loop(who: dict[str, list[str]]) -> None:
    dataset = InteractionDataset.from_sequences(who, items=[*"abcde", "é", " ", "\0", *string.ascii_uppercase])
    width = dataset.n_items + 1
    expected = {user * width + int(item) for user in range(dataset.n_users) for item in dataset.sequence(user)}
    assert dataset.interacted_keys.tolist() == sorted(expected)
