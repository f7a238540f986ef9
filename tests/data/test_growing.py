"""A data set with newer interactions: numbers stay, nothing is added twice, and what was left out is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allmrec.core.errors import DataError
from allmrec.data.build import PrepareConfig, read_table
from allmrec.data.growing import Growth, grown
from allmrec.data.interactions import InteractionDataset
from allmrec.data.sources.table import TableConfig, read_table_files

LOG = "user_id,item_id,timestamp,rating\n"
FIRST = [("b", "y", 10, 5), ("a", "x", 1, 5), ("a", "y", 2, 5), ("a", "x", 3, 4)]


def table(path: Path, rows: list[tuple[Any, ...]], head: str = LOG) -> Path:
    path.write_text(head + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def more(data: InteractionDataset, path: Path, items: Path | None = None) -> tuple[InteractionDataset, Growth]:
    return grown(data, read_table_files(TableConfig(interactions=path, items=items)))


def sequences(data: InteractionDataset) -> dict[str, list[str]]:
    return {data.users.id(u): [data.items.id(int(i)) for i in data.sequence(u)] for u in range(data.n_users)}


@pytest.fixture
def first(tmp_path: Path) -> InteractionDataset:
    items = table(tmp_path / "items.csv", [("x", "Ex", ""), ("y", "Why", "old")], "item_id,title,description\n")
    return read_table(table(tmp_path / "first.csv", FIRST), items)


def test_new_users_items_and_interactions_stand_behind_the_known(first: InteractionDataset, tmp_path: Path) -> None:
    items = table(
        tmp_path / "new.csv",
        [("w", "Double <b>u</b>", "n"), ("y", "Why", ""), ("v", "Unmet", "")],
        "item_id,title,description\n",
    )
    data, growth = more(
        first, table(tmp_path / "more.csv", [("c", "w", 20, 5), ("a", "w", 9, 3), ("b", "x", 11, 1)]), items
    )
    assert data.users.ids == ("a", "b", "c")
    assert data.items.ids == ("x", "y", "w"), "known items keep their numbers"
    assert sequences(data) == {"a": ["x", "y", "x", "w"], "b": ["y", "x"], "c": ["w"]}
    assert data.times is not None
    assert data.times.tolist() == [1, 2, 3, 9, 10, 11, 20]
    assert data.catalogue.titles == (None, "Ex", "Why", "Double u")
    assert data.catalogue.descriptions[2] == "old", "what the file leaves empty stays"
    assert growth == Growth(interactions=3, users=1, items=1, unmet=1)
    assert [step.name for step in data.provenance.steps] == ["read", "with more.csv, new.csv"]
    assert [file.name for file in data.provenance.files] == ["first.csv", "items.csv", "more.csv", "new.csv"]
    data.save(tmp_path / "data")
    assert InteractionDataset.load(tmp_path / "data").content_hash == data.content_hash


def test_it_holds_what_preparing_all_at_once_holds(first: InteractionDataset, tmp_path: Path) -> None:
    """Also with late rows, rows that are there already, and repeats within a second."""
    rows = [
        ("a", "z", 0, 5),
        ("a", "x", 1, 5),
        ("b", "y", 10, 5),
        ("b", "y", 10, 5),
        ("c", "y", 5, 5),
        ("a", "q", 2, 1),
    ]
    data, growth = more(first, table(tmp_path / "more.csv", rows))
    known = [rows[1], rows[2]]
    whole = read_table(table(tmp_path / "whole.csv", [*FIRST, *[row for n, row in enumerate(rows) if n not in (1, 2)]]))
    assert sequences(data) == sequences(whole)
    assert growth.known == len(known)
    assert growth.interactions == 4
    assert growth.late == 2


def test_a_second_time_there_is_nothing_new(first: InteractionDataset, tmp_path: Path) -> None:
    path = table(tmp_path / "more.csv", [("c", "w", 20, 5), ("a", "x", 1, 5)])
    data, growth = more(first, path)
    assert not growth.is_nothing
    again, growth = more(data, path)
    assert growth == Growth(known=2)
    assert growth.is_nothing
    assert again.content_hash == data.content_hash


def test_random_histories_in_two_overlapping_parts_are_those_of_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = rng.permutation(200)
    rows = [(f"u{rng.integers(9)}", f"i{rng.integers(7)}", int(time), 5) for time in times]
    whole = read_table(table(tmp_path / "whole.csv", rows))
    for cut in (1, 60, 199):
        data = read_table(table(tmp_path / "first.csv", rows[:cut]))
        # The second file begins before the first one ends, as an export of everything does.
        data, growth = more(data, table(tmp_path / "more.csv", rows[cut // 2 :]))
        assert (growth.known, growth.interactions) == (cut - cut // 2, 200 - cut)
        assert sequences(data) == sequences(whole)


def test_the_filters_of_the_first_preparation_hold(tmp_path: Path) -> None:
    rules = PrepareConfig(min_rating=4, repeats="first", keep_items_without_interactions=True)
    data = read_table(table(tmp_path / "first.csv", FIRST), prepare=rules)
    items = table(tmp_path / "items.csv", [("v", "Unmet")], "item_id,title\n")
    rows = [("a", "x", 9, 5), ("a", "w", 8, 3), ("c", "w", 8, 4)]
    data, growth = more(data, table(tmp_path / "more.csv", rows), items)
    assert sequences(data) == {"a": ["x", "y"], "b": ["y"], "c": ["w"]}
    assert growth == Growth(interactions=1, users=1, items=2, low=1, repeats=1, untitled=1)
    assert data.items.ids[2:] == ("v", "w")
    # A server's events have no ratings; they count.
    data, growth = more(data, table(tmp_path / "events.csv", [("b", "v", 11)], "user_id,item_id,timestamp\n"))
    assert growth.interactions == 1


def test_data_without_times_knows_an_export_by_its_beginnings(tmp_path: Path) -> None:
    head = "user_id,item_id,position\n"
    data = read_table(table(tmp_path / "first.csv", [("a", "x", 0), ("a", "y", 1), ("b", "y", 0)], head))
    assert data.times is None
    export = [("a", "x", 0), ("a", "y", 1), ("b", "y", 0), ("a", "x", 2), ("c", "z", 0)]
    now, growth = more(data, table(tmp_path / "export.csv", export, head))
    assert sequences(now) == {"a": ["x", "y", "x"], "b": ["y"], "c": ["z"]}
    assert growth == Growth(interactions=2, users=1, items=1, known=3, untitled=1)
    # Events alone are taken as they are.
    alone, growth = more(data, table(tmp_path / "events.csv", [("a", "y", 0)], head))
    assert sequences(alone)["a"] == ["x", "y", "y"]
    assert growth == Growth(interactions=1)


def test_texts_of_known_items_are_replaced_and_counted(first: InteractionDataset, tmp_path: Path) -> None:
    items = tmp_path / "new.csv"
    items.write_text('item_id,title\nx,"Ex, second edition"\ny,Why\n')
    data, growth = more(first, table(tmp_path / "more.csv", [("a", "x", 1, 5)]), items)
    assert data.catalogue.titles[1] == "Ex, second edition"
    assert growth == Growth(known=1, texts=1)
    assert not growth.is_nothing


def test_times_that_are_missing_are_an_error(first: InteractionDataset, tmp_path: Path) -> None:
    path = table(tmp_path / "more.csv", [("a", "x")], "user_id,item_id\n")
    read = read_table_files(TableConfig(interactions=path, time=None))
    with pytest.raises(DataError, match=r"more\.csv: has no times"):
        grown(first, read)


@pytest.mark.parametrize(("known", "new"), [("5.0", "5"), ("5", "5.0")])
@pytest.mark.parametrize("column", ["user", "item"])
def test_ids_that_are_written_otherwise_are_refused(tmp_path: Path, known: str, new: str, column: str) -> None:
    def row(name: str) -> tuple[Any, ...]:
        return (name, "x", 1, 5) if column == "user" else ("a", name, 1, 5)

    # Beside an id that is no number each is taken as it is written.
    other = ("b", "z", 2, 5)
    data = read_table(table(tmp_path / "first.csv", [row(known), other]))
    assert known in (data.users if column == "user" else data.items)
    with pytest.raises(DataError, match=rf"{column} id '{new}' is new, and the run's data has '{known}'"):
        more(data, table(tmp_path / "more.csv", [row(new), other]))
    # Of any other number nothing is thought.
    assert more(data, table(tmp_path / "more.csv", [row("15"), other]))[1].interactions == 1
