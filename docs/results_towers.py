"""The results page's section on text beside behaviour; used by `generate_results.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROWS = {
    "backbone": "CF model (SASRec)",
    "text-tower": "text tower",
    "towers": "both towers",
    "either": "either right (bound)",
}
MEASURES = ("NDCG@10", "Hit@10", "cold Hit@10", "Hit@1 of 20", "cold Hit@1 of 20")

HEAD = """\
## Text beside behaviour over the whole catalogue

The recipe `cpu` as it ships, nothing tuned for a set: SASRec by a sampled or whole softmax of cosines, a text tower over whitened MiniLM
vectors of titles, and both, weighted on validation ([baselines.md](baselines.md#text-beside-behaviour)). Every test user's item is ranked
among all items that the user has not met, and among 20 candidates. One thread of an x86-64 CPU that other jobs shared, 2026-11-26 and 27:
`python -m benchmarks.towers train DATA --seed SEED`, then `python -m benchmarks.towers table`; commits and settings are in
[towers/](../benchmarks/results/towers). Figures are means over the seeds for each user, intervals over users; differences are paired with the
CF model. Cold are users whose target is among the coldest 35 % of items. "Either right" is Hit@k of the union of the CF model's and the
text tower's hits (EnsRec's Genie bound); its NDCG takes the better rank of the two. By default both towers
raise rare items as far as 2 % of their validation NDCG@10 goes (`systems.towers.for_rare_items`).
"""


def section(found: Mapping[str, Any], rectools: Mapping[str, Any] | None, table: Any, figure: Any) -> list[str]:
    """The section's parts.

    Args:
        found: `towers/table.json`.
        rectools: `rectools.json`, where it was measured.
        table: makes a table of rows of cells.
        figure: makes text of a figure with its interval.
    """
    parts = [HEAD]
    for name, of in found.items():
        seeds = ", ".join(map(str, of["seeds"]))
        minutes = ", ".join(f"{minutes:.0f}" for minutes in of["minutes"])
        by_change: dict[str, list[str]] = {}
        for seed, changes in zip(of["seeds"], of["changes"], strict=True):
            if changes:
                by_change.setdefault(" ".join(changes), []).append(str(seed))
        changed = [f"`{changes}` in {' and '.join(of_these)}" for changes, of_these in by_change.items()]
        parts.append(
            f"{name}: {of['users']:,} users ({of['cold users']:,} cold), {of['items']:,} items; seeds {seeds}; minutes of "
            f"training, both towers, by the clock: {minutes}."
            + (f" Other than the recipe in some seeds: {'; '.join(changed)}." if changed else "")
            + "\n"
        )
        rows: list[Sequence[str]] = [["", *MEASURES]]
        for key, label in ROWS.items():
            rows.append([label, *(figure(of["rows"][key]["figures"][measure]) for measure in MEASURES)])
            if key == "towers":
                less = of["rows"][key]["less"]
                rows.append(["less the CF model", *(figure(less[measure], "+") for measure in MEASURES)])
        parts.append(table(rows))
        parts += _by_share(name, seeds, of["by_share_given_up"], table)
    if rectools:
        parts.append(
            "**Beside RecTools.** Its SASRec by its own best loss, the softmax over the catalogue, and this project's CF model by the recipe "
            "`cpu`, in one run: the same dims, blocks, heads and positions, the same training items, stopped on validation "
            "(`python -m benchmarks.rectools_speed`).\n"
        )
        rows = [["set", "", "NDCG@10", "Hit@10", "CPU s", "epochs"]]
        for name, of in rectools.items():
            for key, label in (("rectools", "RecTools"), ("allmrec", "allmrec")):
                one = of[key]
                rows.append(
                    [
                        name,
                        label,
                        f"{one['ndcg@10']:.4f}",
                        f"{one['hit@10']:.4f}",
                        f"{one['cpu_seconds']:,.0f}",
                        str(one["epochs"]),
                    ]
                )
        parts.append(table(rows))
        parts.append(
            "RecTools' is "
            + "; ".join(
                f"{of['rectools']['ndcg@10'] - of['allmrec']['ndcg@10']:+.4f} of NDCG@10 on {name}, at "
                f"{of['rectools']['cpu_seconds'] / of['allmrec']['cpu_seconds']:.1f} times the processor time"
                for name, of in rectools.items()
            )
            + ". One seed; users' ranks of RecTools were not kept, so the difference has no interval.\n"
        )
    return parts


def _by_share(name: str, seeds: str, found: Sequence[Mapping[str, Any]], table: Any) -> list[str]:
    """What cold items gain, and what that costs, by the share of validation NDCG@10 given up."""
    rows: list[Sequence[str]] = [
        ["given up on validation", "λ", "β", "NDCG@10", "Hit@10", "cold Hit@10", "times SASRec's"]
    ]
    for one in found:
        times = ", ".join(f"{value:.2f}" for value in one["times_cf"])
        rows.append(
            [
                f"{100 * one['share']:.0f} %",
                *(", ".join(f"{value:g}" for value in one[name]) for name in ("rarity", "emphasis")),
                *(f"{one[measure]:.4f}" for measure in ("NDCG@10", "Hit@10", "cold Hit@10")),
                times,
            ]
        )
    head = (
        f"Both towers on {name} by what is given up for rare items (`systems.towers.for_rare_items`), test users, means over seeds {seeds}; "
        "λ of rarity, β of emphasis, and cold Hit@10 over the CF model's are each seed's.\n"
    )
    return [head, table(rows)]


ON_TOP = """\
### {title}

{name}, over all {items:,} items, and the same users asked again with every history shuffled (the test
of order of LLM-SRec's paper): the column before the last is shuffled less in order, paired, the last one that less the CF model's (below 0: more is lost). A-LLMRec orders the 20 items that
are retrieved for it. {device}, {date}, commit {commit}: `{command}`.
"""


def on_top(found: Mapping[str, Any], title: str, name: str, table: Any, figure: Any) -> list[str]:
    """Systems over the whole catalogue, with the cost of shuffled histories.

    Args:
        found: `catalogue-NAME.json`.
        title: of the section.
        name: of the data.
        table, figure: as above.
    """
    about = {
        "name": name,
        "title": title,
        "items": found["items"],
        "device": found["device"],
        "date": found["date"][:10],
    }
    parts = [ON_TOP.format(**about, commit=found["commit"][:7], command=found["command"])]
    rows: list[Sequence[str]] = [
        ["system", "users", "NDCG@10", "Hit@10", "NDCG@10 less SASRec", "shuffled less in order", "less SASRec's"]
    ]
    for of in found["rows"]:
        less, shuffled = of["less"].get("NDCG@10"), of["shuffled_less"].get("NDCG@10")
        rows.append(
            [
                of["system"],
                f"{of['users']:,}",
                figure(of["metrics"]["NDCG@10"]),
                figure(of["metrics"]["Hit@10"]),
                figure(less, "+") if less else "",
                figure(shuffled, "+") if shuffled else "",
                figure(more, "+") if (more := of.get("shuffled_less_than_reference")) else "",
            ]
        )
    parts.append(table(rows))
    parts.extend(
        f"{pair['title']}: NDCG@10 of {pair['of']} less {pair['less']} {figure(pair['differences']['NDCG@10'], '+')}, "
        f"{pair['users']:,} users.\n"
        for pair in found["pairs"]
    )
    return parts


WHY_NOT = """\
So {system} {orders}: the {items} items that the retriever gives hold the target for {share} of these {users:,} users, and in random order they would have an NDCG@10
of {random}; {system}'s is {less} more. Stage 2 has learned to tell a target from random items, which differ from it in all that the CF
model knows; among the nearest {items} they do not, and the copying of a frozen language model of this size does not compare that finely (above:
it chooses another item for a fifth of users even where SASRec is sure). Over a catalogue `--system towers` answers better.
"""


def why_not(found: Mapping[str, Any], figure: Any) -> str:
    """What the retrieved items are worth in random order, beside what A-LLMRec makes of them; where it is below its retriever.

    Args:
        found: a row of `random_order` in `catalogue-NAME.json`.
        figure: as above.
    """
    less = found["ndcg@10_less_random"]
    orders = "orders them no better than chance" if less[1] <= 0 else "orders them little better than chance"
    return WHY_NOT.format(
        system=found["system"], orders=orders, items=found["items"], share=figure(found["share_with_target"]),
        users=found["users"], random=figure(found["ndcg@10_in_random_order"]), less=figure(less, "+"),
    )  # fmt: skip
