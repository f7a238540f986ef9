"""The joint item table: which vector counts, missing texts, new items, storage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from allmrec.alignment import JointItemTable
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError


@pytest.fixture
def table() -> JointItemTable:
    cf = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    text = torch.tensor([[9.0, 9.0], [10.0, 20.0], [77.0, 77.0], [30.0, 40.0]])
    return JointItemTable.of(cf, text, torch.tensor([True, True, False, True]))


def test_cf_counts_at_first(table: JointItemTable) -> None:
    assert table.n_items == 3
    assert table.vectors().tolist() == [[0, 0], [1, 2], [3, 4], [5, 6]]


def test_an_item_without_text_gets_the_mean_of_the_others(table: JointItemTable) -> None:
    assert table.with_source("text").vectors().tolist() == [[0, 0], [10, 20], [20, 30], [30, 40]]
    assert table.has_text.tolist() == [False, True, False, True]
    assert table.mean_text.tolist() == [20, 30]


def test_no_text_anywhere_gives_zeros() -> None:
    table = JointItemTable.of(torch.ones(3, 2), torch.ones(3, 2), torch.zeros(3, dtype=torch.bool))
    assert not table.with_source("text").vectors().any()


def test_the_source_may_differ_by_item(table: JointItemTable) -> None:
    mixed = table.with_source(torch.tensor([True, True, False, False]))
    assert mixed.vectors().tolist() == [[0, 0], [10, 20], [3, 4], [5, 6]]
    assert mixed.from_text.tolist() == [False, True, False, False]
    assert not table.from_text.any()
    with pytest.raises(ValueError, match="the mask has 2 values; expected one per row, 4"):
        table.with_source(torch.tensor([True, False]))


def test_new_items_count_by_their_text_whatever_is_asked(table: JointItemTable) -> None:
    more = table.with_text_rows(torch.tensor([[7.0, 8.0], [50.0, 50.0]]), torch.tensor([True, False]))
    assert more.n_items == 5
    for found in (more, more.with_source("cf")):
        assert found.vectors().tolist() == [[0, 0], [1, 2], [3, 4], [5, 6], [7, 8], [20, 30]]
    assert more.has_cf.tolist() == [False, True, True, True, False, False]
    assert more.has_text[4:].tolist() == [True, False]
    assert table.n_items == 3


def test_it_does_not_change(table: JointItemTable) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.cf = torch.zeros(1, 2)  # type: ignore[misc]  # the point of the test


def test_it_is_stored_and_read(table: JointItemTable, tmp_path: Path) -> None:
    kept = table.with_source(torch.tensor([False, True, False, False]))
    write_tensors(tmp_path / "items.safetensors", kept.tensors())
    stored = read_tensors(tmp_path / "items.safetensors")
    found = JointItemTable.from_tensors(stored)
    for name, tensor in kept.tensors().items():
        assert torch.equal(getattr(found, name), tensor)
    with pytest.raises(ArtifactError, match="A joint item table holds"):
        JointItemTable.from_tensors({"cf": table.cf})
    with pytest.raises(ArtifactError, match="rows do not agree"):
        JointItemTable.from_tensors({**stored, "has_cf": torch.ones(2, dtype=torch.bool)})
