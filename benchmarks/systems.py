"""Every system and ablation on one frozen set of users: each cell a job of its own that keeps its figures.

    python -m benchmarks.systems run data/movietweetings --recipe benchmarks/movietweetings.toml --name movietweetings
    python -m benchmarks.systems collect --name movietweetings

A cell is `allmrec train RUN --system NAME` and its evaluation, in a process of its own, so that its peak memory is its own.
Settings, provenance and figures stand in NAME.json, ranks in NAME.npz. A cell that is there already is not run again. Asked are 300 users drawn at random (`--users`) and as many more with a cold
target as make 100 of those (`--cold`); "all users" are the 300 alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.core.artifacts import read_json
from allmrec.core.memory import peak_memory
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.recipes.files import load_recipe, parse_changes
from allmrec.systems.evaluating import evaluate_systems
from allmrec.systems.kinds import System
from allmrec.systems.registry import SYSTEMS, open_systems, train_systems
from benchmarks.about import measured_by, measured_on
from benchmarks.figures import by_group, less_by_group, shown, user_values
from benchmarks.rank_files import Asked, as_ranks, placed
from benchmarks.tables import RESULTS, add_cell, cells_of, changing, read_table, table_ranks

CELLS = (
    "backbone,popularity,text-similarity,bm25,item-knn,ease,late-fusion,allmrec-select,allmrec-select-sbert,no-llm,mlp-llm,"
    "without-user,without-joint,random-joint,without-matching,without-reconstruction,without-recommendation,"
    "frozen-encoder,plain-prior,slots-both,slots-gate,without-prior,all-items,ncf,gru4rec,nextitnet,morec,ctrl,recformer,llm-only"
)


def protocol_of(
    dataset: InteractionDataset, candidates: int, seed: int, users: int, cold_users: int
) -> tuple[EvaluationProtocol, dict[str, Any]]:
    """Who is asked, and which of them count for what."""
    split = leave_one_out(dataset)
    drawn = draw_protocol(split, "test", None, candidates, seed)
    masks = scenario_masks(drawn, split)
    random = np.arange(len(drawn)) < users
    cold = masks["cold items"]
    chosen = random | (cold & (np.cumsum(cold) <= cold_users))
    groups = {"all users": random, "cold items": cold, "warm items": masks["warm items"] & random}
    return drawn.select(chosen), {name: mask[chosen] for name, mask in groups.items()}


def cell(path: Path, name: str, results: Path, changes: list[str], users: int, cold_users: int) -> None:
    """Train one system and keep what it answers."""
    run = Run.open(path)
    about = measured_by("systems")
    train_systems(run, [name], print)
    protocol, _ = protocol_of(run.dataset, run.config.evaluation.candidates, run.config.seed, users, cold_users)
    made = open_systems(run, [name])
    report = evaluate_systems(run, made, protocol, str(about["command"]), str(about["commit"]))
    system = report.systems[0]
    found = {
        "system": system.name,
        "note": system.note,
        "changes": changes,
        "users_per_second": system.users_per_second,
        "costs": {"peak_memory": peak_memory()} | dict(system.costs),
        "made_of": report.made_of,
        "validation": validation_of(run, made[name]),
    }
    add_cell(results, name, about | found, Asked.of(protocol), {name: placed(protocol, system.users, system.ranks)})
    print(f"{name}: Hit@1 {system.metrics['Hit@1'].value:.3f} of {len(system.users)} users", flush=True)


def validation_of(run: Run, system: System) -> dict[str, Any] | None:
    """What the last stage of a system reached on validation items, and when; none where nothing is validated."""
    if not system.stages:
        return None
    log = read_json(run.path / system.stages[-1].place / "log.json")
    kept = ("best_value", "best_step", "steps")
    return {name: log[name] for name in kept} if log.get("best_value") is not None else None


def run_cells(
    data: Path, recipe: str, changes: list[str], path: Path, results: Path, cells: list[str], asked: list[str]
) -> None:
    """Do every cell that is not done, each in its own process; one that fails is named and the next begins."""
    Run.create(path, InteractionDataset.load(data), load_recipe(recipe, parse_changes(changes)))
    for name in cells:
        if name in cells_of(read_table(results)):
            print(f"{name}: there already")
            continue
        command = [
            sys.executable,
            "-m",
            "benchmarks.systems",
            "cell",
            str(path),
            "--cells",
            name,
            "--name",
            results.stem,
        ]
        command += [part for change in changes for part in ("--set", change)]
        command += ["--threads", str(torch.get_num_threads()), *asked]
        if subprocess.run(command, check=False).returncode:
            print(f"{name}: failed", flush=True)


def check_setting(results: Path, setting: dict[str, Any]) -> None:
    """One table, one setting: cells that stand there already must be of this one."""
    found = read_table(results)
    there, before = cells_of(found), found.get("setting")
    if before is None or not there:
        return
    differing = [
        name for name in setting if name not in ("config", "recipe", "changes") and setting[name] != before.get(name)
    ]
    flat, old = flattened(setting["config"]), flattened(before["config"])
    differing += [name for name in sorted(flat.keys() | old.keys()) if flat.get(name) != old.get(name)]
    # How a system is trained that is not in the table changes nothing in it.
    absent = tuple(f"systems.{name.replace('-', '_')}." for name in SYSTEMS if name not in there)
    differing = [name for name in differing if not name.startswith(absent)]
    if differing:
        sys.exit(
            f"{results} has cells of another setting; differing are {', '.join(differing)}. Give another --name, or "
            "remove the file to measure all of them anew."
        )


def flattened(values: dict[str, Any], start: str = "") -> dict[str, Any]:
    """A tree of fields by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flattened(value, f"{start}{name}.") if isinstance(value, dict) else {start + name: value}
    return found


def collect(results: Path, against: list[str]) -> None:
    """Figures of all cells with paired differences, into the table's file.

    Raises:
        ArtifactError: the cells asked other users or candidates than the table's setting draws.
    """
    with changing(results) as found:
        setting = found["setting"]
        drawn = [setting[name] for name in ("candidates", "seed", "users", "cold_users")]
        protocol, groups = protocol_of(InteractionDataset.load(Path(setting["data"])), *drawn)
        ranks = table_ranks(results, Asked.of(protocol))
        values = {name: user_values([as_ranks(ranks[name])]) for name in cells_of(found)}
        rows = [
            {
                "key": name,
                "figures": by_group(own, groups, protocol.hash),
                "differences": {
                    other: less_by_group(own, values[other], groups, protocol.hash)
                    for other in against
                    if other in values and other != name
                },
            }
            for name, own in values.items()
        ]
        rows.sort(key=lambda row: -row["figures"]["all users"]["NDCG@10"][0])
        sizes = {name: int(mask.sum()) for name, mask in groups.items()}
        about = measured_on(f"python -m benchmarks.systems collect --name {results.stem}")
        found |= about | {"users": sizes, "against": against, "rows": rows}
        cells = cells_of(found)
    Console(width=200).print(table([cells[row["key"]] | row for row in rows], against[0]))
    print(f"Written: {results}")


def table(rows: list[dict[str, Any]], against: str) -> Table:
    """What the documents show."""
    rendered = Table(
        "system", "Hit@1", "NDCG@10", f"Hit@1 less {against}", "cold", "warm", "parameters", "train s", "users/s", "GB"
    )
    for row in rows:
        few = row["figures"]
        less = row["differences"].get(against, {}).get("all users", {}).get("Hit@1")
        cost = row["costs"]
        rendered.add_row(
            row["system"],
            shown(few["all users"]["Hit@1"]),
            shown(few["all users"]["NDCG@10"]),
            shown(less, "+"),
            f"{few['cold items']['Hit@1'][0]:.3f}",
            f"{few['warm items']['Hit@1'][0]:.3f}",
            f"{cost['trained_parameters']:,.0f}" if "trained_parameters" in cost else "",
            f"{cost['train_seconds']:,.0f}" if "train_seconds" in cost else "",
            f"{row['users_per_second']:.3g}",
            f"{cost['peak_memory'] / 2**30:.1f}" if "peak_memory" in cost else "",
        )
    return rendered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "cell", "collect"))
    parser.add_argument("path", type=Path, nargs="?", help="prepared data for `run`, a run for `cell`")
    parser.add_argument("--name", required=True, help="of the results")
    parser.add_argument("--recipe", default="cpu")
    parser.add_argument("--set", action="append", default=[], help="change a field of the recipe")
    parser.add_argument("--run", type=Path, help="the run's folder; default: runs/NAME")
    parser.add_argument("--cells", default=CELLS)
    parser.add_argument(
        "--against", default="late-fusion,backbone,popularity", help="systems that the others are compared with"
    )
    parser.add_argument("--users", type=int, default=300, help="test users drawn at random")
    parser.add_argument("--cold", type=int, default=100, help="users with a cold target, as many more as it takes")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = RESULTS / f"{arguments.name}.json"
    if arguments.what == "collect":
        collect(results, arguments.against.split(","))
    elif arguments.what == "cell":
        for name in arguments.cells.split(","):
            cell(arguments.path, name, results, arguments.set, arguments.users, arguments.cold)
    else:
        recipe = load_recipe(arguments.recipe, parse_changes(arguments.set))
        setting = {"data": str(arguments.path), "recipe": arguments.recipe, "changes": arguments.set}
        more = {
            "candidates": recipe.evaluation.candidates,
            "seed": recipe.seed,
            "users": arguments.users,
            "cold_users": arguments.cold,
            "config": recipe.model_dump(mode="json"),
        }
        check_setting(results, setting | more)
        with changing(results) as found:
            found["setting"] = setting | more
        path = arguments.run or Path("runs") / arguments.name
        asked = ["--users", str(arguments.users), "--cold", str(arguments.cold)]
        run_cells(arguments.path, arguments.recipe, arguments.set, path, results, arguments.cells.split(","), asked)


if __name__ == "__main__":
    main()
