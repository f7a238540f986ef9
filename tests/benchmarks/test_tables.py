"""Tables of results: readable, small, written by several jobs; figures of ranks as the documents show them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.figures import differences, estimates, shown, user_values
from benchmarks.rank_files import MISS, Asked, asked_in, kept
from benchmarks.tables import RESULTS, add_cell, cells_of, changing, curve, read_table, table_ranks, write_result
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ArtifactError, DataError
from allmrec.core.seeding import numpy_generator
from allmrec.evaluation.intervals import bootstrap_mean
from allmrec.experiments.found import read_experiment

EXPERIMENTS = RESULTS / "experiments"
ASKED = Asked("0f" * 32, "test", seed=0, users=3, candidates=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=60,
)


@given(st.dictionaries(st.text(), VALUES))
def test_json_says_what_was_given(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    write_result(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_json_has_lines_for_people(tmp_path: Path) -> None:
    """Short values share a line, long ones have lines of their own, and numbers are not broken up."""
    value = {"seed": 0, "note": "", "ranks": [10] * 99, "rows": [{"system": "x" * 50, "value": 0.5}] * 3, "last": 1}
    write_result(tmp_path / "a.json", value)
    row = f'{{"system": "{"x" * 50}", "value": 0.5}}'
    assert (tmp_path / "a.json").read_text().splitlines() == [
        "{",
        ' "seed": 0, "note": "",',
        f' "ranks": {[10] * 99},',
        ' "rows": [',
        f"  {row},",
        f"  {row},",
        f"  {row}",
        " ],",
        ' "last": 1',
        "}",
    ]


def test_a_cell_says_what_differs_from_the_table(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table.json"
    cells = {
        "first": {"device": "a CPU", "versions": {"numpy": "2"}, "seconds": 3},
        "second": {"device": "an H200", "versions": {"numpy": "2"}, "seconds": 1},
    }
    for place, (name, cell) in enumerate(cells.items()):
        add_cell(path, name, cell, ASKED, {name: kept([1, None, place + 2])})
    assert cells_of(read_table(path)) == cells
    assert read_table(path)["cells"]["second"] == {"device": "an H200", "seconds": 1}
    assert {name: row.tolist() for name, row in table_ranks(path, ASKED).items()} == {
        "first": [1, MISS, 2],
        "second": [1, MISS, 3],
    }


def test_a_cell_that_does_not_fit_its_table_is_not_added(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    add_cell(path, "first", {"device": "a CPU"}, ASKED, {"first": kept([1, 2, 3])})
    before = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    other = Asked("ab" * 32, "test", 0, 3, 20)
    with pytest.raises(ArtifactError, match="another protocol"):
        add_cell(path, "second", {"device": "a CPU"}, other, {"second": kept([1, 2, 3])})
    with pytest.raises(DataError, match="second lacks device"):
        add_cell(path, "second", {}, ASKED, {"second": kept([1, 2, 3])})
    assert (path.read_bytes(), path.with_suffix(".npz").read_bytes()) == before


def test_what_fails_while_a_table_is_changed_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_result(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), changing(path) as table:
        table["a"] = 1 // 0
    assert read_table(path) == {"a": 1}
    with changing(path) as table:
        table["a"] = 2
    assert read_table(path) == {"a": 2}


def test_a_curve_by_columns() -> None:
    records = [{"step": 1, "loss": 0.12345678}, {"step": 2, "loss": 0.1, "ndcg": 0.5}]
    assert curve(records) == {"step": [1, 2], "loss": [0.123457, 0.1], "ndcg": [None, 0.5]}


def test_figures_are_means_and_intervals_of_users() -> None:
    ranks, others = np.array([1.0, 2.0, np.inf, 1.0]), np.array([2.0, 1.0, 1.0, 1.0])
    values = user_values([ranks])
    hits = np.array([1.0, 0.0, 0.0, 1.0])
    expected = bootstrap_mean(hits, numpy_generator(0, "seed", "Hit@1"))
    found = estimates(values, "seed")
    assert list(found) == ["Hit@1", "NDCG@10"]
    assert found["Hit@1"] == [0.5, expected.low, expected.high]
    assert found["NDCG@10"][0] == pytest.approx((2 + 1 / math.log2(3)) / 4, abs=1e-8)
    assert differences(values, user_values([others]), "seed")["Hit@1"][0] == -0.25
    # Of two seeds a user's value is their mean.
    assert user_values([ranks, others])["Hit@1"].tolist() == [0.5, 0.5, 0.5, 1.0]


def test_how_a_figure_is_shown() -> None:
    assert shown([0.5231940, 0.5079, 0.5384]) == "0.523 [0.508, 0.538]"
    assert shown([0.01, -0.002, 0.02], "+") == "+0.010 [-0.002, +0.020]"
    assert shown(None) == ""


def test_measured_plans_are_read_whole() -> None:
    folders = [path.parent for path in EXPERIMENTS.glob("*/experiment.json")]
    assert folders
    named = set()
    for folder in folders:
        found = read_experiment(folder)
        assert found.done
        assert found.sections
        assert not found.failed
        named |= {found.record.keys[one.cell.id][:24] for one in found.done}
    assert {path.stem for path in (EXPERIMENTS / "cells").glob("*.npz")} == named


def test_the_results_are_small_and_name_their_protocols() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    # Ranks of each user of the largest set, 50,546, take 45 KB a seed.
    assert sum(path.stat().st_size for path in files) < 1_350_000
    with_ranks = [path for path in files if path.suffix == ".npz" and EXPERIMENTS not in path.parents]
    assert len(with_ranks) > 5
    for path in with_ranks:
        table = read_table(path.with_suffix(".json"))
        asked = asked_in(path)
        assert table["protocol"] == asked.named()
        assert table_ranks(path.with_suffix(".json"), asked)
        if "cells" in table:
            systems = [name.partition("/")[0] for name in table_ranks(path.with_suffix(".json"), asked)]
            assert set(systems) == set(table["cells"])
