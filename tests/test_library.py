"""The library from a table in memory to a report, as a notebook would call it."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_world import TinyWorld

import allmrec


def test_a_table_in_memory_is_trained_and_asked_by_number_without_a_word_on_the_terminal(
    tiny_world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with tiny_world.interactions.open() as log, tiny_world.items.open() as items:
        rows, texts = list(csv.DictReader(log)), list(csv.DictReader(items))
    for row in (*rows, *texts):
        row["item_id"] = int(row["item_id"].removeprefix("i"))
    data = allmrec.dataset(pa.Table.from_pylist(rows), texts)
    with caplog.at_level(logging.INFO, "allmrec"):
        run = allmrec.train(data, tmp_path / "run", str(tiny_world.recipe), device="cpu", progress=False)
    assert capfd.readouterr() == ("", "")
    said = [record.getMessage() for record in caplog.records if record.name == "allmrec"]
    assert any(": done in " in text for text in said)
    model = allmrec.open_run(run.path).recommender()
    history = np.array([3, 5])
    found = [item.item_id for item in model.recommend(history=history, k=5)]
    assert found == [item.item_id for item in model.recommend(history=["3", "5"], k=5)]
    assert len(set(found) - {"3", "5"}) == 5
    model.add_items([{"item_id": 1000, "title": "A new one"}])
    assert len(model.recommend(history=[1000, 3], k=5)) == 5
