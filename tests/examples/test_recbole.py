"""RecBole's example: what is exported reads back as it was. RecBole itself is not needed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from allmrec.data import InteractionDataset
from tests.docs.conftest import ROOT, program

FOLDER = ROOT / "examples" / "recbole"


def world() -> InteractionDataset:
    """Ids that a table of text could take for something else, an item nobody took, and two interactions at once."""
    sequences = {"NA": ["null", "7", "7.0"], "u,1": ["7.0"], "ü 2": ["7", "7", "1e3", "null"]}
    times = {"NA": [5, 5, 6], "u,1": [1], "ü 2": [1, 2, 2, 3]}
    return InteractionDataset.from_sequences(sequences, times=times, items=["null", "7", "7.0", "1e3", "alone"])


def test_what_is_exported_reads_back(tmp_path: Path) -> None:
    dataset, folder = world(), tmp_path / "tiny"
    program(FOLDER / "export.py").export(dataset, folder)
    read = program(FOLDER / "train.py").read_sequences(folder)
    assert [sequence.tolist() for sequence in read] == [dataset.sequence(user).tolist() for user in range(3)]
    for name, vocabulary in (("user_ids.txt", dataset.users), ("item_ids.txt", dataset.items)):
        assert tuple((folder / name).read_text(encoding="utf-8").splitlines()) == vocabulary.ids


def test_the_files_are_recboles(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    program(FOLDER / "export.py").export(world(), folder)
    lines = (folder / "tiny.inter").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["user_id:token\titem_id:token\ttimestamp:float", "0\t1\t0", "0\t2\t1"]
    assert len(lines) == 9
    # An item that nobody took is named too, so it has a vector and the import is complete.
    assert (folder / "tiny.item").read_text(encoding="utf-8").split() == ["item_id:token", "1", "2", "3", "4", "5"]


def test_an_id_that_fits_on_no_line_is_an_error(tmp_path: Path) -> None:
    dataset = InteractionDataset.from_sequences({"a": ["x", "y\nz"]})
    with pytest.raises(ValueError, match="does not fit on a line"):
        program(FOLDER / "export.py").export(dataset, tmp_path / "tiny")
