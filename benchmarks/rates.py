"""Writes src/allmrec/planning/rates.json, the rates of `allmrec plan`, from benchmarks/results: `python -m benchmarks.rates`.

Nothing is measured here. A rate is a quotient of figures that stand in a result, with that result's device, date, commit and
command; `tests/benchmarks/test_rates.py` fails when the file is not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from allmrec.core.artifacts import atomic_write, read_json
from allmrec.planning.rates import Rate
from benchmarks.tables import RESULTS

TARGET = Path(__file__).parents[1] / "src" / "allmrec" / "planning" / "rates.json"

_OPT, _SMOL = "facebook/opt-6.7b", "smollm2-135m-instruct"
# What `answer.retrieve.recall` asks of an index.
_RECALL = 0.95
# Of `benchmarks.growth`: steps, and users of each.
_STEPS, _BATCH = 20, 128
_DIM_OF_ROWS = 64
# Of an item's text: a title, as shops write them.
_TOKENS = 20

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

    def grown(name: str) -> Callable[[Result], Result]:
        # Each row of growth says by itself when it was measured, and how.
        return lambda result: {"device": result["device"], **result["rows"][name]}

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
            "the process of DuckDB at its peak, at the measured size, which had no texts of items; those lie in memory on top",
            lambda r: largest(r)["sides"]["duckdb"]["peak_bytes"],
            largest,
        )
    growth = "growth.json"
    add(
        "cf.users",
        growth,
        "users a CPU second",
        "SASRec's training among a thousand items, 64 negatives, batches of 128, 50 numbers each",
        lambda r: _STEPS * _BATCH / r["rows"]["cf-items"]["cpu_s"][0],
        grown("cf-items"),
    )
    add(
        "cf.items",
        growth,
        "steps × items × 50 numbers a CPU second",
        "gradients and moments of SASRec's items, from what a step takes longer with a million than with a hundred thousand",
        lambda r: _STEPS / _slope(r["rows"]["cf-items"], "cpu_s"),
        grown("cf-items"),
    )
    by_rows = read_json(RESULTS / "table-rows.json")["speed"]["rows"]
    for place, size in enumerate(row["items"] for row in by_rows):
        add(
            f"cf.rows@{size}",
            "table-rows.json",
            "users a CPU second",
            f"SASRec's training by rows among {size:,} items, 64 negatives, batches of 128, {_DIM_OF_ROWS} numbers each",
            lambda r, place=place: _BATCH / r["speed"]["rows"][place]["cpu_seconds_of_a_step"]["rows"],  # type: ignore[misc]  # its own row
            lambda r: r["speed"],
        )
    add(
        "cf.memory",
        "memory.json",
        "bytes a user",
        "SASRec's training, ten interactions a user, data and windows, from what a million users take more than a hundred thousand",
        lambda r: 1e9 * (_peak(r, "users", 10**6) - _peak(r, "users", 10**5)) / (10**6 - 10**5),
        whole,
    )
    add(
        "align.memory",
        growth,
        "bytes an item",
        "stage 1 and all joint vectors, from what a million items take more than a hundred thousand",
        lambda r: 1e6 * _slope(r["rows"]["align-items"], "mb"),
        grown("align-items"),
    )
    add(
        "tower.memory",
        growth,
        "bytes an item",
        "the text tower's training, texts of 64 numbers, from what a million items take more than a hundred thousand",
        lambda r: 1e6 * _slope(r["rows"]["tower-items"], "mb"),
        grown("tower-items"),
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
    for size in sorted(row["items"] for row in read_json(RESULTS / "retrieval.json")["rows"]):
        at = f"@{size}"
        row = partial(_of_size, size)
        add(
            f"index.items{at}",
            "retrieval.json",
            "items × 128 numbers a CPU second",
            f"the index of {size:,} items, 128 numbers each",
            lambda r, row=row: row(r)["items"] / row(r)["index_build_cpu_seconds"],  # type: ignore[misc]  # its own row
            row,
        )
        add(
            f"search.exact{at}",
            "retrieval.json",
            "users × million items × 128 numbers a CPU second",
            f"exact search among {size:,} items, 128 numbers each",
            lambda r, row=row: row(r)["users"] * row(r)["items"] / 1e6 / row(r)["exact_cpu_seconds"],  # type: ignore[misc]  # its own row
            row,
        )
        add(
            f"search.index{at}",
            "retrieval.json",
            "users × million items × 128 numbers a CPU second",
            f"the fewest cells that were measured with a recall of {_RECALL:.0%} or more, {size:,} items",
            lambda r, row=row: row(r)["users"] * row(r)["items"] / 1e6 / _cells(row(r))["cpu_seconds"],  # type: ignore[misc]  # its own row
            row,
        )
    for kind in ("ivf-sq8", "ivf-sq4"):
        add(
            f"index.memory:{kind}",
            "index-kinds.json",
            "bytes an item",
            f"the index of the kind {kind}, 128 numbers an item",
            lambda r, kind=kind: next(k["bytes_an_item"] for k in first(r)["kinds"] if k["kind"] == kind),  # type: ignore[misc]  # its own kind
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
        f"items:{_OPT}",
        opt,
        "items a second",
        f"texts of {_TOKENS} tokens at the rate at which prompts are read, 32 users at once, random weights",
        lambda r: _tokens(r, "score, 32 users at once") / _TOKENS,
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


def _tokens(result: Result, what: str) -> float:
    """Tokens a second of a row in the paper's form."""
    row = next(row for row in result["rows"] if (row["form"], row["what"]) == ("paper", what))
    return float(row["tokens_each"] * row["per_second"])


def _slope(row: Result, figure: str) -> float:
    """What the largest size takes more than the one before, for each of what there is more."""
    return float((row[figure][-1] - row[figure][-2]) / (row["sizes"][-1] - row["sizes"][-2]))


def _peak(result: Result, grows: str, size: int) -> float:
    return float(
        next(
            row["peak_gb"]
            for row in result["results"]
            if row["what"].startswith("SASRec") and row["what"].endswith(grows) and row["size"] == size
        )
    )


def _of_size(size: int, result: Result) -> Result:
    return next(row for row in result["rows"] if row["items"] == size)


def _cells(row: Result) -> Result:
    return next(cells for cells in row["by_cells_searched"] if cells["recall"] >= _RECALL)


def main() -> None:
    atomic_write(TARGET, written())
    print(f"Written: {TARGET}")


if __name__ == "__main__":
    main()
