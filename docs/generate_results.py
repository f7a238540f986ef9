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
BACKBONES = {"sasrec": "-sasrec", "gru4rec": "-gru4rec", "nextitnet": "-nextitnet", "ncf": "-ncf"}

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

_BY_TITLES = """\
## The paper's objective learns: A-LLMRec by titles

Stage 2 trained by the title loss alone in the prompt form `copy` ([prompt_forms.md](prompt_forms.md)): no pointer head, no prior, all 30
layers of SmolLM2-135M, every candidate's title scored. `python -m benchmarks.titles cell DATA --name NAME …` with
[benchmarks/titles.toml](../benchmarks/titles.toml); each cell's file under [titles/](../benchmarks/results/titles) has its command,
commit, device, date and learning curve. Each cell's `changes` say what differs from the recipe.
"Less SASRec" is paired with the CF model that saw everything. Cold are users whose target is among the coldest 35 % of items;
rows that were asked about these alone have no other figure. "Vectors exchanged" is the trained system with users' and items'
vectors exchanged among one another and the words as they are; chance is 0.05. A decoded answer counts where it is a candidate's title exactly, as the
prompt shows it.
"""

_FORMS = """\
### What the form and the start are worth

`--name forms`: one field changed at a time in the same setting, stage 2 trained on 2,000 samples with no stage 1 (the CF model's vectors in
the slots, the paper's MLP-LLM), and the validation items of 300 users ranked among 20 candidates.
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
benchmarks/movietweetings.toml --set pretrain.backbone=NAME`, with the recipe of commit 1b887c4 (each folder's `setting` has it): targets
withheld from everybody, and the CF model's ranking as the head's start. Stage 2 is tuned on 256 users (640 samples), by `select`, which reads two of
SmolLM2-135M's 30 layers. One seed; {users} users drawn at random, and Hit@1 on {cold} users with a cold target (the coldest 35 % of items).
"""

_SYSTEMS = """\
## Systems and ablations

MovieTweetings (5-core), one seed: `python -m benchmarks.systems run data/movietweetings --recipe benchmarks/movietweetings.toml
--name movietweetings` and `collect`. What reads SmolLM2-135M is tuned on 256 users and five items of each that the CF model inside
never saw, each once. "(select)" rows answer by the pointer head behind two of its 30 layers, and begin as late fusion
would. {users} users drawn at random; cold are {cold} users with a target among the coldest 35 % of items, warm those of the {users}
with a target among the warmest. "RECFORMER (small)" is a small Longformer that was pre-trained on this catalogue's own text: the
paper's weights cannot be had here. The language model is held in bfloat16, which this processor has instructions for.

How to read it: with 256 users to tune on, A-LLMRec (select) is not above late fusion: its Hit@1 differs by {less_fusion} and its NDCG@10
by {less_fusion_ndcg}. The next tables tune on every user. One seed and {users} users make differences of Hit@1 uncertain by 0.03, so
`select`, its ablations and SASRec are not told apart here; the tables of everybody have a fourteenth of that variance (CTRL, ahead here,
is SASRec's equal there). The prior of the `select` rows compares stage 1's text vectors (`likeness = "joint"`), which random joint vectors
and MLP-LLM do not have.
[baselines.md](baselines.md) says which systems stay below popularity, and why.
"""

_TITLES = """\
## The paper's own objective

The same run, users and samples with the title loss in place of the pointer head: `--set tune.title_weight=1.0 --set
tune.select_weight=0.0` and a rate of 5e-4 at batches of 4 (the file has the command). All 30 layers are read, every candidate's
title is scored, and no prior helps; `generate` rows decode one answer, of which only Hit@1 counts. The paper has OPT-6.7B, fifty times
this size, and every user.

At this size and with this many samples it has not left chance, which is 0.05. Most answers are some candidate's title word for word
(the note has the share), so copying has been learned and choosing has not; TALLRec, whose adapters change what the layers do
and not only what they read, has begun to. The ablations of this objective would compare chance with chance and were not run.
"""

_EVERYBODY = """\
## Where every user is tuned on

What A-LLMRec (select) can do here when stage 2 is not sampled: five held-out items of each of 4,333 users, one pass, slots that carry
e and q, dropout 0.4 and a rate of 1e-4 (chosen on validation items with no layer of the language model; the file has the command), and
everybody is asked: `--name movietweetings-everybody --users 5000 --cold 5000`. Late fusion is fitted on everybody's validation items.

How to read it: A-LLMRec (select) differs from SASRec by an interval without 0, and from late fusion by {less_fusion} of Hit@1. The same
head without a layer of the language model has as much, at a twentieth of the time a user: SmolLM2's first two layers add nothing here.
The next table asks where the gain is from. (Late fusion compares centred vectors of titles; with plain ones it had 0.511, at commit
0f5bb36, and the rows of `select` were measured with stage 1's.)
"""

_PARTS = """\
### Where the gain is from

The same, with no layer of the language model in any row (`--set tune.prompt.pointer.layers=0`, `--name movietweetings-parts`), so the
seven ablations can be asked of everybody. The first row is the table's "no LLM". Differences are to it.

How to read it: the item slots are what the gain is from. Without them, and for the prior alone, Hit@1 is SASRec's. With random vectors
in them it is as high as with stage 1's, so among warm items it is enough to know which item is which, which the head learns from every
user's samples; on cold targets random vectors lose it again. The user's vector, stage 1 as such (MLP-LLM) and each of its terms stay
within the intervals. An encoder that is not tuned at all is ahead of one with its last layer tuned, and of late fusion by an interval without
0; the validation items (last tables of this page) say so too. Starting as late fusion would counts for more than any of these.
"""

_BEST = """\
### The best of it

With nothing of the encoder tuned in stage 1, as the validation items say, and with titles compared by the untouched encoder
(`--name movietweetings-best`). No layer of the language model is run: what a layer adds to this was not measured, as tuning one on
everybody takes an hour.

"""

_MOREC = """\
### MoRec with its encoder tuned

`--name movietweetings-morec`: the last of six layers, the dense layer and SASRec at one rate of 3e-4, at most 25 epochs of batches of 64.
Everybody is asked. The paper tunes all of it with the encoder's rate apart; this much took two hours on one core, and lifts it from
below popularity to nearly SASRec's figure.
"""

_BEAUTY = """\
## Where titles say what a thing is: Beauty

Amazon's Beauty (2014, 5-core): `python -m benchmarks.systems run data/beauty --recipe benchmarks/beauty.toml --name beauty --users 2000
--cold 500`. Stage 2 is tuned on 1,024 users and two held-out items of each, once. {users} users drawn at random; cold are {cold} users with a target
among the coldest 35 % of items.

How to read it: late fusion is far ahead of what it is made of, and A-LLMRec (select), which starts as it would, stays its equal: its Hit@1
differs by {less_fusion}, with two layers of the language model and without any. On cold targets BM25 alone is ahead of all of them.
"""

_BEAUTY_EVERYBODY = """\
Every user tuned on, one held-out item of each, once, and no layer of the language model (`--name beauty-everybody`); {users} users drawn at
random, {cold} with a cold target. Tuned on everybody the head is above late fusion: Hit@1 differs by {less_fusion}, NDCG@10 by
{less_fusion_ndcg}.
"""

_CHOICES = """\
## Options of `select`, on validation items

`python -m benchmarks.choices`: each row is one field changed in the setting of the table of systems, its stage 2 (and what comes before,
where that changes) trained anew, and asked about the same {users} users' validation items, of which {cold} are cold. Test items were not
looked at. Differences are paired; the first row is what the others are compared with.

How to read it: the start tells most. Beginning as the CF model's ranking in place of late fusion's costs NDCG@10, by an interval without
0. Layers of the language model, what the slots carry, history and from how many users targets are withheld stay within their intervals.
Two withheld items in place of five have an interval of Hit@1 above 0, and not one of NDCG@10: of so many intervals one is expected to leave
0 out by chance, so the setting was left as it was.
"""

_PARTS_CHOICES = """\
The same where every user is tuned on, with no layer of the language model in any row: all {users} users' validation items, {cold} cold.

How to read it: an encoder that is not tuned is ahead, by an interval of Hit@1 without 0, and was taken for "the best of it" together with
titles by the untouched encoder, which changes little here.

"""

_BEAUTY_CHOICES = """\
The same on Beauty, of {users} users' validation items {cold} cold, with no layer of the language model in any row and a rate of 2e-4 and
dropout of 0.1 in the first. A rate of 1e-12 leaves the head as it starts: the prior alone.

How to read it: whose texts the prior compares tells most. By the untouched encoder, centred, it is far ahead of stage 1's text vectors
(`likeness=joint`) and further of the CF model's ranking (`prior=cf`); what is learned beside the prior stays within the intervals.
"""

# Every system that a table of systems can have, by the name of its cell.
_CELLS = {
    "llm-only": "LLM-Only", "tallrec": "TALLRec", "mlp-llm": "MLP-LLM", "morec": "MoRec", "ctrl": "CTRL", "recformer": "RECFORMER",
    "allmrec-select": "A-LLMRec (select)", "allmrec-select-sbert": "its text vectors", "all-items": "all items", "bm25": "BM25",
    "item-knn": "ItemKNN", "ease": "EASE", "text-similarity": "text similarity", "late-fusion": "late fusion", "no-llm": "no LLM",
    "without-matching": "w/o matching", "without-reconstruction": "w/o reconstruction",
    "without-recommendation": "w/o recommendation loss", "frozen-encoder": "encoder frozen", "without-user": "w/o user vector",
    "without-joint": "w/o joint vectors", "random-joint": "random joint vectors", "plain-prior": "plain prior",
    "without-prior": "w/o CF prior", "slots-both": "slots of e and q", "slots-gate": "slots by a gate",
}  # fmt: skip
_TITLE_CELLS = {
    "allmrec": "A-LLMRec", "allmrec-sbert": "A-LLMRec (SBERT)", "allmrec-generate": "decoding", "allmrec-constrained": "constrained decoding",
    **{name: _CELLS[name] for name in ("mlp-llm", "without-joint", "random-joint", "without-user", "without-matching",
                                      "without-reconstruction", "without-recommendation", "frozen-encoder", "all-items")},
}  # fmt: skip


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    if found := _read("titles/movietweetings"):
        parts += [_BY_TITLES, "### MovieTweetings\n", _table(_title_rows(found["rows"])), _title_notes(found["rows"])]
        if forms := _forms():
            parts += [_FORMS, _table(forms)]
        if beauty := _read("titles/beauty"):
            parts += ["### Beauty\n", _table(_title_rows(beauty["rows"])), _title_notes(beauty["rows"])]
    if cells := _read("backbones"):
        parts += [_BACKBONES, _table(_backbone_rows(cells["cells"])), _LITERATURE]
    each = {name: found for name, end in BACKBONES.items() if (found := _read(f"movietweetings{end}"))}
    if each:
        parts += [_EACH.format(**_sizes(next(iter(each.values())))), _table(_each_rows(each))]
    if found := _read("movietweetings"):
        parts += [_SYSTEMS.format(**_sizes(found), **_less_fusion(found)), *_of_systems(found, _CELLS)]
        parts += ["### What each cost\n", _table(_cost_rows(found["rows"]))]
    if found := _read("movietweetings-title"):
        parts += [_TITLES, *_of_systems(found, _TITLE_CELLS), _table(_cost_rows(found["rows"]))]
    if found := _read("movietweetings-everybody"):
        parts += [
            _EVERYBODY.format(**_less_fusion(found)),
            _table(_system_rows(found["rows"])),
            _notes(found["rows"]),
            _table(_cost_rows(found["rows"])),
        ]
    if found := _read("movietweetings-parts"):
        parts += [_PARTS, _table(_system_rows(found["rows"])), _table(_cost_rows(found["rows"]))]
    if found := _read("movietweetings-best"):
        parts += [_BEST, _table(_system_rows(found["rows"])), _table(_cost_rows(found["rows"]))]
    if found := _read("movietweetings-morec"):
        parts += [_MOREC, _table(_system_rows(found["rows"])), _notes(found["rows"]), _table(_cost_rows(found["rows"]))]
    if found := _read("beauty"):
        parts += [
            _BEAUTY.format(**_sizes(found), **_less_fusion(found)),
            _table(_system_rows(found["rows"])),
            _notes(found["rows"]),
        ]
        parts += [_table(_cost_rows(found["rows"]))]
    if found := _read("beauty-everybody"):
        parts += [_BEAUTY_EVERYBODY.format(**_sizes(found), **_less_fusion(found)), _table(_system_rows(found["rows"]))]
    if found := _read("movietweetings-choices"):
        parts += [_CHOICES.format(**_sizes(found)), _table(_choice_rows(found["variants"]))]
    if found := _read("movietweetings-parts-choices"):
        parts += [_PARTS_CHOICES.format(**_sizes(found)), _table(_choice_rows(found["variants"]))]
    if found := _read("beauty-choices"):
        parts += [_BEAUTY_CHOICES.format(**_sizes(found)), _table(_choice_rows(found["variants"]))]
    return "\n".join(parts)


def _title_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row a system and cell: everybody that was asked, and those with a cold target."""
    shown = [
        [
            "system",
            "cell",
            "users",
            "Hit@1",
            "NDCG@10",
            "Hit@1 less SASRec",
            "cold users",
            "cold Hit@1",
            "cold less SASRec",
            "users/s",
        ]
    ]
    for row in sorted(rows, key=lambda row: (row["cell"], row["key"])):
        cells = []
        for group in ("all", "cold items"):
            found = row["figures"].get(group, {})
            only_cold = group == "all" and row["figures"].get("cold items", {}).get("users") == found.get("users")
            if not found or only_cold:
                cells += ["", "", "", ""]
                continue
            less = found.get("less SASRec")
            own = row["key"] == "backbone"
            cells += [
                f"{found['users']:,}",
                _figure(found["Hit@1"]),
                _figure(found["NDCG@10"]),
                _figure(less["Hit@1"], "+") if less and not own else "",
            ]
        del cells[6]
        shown.append([row["system"], row["cell"], *cells, f"{row['users_per_second']:,.3g}"])
    return shown


def _title_notes(rows: Sequence[Mapping[str, Any]]) -> str:
    notes = dict.fromkeys(f"- {row['system']} ({row['cell']}): {row['note']}" for row in rows if row["note"])
    return "\n".join(notes) + "\n"


def _forms() -> list[list[str]]:
    """The cells of the table of forms, by what they reached on validation items."""
    cells = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / "titles" / "forms").glob("*.json"))
    ]
    if not cells:
        return []
    rows = [["form", "validation Hit@1", "validation NDCG over 20", "stage 2, s"]]
    for cell in sorted(cells, key=lambda cell: -cell["tune"]["best_value"]):
        kept = next(record for record in cell["tune"]["records"] if record["step"] == cell["tune"]["best_step"])
        rows.append(
            [
                cell["cell"],
                f"{kept['validation/hit@1']:.3f}",
                f"{kept['validation/ndcg']:.3f}",
                f"{cell['tune']['seconds']:,.0f}",
            ]
        )
    return rows


def _sizes(found: Mapping[str, Any]) -> dict[str, str]:
    return {"users": f"{found['users']['all users']:,}", "cold": f"{found['users']['cold items']:,}"}


def _less_fusion(found: Mapping[str, Any]) -> dict[str, str]:
    """How far A-LLMRec (select) is from late fusion."""
    (select,) = [row for row in found["rows"] if row["key"] == "allmrec-select"]
    less = select["differences"]["late-fusion"]["all users"]
    return {"less_fusion": _figure(less["Hit@1"], "+"), "less_fusion_ndcg": _figure(less["NDCG@10"], "+")}


def _of_systems(found: Mapping[str, Any], cells: Mapping[str, str]) -> list[str]:
    """The table, the notes, and which cells are not there."""
    keys = {row["key"] for row in found["rows"]}
    missing = [name for key, name in cells.items() if key not in keys]
    said = f"Not measured: {', '.join(missing)}.\n" if missing else "Every cell was measured.\n"
    return [_table(_system_rows(found["rows"])), _notes(found["rows"]), said]


def _choice_rows(variants: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [
        [
            "changed",
            "Hit@1",
            "less the first",
            "less its CF model",
            "NDCG@10 less the first",
            "cold Hit@1",
            "training, s",
        ]
    ]
    for row in variants:
        less = row["differences"]["all users"]
        rows.append(
            [
                f"`{row['changes']}`" if row["changes"] else "as it is",
                _figure(row["figures"]["all users"]["Hit@1"]),
                _figure(less["first"]["Hit@1"], "+"),
                _figure(less["CF model"]["Hit@1"], "+"),
                _figure(less["first"]["NDCG@10"], "+"),
                _figure(row["figures"]["cold items"]["Hit@1"]),
                f"{row['seconds']:,.0f}",
            ]
        )
    return rows


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


_AGAINST = {
    "allmrec-select": "A-LLMRec (select)",
    "late-fusion": "late fusion",
    "backbone": "SASRec",
    "popularity": "popularity",
}


def _system_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    against = [name for name in _AGAINST if any(name in row["differences"] for row in found)]
    less = [f"Hit@1 less {_AGAINST[name]}" for name in against]
    rows = [["system", "Hit@1", "NDCG@10", *less, "cold Hit@1", "warm Hit@1"]]
    for row in found:
        groups = row["figures"]
        differences = [row["differences"].get(name, {}).get("all users", {}).get("Hit@1") for name in against]
        shown = [_figure(value, "+") if value else "" for value in differences]
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
