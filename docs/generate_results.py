"""Writes docs/results.md from the files under benchmarks/results; computes no figure.

    python docs/generate_results.py

`tests/docs/test_results.py` fails when the page is not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("results.md")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
BACKBONES = {"sasrec": "", "gru4rec": "-gru4rec", "nextitnet": "-nextitnet", "ncf": "-ncf"}

_HEAD = """\
# Measured on real sets

Written by `python docs/generate_results.py` from [benchmarks/results](../benchmarks/results), where every file has the device,
date, commit and command of each of its figures. Do not edit it by hand. Brackets are 95 % bootstrap intervals over users
([measuring.md](measuring.md)). All of it ran on x86-64 CPUs with one thread, many jobs beside one another: times are CPU seconds
where they say so, and otherwise say little.

The sets: Amazon's Video Games (2018) and Beauty (2014), 5-core, at most 50 interactions a user, as tables of user, item, position and
title (`allmrec prepare table`), and MovieTweetings' 100K snapshot, 5-core counted until nothing changes
(`allmrec prepare movietweetings DIRECTORY --core 5 --core-passes all`).
"""

_BACKBONES = """\
## CF models

`python -m benchmarks.backbones run` and `collect`. Leave one out; all test users answer the same 20 candidates, the first 10,000 (or
all, where there are fewer) are also asked about the whole catalogue. Figures are means over the seeds' means; intervals are
over users. Settings were chosen on validation items only, by throw-away runs of SASRec on MovieTweetings (a dropout of 0.5 over 0.2)
and on Beauty (a softmax over 64 sampled items over binary cross-entropy: nearly the same figure in a third of the time); the other
models have their defaults. Popularity, ItemKNN and EASE draw nothing, so one seed is all there is.
"""

_LITERATURE = """\
**In the range of others.** On Amazon's Beauty of 2014 with the whole catalogue, SASRec's NDCG@10 is given as 0.028 (Hit@10 0.063) by
the authors of [DuoRec](https://github.com/RuihongQiu/DuoRec), as 0.042 (0.083) for RecBole's cross-entropy in [its issue
1290](https://github.com/RUCAIBox/RecBole/issues/1290), and as 0.038 (0.069) by [genrec](https://phonism.github.io/genrec/en/models/sasrec);
the row above lies among them. On Video Games the A-LLMRec paper has SASRec's Hit@1 among 20 candidates at 0.540, on another cut of the
2018 set (64,073 users and 33,614 items; here 50,546 and 16,859). For MovieTweetings we know of no figures.
"""

_EACH = """\
## A-LLMRec on each CF model

The paper's Table 11, on MovieTweetings (5-core): `python -m benchmarks.systems run data/movietweetings --recipe
benchmarks/movietweetings.toml --set pretrain.backbone=NAME`. Stage 2 is tuned on 256 users (640 samples), by `select`, which reads two of
SmolLM2-135M's 30 layers. One seed; {users} users drawn at random, and Hit@1 on {cold} users with a cold target (the coldest 35 % of items).
"""

_SYSTEMS = """\
## Systems and ablations

MovieTweetings (5-core), the same users, one seed: `python -m benchmarks.systems run data/movietweetings --recipe
benchmarks/movietweetings.toml --name movietweetings` and `collect`. What reads the language model is tuned on 256 users. "(select)" rows
answer by the pointer head; rows that score titles say so in their note. All users are {users} drawn at random; cold are {cold} users
with a target among the coldest 35 % of items, warm those of the {users} with a target among the warmest.

Read with care: one seed, and stage 1 had two passes over 3,000 samples, 188 steps, which is too few for its terms to tell apart: the
rows that leave one of them out are nearly the same; and in 80 steps the fused prior's weights hardly left 0. MoRec's encoder is frozen here. Not measured: TALLRec,
LLM-Only, the paper's own title loss, RECFORMER, all items, `slots-gate` and `without-prior`.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    if cells := _read("backbones"):
        parts += [_BACKBONES, _table(_backbone_rows(cells["cells"])), _LITERATURE]
    each = {name: found for name, end in BACKBONES.items() if (found := _read(f"movietweetings{end}"))}
    if each:
        sizes = next(iter(each.values()))["users"]
        head = {"users": sizes["all users"], "cold": sizes["cold items"]}
        parts += [_EACH.format(**head), _table(_each_rows(each)), _SYSTEMS.format(**head)]
        parts += [_table(_system_rows(each["sasrec"]["rows"])), _notes(each["sasrec"]["rows"])]
        parts += ["### What each cost\n", _table(_cost_rows(each["sasrec"]["rows"]))]
    return "\n".join(parts)


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _backbone_rows(cells: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [
        ["set", "system", "seeds", "Hit@1 of 20", "NDCG@10 of 20", "NDCG@10, whole", "Hit@10, whole", "CPU s a seed"]
    ]
    for cell in cells:
        few, whole = cell["figures"]["20 candidates"], cell["figures"]["whole catalogue"]
        spent = sum(seed["cpu_seconds"] for seed in cell["by_seed"]) / len(cell["by_seed"])
        figures = [few["Hit@1"], few["NDCG@10"], whole["NDCG@10"], whole["Hit@10"]]
        rows.append([cell["data"], cell["system"], str(cell["seeds"]), *map(_figure, figures), f"{spent:.0f}"])
    return rows


def _each_rows(each: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = [
        ["CF model", "alone", "A-LLMRec (select) on it", "difference", "cold, alone", "cold, A-LLMRec", "difference"]
    ]
    for found in each.values():
        by_key = {row["key"]: row for row in found["rows"]}
        if not {"backbone", "allmrec-select"} <= by_key.keys():
            continue
        alone, ours = by_key["backbone"], by_key["allmrec-select"]
        cells = [alone["system"]]
        for group in ("all users", "cold items"):
            cells += [_figure(row["figures"][group]["Hit@1"]) for row in (alone, ours)]
            cells.append(_figure(ours["differences"]["backbone"][group]["Hit@1"], "+"))
        rows.append(cells)
    return rows


def _system_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["system", "Hit@1", "NDCG@10", "Hit@1 less late fusion", "Hit@1 less SASRec", "cold Hit@1", "warm Hit@1"]]
    for row in found:
        groups = row["figures"]
        less = [
            row["differences"].get(name, {}).get("all users", {}).get("Hit@1") for name in ("late-fusion", "backbone")
        ]
        shown = [_figure(value, "+") if value else "" for value in less]
        figures = [groups["all users"]["Hit@1"], groups["all users"]["NDCG@10"]]
        ends = [_figure(groups[name]["Hit@1"]) for name in ("cold items", "warm items")]
        rows.append([row["system"], *map(_figure, figures), *shown, *ends])
    return rows


def _cost_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["system", "trained parameters", "training, s", "users/s", "peak memory, GB"]]
    for row in found:
        costs = row["costs"]
        parameters = f"{costs['trained_parameters']:,.0f}" if "trained_parameters" in costs else ""
        seconds = f"{costs['train_seconds']:,.0f}" if "train_seconds" in costs else ""
        memory = f"{costs['peak_memory'] / 2**30:.1f}" if "peak_memory" in costs else ""
        rows.append([row["system"], parameters, seconds, f"{row['users_per_second']:,.3g}", memory])
    return rows


def _notes(found: Sequence[Mapping[str, Any]]) -> str:
    notes = [f"- {row['system']}: {row['note']}" for row in found if row["note"]]
    return "\n".join([*notes, ""]) if notes else ""


def _figure(found: Mapping[str, float], sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def _table(rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ruler, *rows[1:])) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
