"""Writes src/allmrec/planning/rates.json, the rates of `allmrec plan`, from benchmarks/results: `python -m benchmarks.rates`.

Nothing is measured here. A rate is a quotient of figures that stand in a result, with that result's device, date, commit and
command; `tests/benchmarks/test_rates.py` fails when the file is not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from allmrec.core.artifacts import atomic_write, read_json
from allmrec.planning.rates import Rate
from benchmarks.tables import RESULTS

TARGET = Path(__file__).parents[1] / "src" / "allmrec" / "planning" / "rates.json"

_OPT, _SMOL = "facebook/opt-6.7b", "smollm2-135m-instruct"
_RECALL = 0.999

Result = Mapping[str, Any]


def rates() -> dict[str, Rate]:
    """Every rate by its name."""
    found: dict[str, Rate] = {}

    def add(
        name: str, file: str, unit: str, what: str, value: Callable[[Result], float], about: Callable[[Result], Result]
    ) -> None:
        result = read_json(RESULTS / file)
        where = about(result)
        found[name] = Rate(
            value=value(result),
            unit=unit,
            what=what,
            file=file,
            machine=where["device"],
            **{key: where[key] for key in ("date", "commit", "command")},
        )

    def whole(result: Result) -> Result:
        return result

    def first(result: Result) -> Result:
        row: Result = result["rows"][0]
        return row

    def largest(result: Result) -> Result:
        return max(result["rows"], key=lambda row: row["reviews"])  # type: ignore[no-any-return]  # of JSON

    speed = "prepare-speed.json"
    add(
        "prepare.memory",
        speed,
        "interactions a second",
        "reviews in JSON lines, five-core, the reader in memory",
        lambda r: r["reviews"] / r["sides"]["ours"]["seconds"],
        whole,
    )
    add(
        "prepare.memory.bytes",
        speed,
        "bytes an interaction",
        "the reader in memory at its peak",
        lambda r: r["sides"]["ours"]["peak_bytes"] / r["reviews"],
        whole,
    )
    if (RESULTS / "prepare-large.json").is_file():
        large = "prepare-large.json"
        add(
            "prepare.duckdb",
            large,
            "interactions a CPU second",
            "reviews in JSON lines, five-core, by DuckDB",
            lambda r: largest(r)["reviews"] / largest(r)["sides"]["duckdb"]["cpu_seconds"],
            largest,
        )
        add(
            "prepare.duckdb.peak",
            large,
            "bytes",
            "the process of DuckDB at its peak, at the measured size",
            lambda r: largest(r)["sides"]["duckdb"]["peak_bytes"],
            largest,
        )
    add(
        "cf.users",
        "large.json",
        "users a CPU second",
        "SASRec's training at a million items, 64 negatives",
        lambda r: r["steps_a_cpu_second"] * r["batch_size"],
        whole,
    )
    add(
        "text.items",
        "item-encoders.json",
        "items a CPU second",
        "texts of items to vectors by all-MiniLM-L6-v2",
        lambda r: 1e6 / r["encoders"]["all-MiniLM-L6-v2"]["seconds_a_million"],
        lambda r: r["encoders"]["all-MiniLM-L6-v2"],
    )
    add(
        "align.samples",
        "stages-speed.json",
        "users a second",
        "stage 1, MiniLM tuned in its last layer, MovieLens-100K",
        lambda r: _named(r["results"], "stage 1, MiniLM tuned in its last 1 layer")["ours"],
        whole,
    )
    add(
        "index.items",
        "retrieval.json",
        "items a CPU second",
        "the index of a million items, 128 numbers each",
        lambda r: first(r)["items"] / first(r)["index_build_cpu_seconds"],
        first,
    )
    add(
        "search.exact",
        "retrieval.json",
        "users × million items a CPU second",
        "exact search among a million items, 128 numbers each",
        lambda r: first(r)["users"] * first(r)["items"] / 1e6 / first(r)["exact_cpu_seconds"],
        first,
    )
    add(
        "search.index",
        "retrieval.json",
        "users × million items a CPU second",
        f"the fewest cells with a recall of {_RECALL:.1%} or more, a million items",
        lambda r: first(r)["users"] * first(r)["items"] / 1e6 / _cells(first(r))["cpu_seconds"],
        first,
    )
    add(
        "serve.cf",
        "request-speed.json",
        "requests a second",
        "SASRec, requests gathered",
        lambda r: _of(r["rows"], "SASRec")["together"],
        lambda r: _of(r["rows"], "SASRec"),
    )
    opt = "opt-speed.json"
    add(
        f"tune:{_OPT}",
        opt,
        "users a second",
        "stage 2 in the paper's form, batches of 4, random weights",
        lambda r: _form(r, "training, batches of 4"),
        whole,
    )
    add(
        f"score:{_OPT}",
        opt,
        "users a second",
        "20 candidates in the paper's form, 32 users at once, random weights",
        lambda r: _form(r, "score, 32 users at once"),
        whole,
    )
    add(
        f"serve:{_OPT}",
        opt,
        "requests a second",
        "20 candidates in the paper's form, 8 users at once, random weights",
        lambda r: _form(r, "score, 8 users at once"),
        whole,
    )
    add(
        f"memory:{_OPT}",
        opt,
        "bytes",
        "the card's peak over all rows of that benchmark, training among them",
        lambda r: r["peak_memory"],
        whole,
    )
    titles = "titles-speed.json"
    add(
        f"tune:{_SMOL}",
        titles,
        "users a second",
        "stage 2, title loss, form copy, batches of 8",
        lambda r: _named(r["results"], "stage 2, title loss, form copy, batches of 8")["ours"],
        whole,
    )
    add(
        f"score:{_SMOL}",
        titles,
        "users a second",
        "20 candidates, form copy, items kept",
        lambda r: _named(r["results"], "score, form copy, items kept")["ours"],
        whole,
    )
    add(
        f"items:{_SMOL}",
        "item-encoders.json",
        "items a CPU second",
        "texts of items to vectors by SmolLM2",
        lambda r: 1e6 / r["encoders"][_SMOL]["seconds_a_million"],
        lambda r: r["encoders"][_SMOL],
    )
    add(
        f"serve:{_SMOL}",
        "request-speed.json",
        "requests a second",
        "A-LLMRec with 20 candidates",
        lambda r: _of(r["rows"], "A-LLMRec")["together"],
        lambda r: _of(r["rows"], "A-LLMRec"),
    )
    return found


def written() -> str:
    """What the file has to hold."""
    return json.dumps({name: rate.model_dump() for name, rate in rates().items()}, indent=1, ensure_ascii=False) + "\n"


def _named(rows: list[Result], begins: str) -> Result:
    return next(row for row in rows if row["what"].startswith(begins))


def _of(rows: list[Result], system: str) -> Result:
    return next(row for row in rows if row["system"] == system)


def _form(result: Result, what: str) -> float:
    return float(next(row["per_second"] for row in result["rows"] if (row["form"], row["what"]) == ("paper", what)))


def _cells(row: Result) -> Result:
    return next(cells for cells in row["by_cells_searched"] if cells["recall"] >= _RECALL)


def main() -> None:
    atomic_write(TARGET, written())
    print(f"Written: {TARGET}")


if __name__ == "__main__":
    main()
