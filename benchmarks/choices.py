"""Choose a recipe's fields on validation items: `python -m benchmarks.choices runs/long --name long --set tune.prompt…`.

Every `--set` is one variant: its own stage 2 on top of the run's stage 1, and of its own stages before where a field
changes those. All are asked about the same users' validation items, and compared with the first variant user by user;
`--set ""` is the run as it is. Test items are never looked at. A variant that the file has already is not run again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Bool
from rich.console import Console
from rich.table import Table

from allmrec.baselines.llm_only import LLMOnly
from allmrec.core.artifacts import read_json, write_json
from allmrec.core.seeding import numpy_generator
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import EvaluationProtocol, draw_protocol, judge
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import metric_values
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.pipeline.config import parse_changes
from allmrec.recommend.language_ranker import Normalisation
from allmrec.systems.judgement import judge_systems
from allmrec.systems.registry import open_systems
from benchmarks.about import measured_on

_RESULTS = Path(__file__).parent / "results"


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
    about = measured_on(" ".join(["python -m benchmarks.choices", *sys.argv[1:]]))
    path = _RESULTS / f"{arguments.name}.json"
    run = Run.open(arguments.run)
    config = run.config.model_dump(mode="json")
    split = leave_one_out(run.dataset)
    protocol = draw_protocol(split, "validation", arguments.users, run.config.evaluation.candidates, run.config.seed)
    cold = scenario_masks(protocol, split)["cold items"]
    kept = read_json(path) if path.is_file() else {}
    same = (kept.get("config"), kept.get("protocol")) == (config, protocol.hash)
    variants: list[dict[str, Any]] = kept["variants"] if same else []
    scores = normalisations(run, arguments.normalisation_users) if arguments.normalisation_users else []
    sizes = {"all users": len(cold), "cold items": int(cold.sum())}
    for changes in arguments.set:
        if changes not in [row["changes"] for row in variants]:
            variants.append(about | variant(run, changes, protocol))
        report = {"normalisation": scores, "config": config, "protocol": protocol.hash, "users": sizes}
        write_json(path, about | report | {"variants": compared(variants, cold, protocol.hash)})
    show(variants)
    print(f"Written: {path}")


def variant(run: Run, changes: str, protocol: EvaluationProtocol) -> dict[str, Any]:
    """Train with changed fields; the curve of stage 2's own validation, and every user's rank."""
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "run"
        shutil.copytree(run.path, twin, ignore=shutil.ignore_patterns("tune*", ".resume", "protocol.json", "systems"))
        changed = Run.create(twin, run.dataset, run.config.changed(parse_changes(changes.split())))
        changed.train(print)
        log = read_json(twin / "tune" / "log.json")
        systems = open_systems(changed, ["backbone", "allmrec-select"])
        alone, ours = judge_systems(changed, systems, protocol).systems
    kept = ("best_value", "best_step", "steps", "seconds", "records")
    ranks = {"ranks": list(ours.ranks), "cf_ranks": list(alone.ranks)}
    return {"changes": changes, "users_per_second": ours.users_per_second} | {k: log[k] for k in kept} | ranks


def compared(variants: list[dict[str, Any]], cold: Bool[np.ndarray, " users"], seed: str) -> list[dict[str, Any]]:
    """Each variant's figures, alone, less its CF model, and less the first variant."""
    values = [_values(row["ranks"]) for row in variants]
    for row, own in zip(variants, values, strict=True):
        others = {"CF model": _values(row["cf_ranks"]), "first": values[0]}
        row["figures"], row["differences"] = {}, {}
        for group, mask in (("all users", np.ones_like(cold)), ("cold items", cold)):
            row["figures"][group] = {
                name: vars(bootstrap_mean(v[mask], numpy_generator(0, seed, name))) for name, v in own.items()
            }
            row["differences"][group] = {
                other: {
                    name: vars(paired_difference(v[mask], theirs[name][mask], numpy_generator(0, seed, name)))
                    for name, v in own.items()
                }
                for other, theirs in others.items()
            }
    return variants


def _values(ranks: list[int | None]) -> dict[str, np.ndarray]:
    found = np.array([np.inf if rank is None else rank for rank in ranks])
    return {name: value for name, value in metric_values(found).items() if name in ("Hit@1", "NDCG@10")}


def normalisations(run: Run, users: int) -> list[dict[str, Any]]:
    """LLM-Only's validation Hit@1 under each normalisation of a title's likelihood."""
    prompt = run.config.tune.prompt
    titles, found = run.dataset.catalogue.titles, []
    protocol = draw_protocol(run.split, "validation", None, run.config.evaluation.candidates, run.config.seed).first(
        users
    )
    for kind in get_args(Normalisation):
        system = LLMOnly(run.lm, titles, prompt.template, prompt.budget, kind, 4)
        report = judge([system], protocol, run.split)
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
            f"{figures['all users']['Hit@1']['value']:.4f}",
            *(
                f"{less[name]['Hit@1']['value']:+.4f} [{less[name]['Hit@1']['low']:+.4f}, {less[name]['Hit@1']['high']:+.4f}]"
                for name in ("first", "CF model")
            ),
            f"{figures['cold items']['Hit@1']['value']:.4f}",
            f"{figures['all users']['NDCG@10']['value']:.4f}",
            f"{row['seconds']:.0f}",
        )
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
