from __future__ import annotations

import dataclasses
import importlib

import pytest

from allmrec.core.errors import ConfigError
from allmrec.planning import Rate, Size, plan_rows, read_rates, rows
from allmrec.recommend.retrieve import RetrieveConfig

SIZE = Size(users=1e8, items=1e7, interactions=1e9)


def rate(value: float, unit: str, machine: str = "x86_64 CPU, 1 threads") -> Rate:
    return Rate(
        value=value,
        unit=unit,
        what="what",
        machine=machine,
        date="2026-01-01",
        commit="c",
        command="run",
        file="f.json",
    )


def test_work_is_the_amount_by_the_rate() -> None:
    rates = {
        "prepare.memory": rate(1e6, "interactions a second"),
        "prepare.memory.bytes": rate(200, "bytes an interaction"),
    }
    row = plan_rows(SIZE, rates)[0]
    assert (row.seconds, row.bytes) == (1000, 2e11)
    assert "1e+09 interactions / 1e+06 interactions a second" in row.formula


def test_a_rate_of_two_threads_is_that_of_two_cores() -> None:
    wall = {"prepare.memory": rate(1e6, "interactions a second", "x86_64 CPU, 2 threads")}
    assert plan_rows(SIZE, wall)[0].seconds == 2000
    assert plan_rows(dataclasses.replace(SIZE, cores=8), wall)[0].seconds == 250
    busy = {"prepare.memory": rate(1e6, "interactions a CPU second", "x86_64 CPU, 2 threads")}
    assert plan_rows(SIZE, busy)[0].seconds == 1000


def test_cards_share_what_was_measured_on_a_card() -> None:
    rates = {"score:facebook/opt-6.7b": rate(50, "users a second", "NVIDIA H200")}
    size = dataclasses.replace(SIZE, cores=64, cards=4)
    assert [row.seconds for row in plan_rows(size, rates) if row.seconds is not None] == [500_000]


def test_requests_keep_machines_busy() -> None:
    rates = {
        "serve.cf": rate(50, "requests a second"),
        "search.exact": rate(100, "users × million items a second"),
    }
    busy = {row.what: row.machines for row in plan_rows(SIZE, rates) if row.machines is not None}
    assert busy == {"the CF model's answers, gathered in batches": 2, "exact search": 5}


def test_up_to_a_million_items_every_step_of_the_cf_model_moves_the_whole_table_of_items() -> None:
    rates = {
        "cf.users": rate(1000, "users a CPU second"),
        "cf.items": rate(1e6, "steps × items × 50 numbers a CPU second"),
    }
    size = dataclasses.replace(SIZE, items=1e6, cf_epochs=1, cf_batch=100, dim=50)
    # 10^8 users in 10^6 steps, each of which moves 10^6 items.
    assert [row.seconds for row in plan_rows(size, rates) if row.seconds is not None] == [1e5, 1e6]
    larger = dataclasses.replace(size, cf_batch=1000, dim=100)
    assert [row.seconds for row in plan_rows(larger, rates) if row.seconds is not None] == [1e5, 2e5]


def test_above_a_million_items_a_step_moves_the_rows_that_it_looks_at() -> None:
    rates = {
        "cf.users": rate(1000, "users a CPU second"),
        "cf.items": rate(1e6, "steps × items × 50 numbers a CPU second"),
        "cf.rows@3000000": rate(500, "users a CPU second"),
    }
    size = dataclasses.replace(SIZE, cf_epochs=2)
    assert [row.seconds for row in plan_rows(size, rates) if row.seconds is not None] == [4e5]


def test_the_plan_has_the_trainings_and_the_indexs_own_limits() -> None:
    training = importlib.import_module("allmrec.cf.pretrain")  # the package has a function of that name
    assert rows._BY_ROWS_ABOVE == training._BY_ROWS_ABOVE
    assert RetrieveConfig().compressed_above == rows._COMPRESSED_ABOVE


def test_the_rate_of_the_nearest_size_counts() -> None:
    unit = "users × million items × 128 numbers a CPU second"
    rates = {"search.exact@1000000": rate(100, unit), "search.exact@10000000": rate(50, unit)}

    def machines(items: float) -> float | None:
        size = dataclasses.replace(SIZE, items=items, dim=64)
        return next(row.machines for row in plan_rows(size, rates) if row.what == "exact search")

    # 100 requests a second among items of half as many numbers.
    assert machines(3e6) == pytest.approx(100 * 3 / 2 / 100)
    assert machines(4e6) == pytest.approx(100 * 4 / 2 / 50)


def test_what_was_not_measured_says_so() -> None:
    unknown = dataclasses.replace(SIZE, llm="some/other")
    rows = plan_rows(unknown, read_rates())
    silent = [row for row in rows if row.formula.startswith("no measured rate for some/other")]
    assert len(silent) == 4
    assert all((row.seconds, row.machines, row.rate) == (None, None, None) for row in silent)
    assert all(row.formula for row in rows)


def test_every_rate_says_where_it_was_measured() -> None:
    for name, known in read_rates().items():
        assert known.value > 0, name
        assert all((known.machine, known.date, known.commit, known.command, known.file)), name


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="items is 0"):
        dataclasses.replace(SIZE, items=0)
    with pytest.raises(ConfigError, match="users"):
        dataclasses.replace(SIZE, users=float("nan"))


def test_the_command_shows_formulas_and_sources() -> None:
    from typer.testing import CliRunner

    from allmrec.cli.main import app

    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["plan", "--users", "1e8", "--items", "1e7"])
    assert result.exit_code == 0, result.output
    assert "Computed, not run" in result.stdout
    assert "no measured" in result.stdout  # and of what; the words wrap where the table is narrow
    assert "python -m benchmarks.opt_speed runs/mt-0 tokenizer" in result.stdout
