"""Choose a recipe's fields on validation items: `python -m benchmarks.choices runs/long --name long --set tune.prompt…`.

Every `--set` is one variant: its own stage 2 on top of the run's stage 1, and of its own stages before where a field
changes those. All are asked about the same users' validation items, and compared with the first variant user by user;
`--set ""` is the run as it is. Test items are never looked at. A variant that the file has already is not run again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.baselines.llm_only import LLMOnly
from allmrec.core.artifacts import read_json
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import EvaluationProtocol, draw_protocol, evaluate_rankers
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.recipes.files import parse_changes
from allmrec.recommend.language_ranker import Normalisation
from allmrec.systems.evaluating import evaluate_systems
from allmrec.systems.registry import open_systems
from benchmarks.about import measured_by
from benchmarks.figures import Groups, by_group, less_by_group, shown, user_values
from benchmarks.rank_files import Asked, Kept, as_ranks, placed, read_ranks, write_ranks
from benchmarks.tables import RESULTS, curve, read_table, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with stage 1")
    parser.add_argument("--name", required=True, help="name of the file under benchmarks/results")
    parser.add_argument("--set", action="append", default=[], help="fields of one variant, separated by blanks")
    parser.add_argument("--users", type=int, default=1000, help="validation users that every variant is asked about")
    parser.add_argument("--normalisation-users", type=int, default=0, help="validation users for LLM-Only's scores")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = measured_by("choices")
    path = RESULTS / f"{arguments.name}.json"
    run = Run.open(arguments.run)
    config = run.config.model_dump(mode="json")
    split = leave_one_out(run.dataset)
    protocol = draw_protocol(split, "validation", arguments.users, run.config.evaluation.candidates, run.config.seed)
    cold = scenario_masks(protocol, split)["cold items"]
    asked = Asked.of(protocol)
    before = read_table(path)
    same = (before.get("config"), before.get("protocol")) == (config, asked.named())
    variants: list[dict[str, Any]] = before["variants"] if same else []
    ranks = read_ranks(path.with_suffix(".npz"), asked) if same else {}
    scores = normalisations(run, arguments.normalisation_users) if arguments.normalisation_users else []
    groups = {"all users": np.ones_like(cold), "cold items": cold}
    sizes = {name: int(mask.sum()) for name, mask in groups.items()}
    for changes in arguments.set:
        if changes not in [row["changes"] for row in variants]:
            row, found = variant(run, changes, protocol)
            variants.append(about | row)
            ranks |= found
        report = {"normalisation": scores, "config": config, "protocol": asked.named(), "users": sizes}
        write_ranks(path.with_suffix(".npz"), asked, ranks)
        write_result(path, about | report | {"variants": compared(variants, ranks, groups, protocol.hash)})
    show(variants)
    print(f"Written: {path}")


def variant(run: Run, changes: str, protocol: EvaluationProtocol) -> tuple[dict[str, Any], dict[str, Kept]]:
    """Train with changed fields; the curve of stage 2's own validation, and every user's ranks."""
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "run"
        shutil.copytree(run.path, twin, ignore=shutil.ignore_patterns("tune*", ".resume", "protocol.json", "systems"))
        changed = Run.create(twin, run.dataset, run.config.changed(parse_changes(changes.split())))
        changed.train(print)
        log = read_json(twin / "tune" / "log.json")
        systems = open_systems(changed, ["backbone", "allmrec-select"])
        alone, ours = evaluate_systems(changed, systems, protocol).systems
    logged = {name: log[name] for name in ("best_value", "best_step", "steps", "seconds")}
    logged["records"] = curve(log["records"])
    ranks = {
        name: placed(protocol, found.users, found.ranks)
        for name, found in ((changes, ours), (cf_model(changes), alone))
    }
    return {"changes": changes, "users_per_second": ours.users_per_second} | logged, ranks


def cf_model(changes: str) -> str:
    """Under which name the ranks of a variant's CF model stand."""
    return f"CF model, {changes}"


def compared(
    variants: list[dict[str, Any]], ranks: Mapping[str, Kept], groups: Groups, seed: str
) -> list[dict[str, Any]]:
    """Each variant's figures, alone, less its CF model, and less the first variant."""
    values = {name: user_values([as_ranks(row)]) for name, row in ranks.items()}
    first = values[variants[0]["changes"]]
    for row in variants:
        own = values[row["changes"]]
        row["figures"] = by_group(own, groups, seed)
        less = {
            "CF model": less_by_group(own, values[cf_model(row["changes"])], groups, seed),
            "first": less_by_group(own, first, groups, seed),
        }
        row["differences"] = {group: {other: found[group] for other, found in less.items()} for group in groups}
    return variants


def normalisations(run: Run, users: int) -> list[dict[str, Any]]:
    """LLM-Only's validation Hit@1 under each normalisation of a title's likelihood."""
    prompt = run.config.tune.prompt
    titles, found = run.dataset.catalogue.titles, []
    protocol = draw_protocol(run.split, "validation", None, run.config.evaluation.candidates, run.config.seed).first(
        users
    )
    for kind in get_args(Normalisation):
        system = LLMOnly(run.lm, titles, prompt.template, prompt.budget, kind, 4)
        report = evaluate_rankers([system], protocol, run.split)
        figures = report.systems[0].metrics
        found.append({"normalisation": kind, "users": users, "metrics": {n: m.value for n, m in figures.items()}})
        print(found[-1])
    return found


def show(variants: list[dict[str, Any]]) -> None:
    """A table in the order given."""
    table = Table("variant", "Hit@1", "less the first", "less its CF model", "cold Hit@1", "NDCG@10", "seconds")
    for row in variants:
        figures, less = row["figures"], row["differences"]["all users"]
        table.add_row(
            row["changes"] or "as it is",
            f"{figures['all users']['Hit@1'][0]:.4f}",
            *(shown(less[name]["Hit@1"], "+") for name in ("first", "CF model")),
            f"{figures['cold items']['Hit@1'][0]:.4f}",
            f"{figures['all users']['NDCG@10'][0]:.4f}",
            f"{row['seconds']:.0f}",
        )
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
