"""The index of a table: which kind, measured, kept on disk, shared, made again, and with later items beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from allmrec.core.artifacts import read_json, write_json
from allmrec.ranking import Query
from allmrec.recommend import item_indexer
from allmrec.recommend.approximate_index import ApproximateIndex
from allmrec.recommend.item_index import ExactIndex, ItemIndex, nearest
from allmrec.recommend.item_indexer import ItemIndexer


def table(seed: int = 0, items: int = 3000, groups: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(groups, 16))
    return (middles[rng.integers(groups, size=items + 1)] + 0.3 * rng.normal(size=(items + 1, 16))).astype(np.float32)


def queries_of(vectors: np.ndarray) -> Callable[[Sequence[Query]], np.ndarray]:
    return lambda queries: np.stack([vectors[query.history].mean(axis=0) for query in queries])


def given(indexer: ItemIndexer, vectors: np.ndarray, name: str = "model") -> tuple[ItemIndex, np.ndarray]:
    return indexer.index_of(vectors, name, queries_of(vectors))


def folders(place: Path) -> list[str]:
    return sorted(found.name for found in place.iterdir() if found.is_dir())


def assert_same(index: ItemIndex, other: ItemIndex, vectors: np.ndarray) -> None:
    queries, exclude = vectors[1:9] + 0.1, [np.array([n, 5]) for n in range(1, 9)]
    for one, two in zip(nearest(index, queries, 7, exclude), nearest(other, queries, 7, exclude), strict=True):
        assert one.items.tolist() == two.items.tolist()
        assert one.scores.tolist() == two.scores.tolist()


def test_the_kind_depends_on_the_size(tmp_path: Path) -> None:
    vectors = table()
    assert isinstance(given(ItemIndexer(3000), vectors)[0], ExactIndex)
    for above, kind in ((3000, "ivf-sq8"), (2999, "ivf-sq4")):
        folder = tmp_path / kind
        index, _ = given(ItemIndexer(100, above, folder=folder), vectors)
        assert isinstance(index, ApproximateIndex)
        (place,) = folders(folder)
        assert read_json(folder / place / "about.json")["kind"] == kind


def test_recall_is_measured_stored_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors, asked = table(), [Query(np.array([n, n + 1])) for n in range(1, 31)]
    with caplog.at_level(logging.INFO, "allmrec"):
        index, mapped = given(ItemIndexer(100, recall=0.9, folder=tmp_path, users=lambda count: asked[:count]), vectors)
    (place,) = folders(tmp_path)
    about = read_json(tmp_path / place / "about.json")
    assert about["recall"] >= 0.9
    assert (about["queries"], about["count"], about["drawn"]) == (30, 20, False)
    found, wanted = (
        nearest(one, queries_of(vectors)(asked), 20, ()) for one in (index, ExactIndex(vectors, np.arange(1, 3001)))
    )
    share = np.mean([np.isin(a.items, b.items).mean() for a, b in zip(found, wanted, strict=True)])
    assert about["recall"] == pytest.approx(share, abs=0.005)
    assert f"of {about['cells']} cells finds {about['recall']:.4f} of the exact best 20 of 30 users" in caplog.text
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, vectors)


def test_without_users_histories_are_drawn_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "allmrec"):
        given(ItemIndexer(100), table())
    assert "256 drawn histories" in caplog.text


def test_an_aim_that_is_out_of_reach_leaves_the_search_exact_and_is_not_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = table(groups=3000)
    first, _ = given(ItemIndexer(100, recall=1.0, folder=tmp_path), vectors)
    assert isinstance(first, ExactIndex)
    assert "answer.retrieve.recall wants 1" in caplog.text
    monkeypatch.setattr(ApproximateIndex, "made", None)
    again, mapped = given(ItemIndexer(100, recall=1.0, folder=tmp_path), vectors)
    assert isinstance(again, ExactIndex)
    assert isinstance(mapped, np.memmap)
    assert_same(again, ExactIndex(vectors, np.arange(1, 3001)), vectors)


def test_it_is_made_once_and_made_again_for_other_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, made = table(), ApproximateIndex.made
    calls: list[int] = []
    monkeypatch.setattr(ApproximateIndex, "made", lambda *parts: (calls.append(1), made(*parts))[1])
    first, _ = given(ItemIndexer(100, folder=tmp_path), vectors)
    second, _ = given(ItemIndexer(100, folder=tmp_path), vectors.copy())
    assert len(calls) == 1
    assert_same(first, second, vectors)
    before, changed = folders(tmp_path), vectors.copy()
    changed[17, 3] += 1
    third, mapped = given(ItemIndexer(100, folder=tmp_path), changed)
    assert len(calls) == 2
    assert len(folders(tmp_path)) == 1
    assert folders(tmp_path) != before
    np.testing.assert_array_equal(mapped, changed)
    # Whoever has the old one open goes on with it; another model's stays.
    assert_same(first, second, vectors)
    given(ItemIndexer(100, folder=tmp_path), vectors, "other")
    assert [name.partition("-")[0] for name in folders(tmp_path)] == ["model", "other"]
    assert isinstance(third, ApproximateIndex)


@pytest.mark.parametrize("name", ["about.json", "index.faiss", "vectors.npy"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "changed"])
def test_what_is_damaged_on_disk_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    vectors = table()
    first, _ = given(ItemIndexer(100), vectors)
    given(ItemIndexer(100, folder=tmp_path), vectors)
    (place,) = folders(tmp_path)
    path = tmp_path / place / name
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "changed": content[:middle] + b"\xff\x00\xff" + content[middle + 3 :],
        }.get(damage, b"")
    )
    if damage == "gone":
        path.unlink()
    again, _ = given(ItemIndexer(100, folder=tmp_path), vectors)
    assert "is damaged, and is made again" in caplog.text
    assert_same(first, again, vectors)
    assert path.read_bytes()[:middle] == content[:middle]
    assert folders(tmp_path) == [place]


def test_a_record_of_something_else_is_not_believed(tmp_path: Path) -> None:
    vectors = table()
    given(ItemIndexer(100, folder=tmp_path), vectors)
    (place,) = folders(tmp_path)
    about = tmp_path / place / "about.json"
    write_json(about, read_json(about) | {"aim": 0.1})
    given(ItemIndexer(100, folder=tmp_path), vectors)
    assert read_json(about)["aim"] == 0.95


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*parts: object) -> None:
        raise KeyboardInterrupt

    vectors = table()
    monkeypatch.setattr(item_indexer.kept_index, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        given(ItemIndexer(100, folder=tmp_path), vectors)
    assert folders(tmp_path) == []
    monkeypatch.undo()
    given(ItemIndexer(100, folder=tmp_path), vectors)
    assert len(folders(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_costs_the_file_and_not_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = table()
    place = tmp_path / "file"
    place.write_text("no folder")
    index, _ = given(ItemIndexer(100, folder=place), vectors)
    assert "is not kept on disk" in caplog.text
    assert_same(index, given(ItemIndexer(100), vectors)[0], vectors)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="reads Linux's account of memory")
def test_what_is_read_from_disk_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    """16 MB of vectors and 4 MB of index: opening and searching both adds little that is not shared."""
    vectors = np.random.default_rng(0).normal(size=(50_001, 80)).astype(np.float32)

    def private() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) << 10

    given(ItemIndexer(100, recall=0.0, folder=tmp_path), vectors)
    before = private()
    index, _ = given(ItemIndexer(100, recall=0.0, folder=tmp_path), vectors)
    index.search(vectors[1:9], 20)
    (place,) = folders(tmp_path)
    size = sum(os.path.getsize(tmp_path / place / name) for name in ("index.faiss", "vectors.npy"))
    assert size > 20_000_000
    assert private() - before < 5_000_000
