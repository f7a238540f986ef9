"""Choose a recipe's fields on validation items: `python -m benchmarks.choices runs/long --name long --set tune.prompt…`.

Every `--set` is one variant: its own stage 2 on top of the run's stage 1, judged on the validation items that stage 2
watches. Test items are never looked at.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from allmrec.baselines.llm_only import LLMOnly
from allmrec.core.artifacts import read_json, write_json
from allmrec.evaluation import draw_protocol, judge
from allmrec.pipeline.config import parse_changes
from allmrec.pipeline.run import Run
from allmrec.recommend.allmrec import Normalisation
from benchmarks.about import measured_on

_RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with stage 1")
    parser.add_argument("--name", required=True, help="name of the file under benchmarks/results")
    parser.add_argument("--set", action="append", default=[], help="fields of one variant, separated by blanks")
    parser.add_argument("--normalisation-users", type=int, default=0, help="validation users for LLM-Only's scores")
    arguments = parser.parse_args()
    about = measured_on(" ".join(["python -m benchmarks.choices", *sys.argv[1:]]))
    path = _RESULTS / f"{arguments.name}.json"
    run = Run.open(arguments.run)
    scores = normalisations(run, arguments.normalisation_users) if arguments.normalisation_users else []
    variants: list[dict[str, Any]] = []
    for changes in arguments.set:
        variants.append(variant(run, changes))
        write_json(
            path, about | {"normalisation": scores, "config": run.config.model_dump(mode="json"), "variants": variants}
        )
    show(variants)
    print(f"Written: {path}")


def variant(run: Run, changes: str) -> dict[str, Any]:
    """Train stage 2 with changed fields; the curve of its validation figures."""
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "run"
        shutil.copytree(run.path, twin, ignore=shutil.ignore_patterns("tune*", ".resume", "protocol.json"))
        changed = Run.create(twin, run.dataset, run.config.changed(parse_changes(changes.split())))
        changed.train(print)
        log = read_json(twin / "tune" / "log.json")
    return {"changes": changes, "best": log["best_value"], "seconds": log["seconds"], "records": log["records"]}


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
    """A table, best first."""
    table = Table("variant", "best ndcg", "hit@1 there", "seconds")
    for row in sorted(variants, key=lambda row: -row["best"]):
        best = max(row["records"], key=lambda record: record["validation/ndcg"])
        table.add_row(row["changes"], f"{row['best']:.4f}", f"{best['validation/hit@1']:.4f}", f"{row['seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
