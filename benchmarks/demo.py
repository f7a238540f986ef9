"""Keeps what `make demo` measured: `python -m benchmarks.demo RUN --note "…"` writes results/demo.json and demo.npz.

Figures, settings and learning curves are readable, users' ranks lie in the compressed file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from allmrec.core.artifacts import read_json, versions
from benchmarks.rank_files import Asked, placed, write_ranks
from benchmarks.tables import curve, write_result

RESULTS = Path(__file__).parent / "results"
# What stands elsewhere in the file, or says how it was written.
_LATER = ("kind", "format", "hash", "git_commit")


def main() -> None:
    from allmrec.evaluation import EvaluationProtocol
    from allmrec.library import Run

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the demo's run, runs/demo of a clone")
    parser.add_argument("--note", required=True, help="what the machine did beside it, and how long it took")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    report = read_json(arguments.run / "report.json")
    protocol = EvaluationProtocol.load(arguments.run / "protocol.json", run.dataset.content_hash)
    protocol = protocol.first(report["systems"][0]["n_users"])
    asked = Asked.of(protocol)
    ranks = {system["name"]: placed(protocol, system.pop("users"), system.pop("ranks")) for system in report["systems"]}
    logs, stages = {}, {}
    for name in run.stages:
        folder = arguments.run / name
        log = read_json(folder / "log.json")
        logs[name] = log | {"records": curve(log.get("records", []))}
        stages[name] = read_json(folder / "manifest.json")["created"]
    about = {
        "device": report["device"],
        "date": report["date"],
        "commit": report["git_commit"],
        "command": "make demo",
        "versions": versions(),
    }
    kept = {name: value for name, value in report.items() if name not in _LATER}
    write_ranks(RESULTS / "demo.npz", asked, ranks)
    write_result(
        RESULTS / "demo.json",
        about | {"note": arguments.note, "config": run.config.model_dump(mode="json"), "stages": stages, "logs": logs,
                 "protocol": asked.named(), "report": kept},
    )  # fmt: skip
    table = Table("system", "users", "Hit@1", "NDCG@10")
    for system in report["systems"]:
        figures = system["metrics"]
        table.add_row(
            system["name"], str(system["n_users"]), *(f"{figures[name]['value']:.3f}" for name in ("Hit@1", "NDCG@10"))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
