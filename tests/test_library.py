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
from allmrec.core.errors import ConfigError, UnknownIdError


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
    model = allmrec.open_run(str(run.path)).recommender()
    assert allmrec.Run.open(str(run.path)).path == run.path
    history = np.array([3, 5])
    found = [item.item_id for item in model.recommend(history=history, k=5)]
    assert found == [item.item_id for item in model.recommend(history=["3", "5"], k=5)]
    assert len(set(found) - {"3", "5"}) == 5
    model.add_items([{"item_id": 1000, "title": "A new one"}])
    assert len(model.recommend(history=[1000, 3], k=5)) == 5


def test_evaluate_takes_systems_users_and_candidates_and_leaves_the_run_as_it_is(
    tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with tiny_world.interactions.open() as log:
        data = allmrec.dataset([(row["user_id"], row["item_id"]) for row in csv.DictReader(log)])
    changes = {"evaluation.users": 5, "pretrain.training.epochs": 1}
    run = allmrec.train(data, tmp_path / "run", str(tiny_world.recipe), changes=changes, device="cpu", progress=False)
    systems = ["popularity", "backbone"]

    def asked(**options: object) -> allmrec.Report:
        return allmrec.evaluate(run, systems, progress=False, **options)  # type: ignore[arg-type]  # options by name

    own = asked()
    frozen = (run.path / "protocol.json").read_bytes()
    assert [(one.key, one.n_users) for one in own.systems] == [("popularity", 5), ("backbone", 5)]
    assert asked(users=3).systems[0].users == own.systems[0].users[:3]
    names = [data.users.id(user) for user in own.systems[0].users[1:3]]
    some = asked(users=names)
    assert some.systems[1].ranks == own.systems[1].ranks[1:3]
    fewer = asked(candidates=4)
    assert (fewer.n_candidates, max(rank for rank in fewer.systems[0].ranks if rank)) <= (4, 4)
    assert fewer.protocol_hash != own.protocol_hash
    # The test item among three that were named, which is there or is added.
    target = {name: data.items.id(int(data.sequence(data.users.number(name))[-1])) for name in names}
    others = {name: [item for item in data.items.ids if item != target[name]][:3] for name in names}
    given = asked(candidates=others)
    assert (given.n_candidates, given.systems[0].n_users) == (4, 2)
    with_target = asked(candidates={name: [*items, target[name]] for name, items in others.items()})
    assert with_target.systems[0].ranks == given.systems[0].ranks
    assert (run.path / "protocol.json").read_bytes() == frozen
    assert not list(run.path.glob("report*"))
    assert not list((run.path / ".evaluating").glob("*"))

    for options, message in (
        ({"users": []}, "expected a number, or a list"),
        ({"users": "u3"}, "expected a number, or a list"),
        ({"users": 0}, "at least one"),
        ({"users": ["nobody"]}, "There is no user 'nobody'"),
        ({"candidates": 1}, "1 candidates were asked for"),
        ({"candidates": {}}, "candidates is empty"),
        ({"candidates": {names[0]: "i1"}}, "expected a list of item ids"),
        ({"candidates": {names[0]: ["i1", "i1"]}}, "twice"),
        ({"candidates": {names[0]: ["no item"]}}, "There is no item 'no item'"),
        ({"candidates": {names[0]: others[names[0]][:1], names[1]: others[names[1]]}}, "2 or 4 candidates a user"),
    ):
        with pytest.raises((ConfigError, UnknownIdError), match=message):
            asked(**options)
