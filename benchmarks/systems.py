"""Every system and ablation on one frozen set of users: each cell a job of its own that keeps its figures.

    python -m benchmarks.systems run data/movietweetings --recipe benchmarks/movietweetings.toml --name movietweetings
    python -m benchmarks.systems collect --name movietweetings

A cell is `allmrec train RUN --system NAME` and its judgement, in a process of its own, so that its peak memory is its own.
A cell that is there already is not run again. Asked are 300 users drawn at random (`--users`) and as many more with a cold
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

from allmrec.core.artifacts import read_json, write_json
from allmrec.core.memory import peak_memory
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import metric_values
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.pipeline.config import load_recipe, parse_changes
from allmrec.systems.judgement import judge_systems
from allmrec.systems.kinds import System
from allmrec.systems.registry import SYSTEMS, open_systems, train_systems
from benchmarks.about import measured_on

RESULTS = Path(__file__).parent / "results"
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
    about = measured_on(" ".join(["python -m benchmarks.systems", *sys.argv[1:]]))
    train_systems(run, [name], print)
    protocol, _ = protocol_of(run.dataset, run.config.evaluation.candidates, run.config.seed, users, cold_users)
    made = open_systems(run, [name])
    report = judge_systems(run, made, protocol, str(about["command"]), str(about["commit"]))
    system = report.systems[0]
    write_json(
        results / f"{name}.json",
        about
        | {
            "key": name,
            "system": system.name,
            "note": system.note,
            "changes": changes,
            "protocol": report.protocol_hash,
            "users": list(system.users),
            "ranks": list(system.ranks),
            "users_per_second": system.users_per_second,
            "costs": {"peak_memory": peak_memory()} | dict(system.costs),
            "made_of": report.made_of,
            "validation": validation_of(run, made[name]),
        },
    )
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
    results.mkdir(parents=True, exist_ok=True)
    for name in cells:
        if (results / f"{name}.json").is_file():
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
            results.name,
        ]
        command += [part for change in changes for part in ("--set", change)]
        command += ["--threads", str(torch.get_num_threads()), *asked]
        if subprocess.run(command, check=False).returncode:
            print(f"{name}: failed", flush=True)


def check_setting(results: Path, setting: dict[str, Any]) -> None:
    """One table, one setting: cells that stand there already must be of this one."""
    path = results / "setting" / "config.json"
    if not path.is_file() or not any(results.glob("*.json")):
        return
    before = read_json(path)
    differing = [
        name for name in setting if name not in ("config", "recipe", "changes") and setting[name] != before.get(name)
    ]
    flat, old = flattened(setting["config"]), flattened(before["config"])
    differing += [name for name in sorted(flat.keys() | old.keys()) if flat.get(name) != old.get(name)]
    # How a system is trained that is not in the table changes nothing in it.
    there = {path.stem for path in results.glob("*.json")}
    absent = tuple(f"systems.{name.replace('-', '_')}." for name in SYSTEMS if name not in there)
    differing = [name for name in differing if not name.startswith(absent)]
    if differing:
        sys.exit(
            f"{results} has cells of another setting; differing are {', '.join(differing)}. Give another --name, or "
            "remove the folder to measure all of them anew."
        )


def flattened(values: dict[str, Any], start: str = "") -> dict[str, Any]:
    """A tree of fields by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flattened(value, f"{start}{name}.") if isinstance(value, dict) else {start + name: value}
    return found


def collect(results: Path, against: list[str]) -> None:
    """One table of all cells, with paired differences."""
    cells = [read_json(path) for path in sorted(results.glob("*.json"))]
    config = read_json(results / "setting" / "config.json")
    drawn = [config[name] for name in ("candidates", "seed", "users", "cold_users")]
    protocol, groups = protocol_of(InteractionDataset.load(Path(config["data"])), *drawn)
    cells = [found for found in cells if found["protocol"] == protocol.hash]
    by_key = {found["key"]: found for found in cells}
    references = {name: by_key[name] for name in against if name in by_key}
    rows = [_row(found, references, groups, protocol.hash) for found in cells]
    rows.sort(key=lambda row: -row["figures"]["all users"]["NDCG@10"]["value"])
    about = measured_on(f"python -m benchmarks.systems collect --name {results.name}")
    sizes = {name: int(mask.sum()) for name, mask in groups.items()}
    write_json(
        RESULTS / f"{results.name}.json", about | {"setting": config, "users": sizes, "against": against, "rows": rows}
    )
    Console(width=200).print(table(rows, against[0]))
    print(f"Written: {RESULTS / f'{results.name}.json'}")


def _row(
    found: dict[str, Any], references: dict[str, dict[str, Any]], groups: dict[str, Any], seed: str
) -> dict[str, Any]:
    values = _values(found)
    figures = {
        group: {name: vars(bootstrap_mean(v[mask], numpy_generator(0, seed, name))) for name, v in values.items()}
        for group, mask in groups.items()
    }
    kept = ("key", "system", "note", "changes", "users_per_second", "costs", "device", "date", "commit", "command")
    differences: dict[str, Any] = {}
    for name, reference in references.items():
        if reference is not found:
            theirs = _values(reference)
            differences[name] = {
                group: {
                    metric: vars(paired_difference(v[mask], theirs[metric][mask], numpy_generator(0, seed, metric)))
                    for metric, v in values.items()
                }
                for group, mask in groups.items()
            }
    return {name: found[name] for name in kept} | {"figures": figures, "differences": differences}


def _values(found: dict[str, Any]) -> dict[str, np.ndarray]:
    ranks = np.array([np.inf if rank is None else rank for rank in found["ranks"]], dtype=np.float64)
    return {name: value for name, value in metric_values(ranks).items() if name in ("Hit@1", "NDCG@10")}


def table(rows: list[dict[str, Any]], against: str) -> Table:
    """What the documents show."""
    shown = Table(
        "system", "Hit@1", "NDCG@10", f"Hit@1 less {against}", "cold", "warm", "parameters", "train s", "users/s", "GB"
    )
    for row in rows:
        few = row["figures"]
        less = row["differences"].get(against, {}).get("all users", {}).get("Hit@1")
        cost = row["costs"]
        shown.add_row(
            row["system"],
            _figure(few["all users"]["Hit@1"]),
            _figure(few["all users"]["NDCG@10"]),
            _figure(less, "+") if less else "",
            f"{few['cold items']['Hit@1']['value']:.3f}",
            f"{few['warm items']['Hit@1']['value']:.3f}",
            f"{cost['trained_parameters']:,.0f}" if "trained_parameters" in cost else "",
            f"{cost['train_seconds']:,.0f}" if "train_seconds" in cost else "",
            f"{row['users_per_second']:.3g}",
            f"{cost['peak_memory'] / 2**30:.1f}" if "peak_memory" in cost else "",
        )
    return shown


def _figure(found: dict[str, float] | Estimate, sign: str = "") -> str:
    value = found if isinstance(found, dict) else vars(found)
    return f"{value['value']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


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
    results = RESULTS / arguments.name
    if arguments.what == "collect":
        collect(results, arguments.against.split(","))
    elif arguments.what == "cell":
        for name in arguments.cells.split(","):
            cell(arguments.path, name, results, arguments.set, arguments.users, arguments.cold)
    else:
        recipe = load_recipe(arguments.recipe, parse_changes(arguments.set))
        (results / "setting").mkdir(parents=True, exist_ok=True)
        setting = {"data": str(arguments.path), "recipe": arguments.recipe, "changes": arguments.set}
        more = {
            "candidates": recipe.evaluation.candidates,
            "seed": recipe.seed,
            "users": arguments.users,
            "cold_users": arguments.cold,
            "config": recipe.model_dump(mode="json"),
        }
        check_setting(results, setting | more)
        write_json(results / "setting" / "config.json", setting | more)
        path = arguments.run or Path("runs") / arguments.name
        asked = ["--users", str(arguments.users), "--cold", str(arguments.cold)]
        run_cells(arguments.path, arguments.recipe, arguments.set, path, results, arguments.cells.split(","), asked)


if __name__ == "__main__":
    main()
