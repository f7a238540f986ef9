"""The paper's objective: A-LLMRec by the likelihood of titles, its forms and ablations, each cell a job of its own.

    python -m benchmarks.titles cell data/movietweetings --name movietweetings --cell seed-0 --ask allmrec,backbone
    python -m benchmarks.titles cell data/movietweetings --name movietweetings --cell mlp-llm --system mlp-llm --users 1000
    python -m benchmarks.titles table data/movietweetings --name movietweetings
    python -m benchmarks.titles plan benchmarks/titles_gpu.toml --jobs 8 --limit 500

A cell makes or continues the run RUNS/NAME-SEED (`--run` gives another), trains what it asks, and keeps the rank of each user's
target. With `--from` it begins as a copy of a run whose first stages are there. A plan is a TOML file of cells, each a list
of this command's arguments, done so many at once and in their order until the time is over. All cells of a name ask the same users and candidates, drawn with seed 0: the first `--users` of them, and of
`--cold` systems every user with a cold target (the coldest 35 % of items). Ranks lie in NAME.npz; settings, provenance and
figures, which `table` computes, in NAME.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from rich.console import Console
from rich.table import Table

from allmrec.cli.options import chosen_device
from allmrec.core.artifacts import read_json
from allmrec.core.memory import peak_memory
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.evaluation.metrics import target_ranks
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.ranking import Ranker
from allmrec.recipes.files import load_recipe, parse_changes
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.stages.tune import allmrec_stages
from allmrec.systems.registry import open_systems, system_kind, train_systems
from allmrec.testing.exchanged import exchanged_ranker
from benchmarks.about import measured_by
from benchmarks.figures import Groups, differences, estimates, shown, user_values
from benchmarks.rank_files import NOT_ASKED, Asked, Kept, as_ranks, kept
from benchmarks.tables import RESULTS, add_cell, cells_of, changing, curve, read_table, table_ranks


def shuffled(run: Run) -> Ranker:
    """The trained system with users' vectors exchanged among users and items' among items; words stay."""
    others = exchanged_ranker(run.ranker(), run.split, numpy_generator(0, "shuffle"), counts=run.known_counts())
    return LanguageRanker(others, run.method, "A-LLMRec, vectors exchanged")


def opened(run: Run, name: str) -> tuple[Ranker, Any]:
    """A system by name, and its note."""
    if name == "shuffled":
        return shuffled(run), ""
    (system,) = open_systems(run, [name]).values()
    return system.ranker, system.note


def ranks_of(
    system: Ranker, protocol: EvaluationProtocol, split: Split, asked: Bool[np.ndarray, " users"]
) -> tuple[np.ndarray, float]:
    """The target's rank for each user that is asked, as `rank_files` stores them; and users a second."""
    ranks = np.full(len(protocol), NOT_ASKED, dtype=np.int16)
    chosen = np.flatnonzero(asked)
    queries = protocol.queries(split)
    begun = time.perf_counter()
    for start in range(0, len(chosen), 256):
        part = chosen[start : start + 256]
        found = target_ranks(
            system.rank([queries[n] for n in part], [protocol.candidates[n] for n in part]), protocol.targets[part]
        )
        ranks[part] = kept(found)
        print(
            f"  {system.name}: {start + len(part)} of {len(chosen)}, Hit@1 {np.mean(ranks[chosen[: start + len(part)]] == 1):.3f}",
            flush=True,
        )
    return ranks, len(chosen) / (time.perf_counter() - begun)


def trained(run: Run) -> dict[str, float]:
    """Train A-LLMRec; processor seconds of each stage that was not there already, the loading of its models included."""
    spent = {}
    for kind in allmrec_stages(run.config):
        started, there = time.process_time(), run.has(kind)
        run.train(print, kind.name)
        if not there:
            spent[kind.name] = round(time.process_time() - started, 1)
    return spent


def cell(arguments: argparse.Namespace) -> None:
    """Train what a cell needs, ask its systems, keep ranks."""
    path = arguments.results / f"{arguments.name}.json"
    if arguments.cell in cells_of(read_table(path)):
        print(f"{arguments.cell}: there already")
        return
    about = measured_by("titles")
    recipe = load_recipe(arguments.recipe, parse_changes(arguments.set))
    place = arguments.run or Path("runs") / f"{arguments.name}-{recipe.seed}"
    if arguments.begun is not None and not place.exists():
        shutil.copytree(arguments.begun, place)
    run = Run.create(place, InteractionDataset.load(arguments.data), recipe, chosen_device(arguments.device))
    started = time.process_time()
    by_stage: dict[str, float] = {}
    if arguments.system:
        train_systems(run, [arguments.system], print)
    elif not arguments.ask or any(n.startswith(("allmrec", "shuffled")) for n in arguments.ask.split(",")):
        by_stage = trained(run)
    else:
        run.train(print, "pretrain")
    spent = time.process_time() - started
    protocol = draw_protocol(run.split, "test", None, run.config.evaluation.candidates, 0)
    masks = scenario_masks(protocol, run.split)
    first = np.arange(len(protocol)) < (arguments.users or len(protocol))
    few = np.arange(len(protocol)) < arguments.few
    ranks: dict[str, Kept] = {}
    rows: list[dict[str, Any]] = []
    for name in [arguments.system] if arguments.system else filter(None, arguments.ask.split(",")):
        system, note = opened(run, name)
        asked = first
        if name in arguments.cold.split(","):
            asked = masks["cold items"]
        elif name in arguments.slow.split(","):
            asked = few
        ranks[rank_key(arguments.cell, name)], speed = ranks_of(system, protocol, run.split, asked)
        rows.append({"key": name, "system": system.name, "users": int(asked.sum()), "users_per_second": round(speed, 2),
                     "note": note() if callable(note) else note})  # fmt: skip
    of, stages = system_kind(arguments.system or "allmrec").job(run)
    logged = run.path / of.stage(stages[-1]).place / "log.json"
    log = read_json(logged) if logged.is_file() else {}
    tuned = {
        name: log[name] for name in ("seconds", "steps", "best_step", "best_value", "trained_parameters") if name in log
    }
    if "records" in log:
        tuned["records"] = curve(log["records"])
    found = {"data": arguments.data.name, "recipe": Path(arguments.recipe).name, "changes": arguments.set,
             "cpu_seconds_training": round(spent, 1), "cpu_seconds_by_stage": by_stage, "peak_memory": peak_memory(), "tune": tuned,
             "systems": rows}  # fmt: skip
    add_cell(path, arguments.cell, about | found, Asked.of(protocol), ranks)
    print(f"{arguments.cell}: written", flush=True)


def rank_key(cell: str, system: str) -> str:
    """Under which name a system's ranks stand in its table."""
    return f"{cell}/{system}"


def plan(arguments: argparse.Namespace) -> None:
    """Do the cells of a plan, each in a process of its own; what has begun when the time is over is ended."""
    waiting = [cell["arguments"] for cell in tomllib.loads(arguments.data.read_text())["cell"]]
    running: list[tuple[subprocess.Popen[bytes], str, float]] = []
    begun = time.monotonic()
    folder = arguments.results
    folder.mkdir(parents=True, exist_ok=True)
    while waiting or running:
        if time.monotonic() - begun > arguments.limit:
            for process, name, _ in running:
                process.kill()
                print(f"{name}: ended, the time is over", flush=True)
            print(f"{len(waiting)} cells not begun", flush=True)
            return
        while waiting and len(running) < arguments.jobs:
            own = waiting.pop(0)
            name = f"{own[own.index('--name') + 1]}-{own[own.index('--cell') + 1]}"
            command = [sys.executable, "-m", "benchmarks.titles", "cell", *own, "--results", str(folder)]
            with (folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
            running.append((process, name, time.monotonic()))
        for entry in list(running):
            process, name, since = entry
            if process.poll() is not None:
                running.remove(entry)
                print(f"{name}: ended with {process.returncode} after {time.monotonic() - since:.0f} s", flush=True)
        time.sleep(0.5)


def table(arguments: argparse.Namespace) -> None:
    """Figures of all cells, each system with its intervals and paired differences, into the table's file."""
    split = leave_one_out(InteractionDataset.load(arguments.data))
    protocol = draw_protocol(split, "test", None, 20, 0)
    masks = scenario_masks(protocol, split) | {"all": np.ones(len(protocol), dtype=bool)}
    about = measured_by("titles")
    path = arguments.results / f"{arguments.name}.json"
    with changing(path) as found:
        cells, ranks = cells_of(found), table_ranks(path, Asked.of(protocol))
        rows = []
        for name, cell in sorted(cells.items()):
            against = rank_key(arguments.against.format(seed=_seed(cell)), arguments.reference)
            for system in cell["systems"]:
                key = rank_key(name, system["key"])
                reference = [ranks[against]] if against in ranks and key != against else None
                rows.append({"cell": name, **system, "figures": _figures([ranks[key]], reference, masks)})
        rows += _joined(cells, ranks, masks, arguments.reference)
        found |= about | {"against": arguments.against, "reference": arguments.reference, "rows": rows}
        with_it, without = (rank_key(name, name) for name in ("late-fusion-llm", "late-fusion"))
        if with_it in ranks and without in ranks:
            found["language_model_adds"] = _figures([ranks[with_it]], [ranks[without]], masks)
    rendered = Table(
        "cell", "system", "users", "Hit@1", "NDCG@10", "Hit@1 less reference", "cold Hit@1", "cold less", "users/s"
    )
    for row in rows:
        everybody, cold = row["figures"].get("all", {}), row["figures"].get("cold items", {})
        rendered.add_row(row["cell"], row["system"], str(everybody.get("users", "")), shown(everybody.get("Hit@1")), shown(everybody.get("NDCG@10")),
                         shown(everybody.get("less reference", {}).get("Hit@1"), "+"), shown(cold.get("Hit@1")),
                         shown(cold.get("less reference", {}).get("Hit@1"), "+"), str(row["users_per_second"]))  # fmt: skip
    Console(width=220).print(rendered)


def _seed(cell: dict[str, Any]) -> str:
    return next((change.partition("=")[2] for change in cell["changes"] if change.startswith("seed=")), "0")


def _figures(own: list[Kept], reference: list[Kept] | None, groups: Groups) -> dict[str, Any]:
    """Figures of a system in each group of users that was asked; of several seeds a user's value is the mean over them."""
    found: dict[str, Any] = {}
    for group, mask in groups.items():
        asked = mask & (own[0] != NOT_ASKED)
        if not asked.any():
            continue
        values = user_values([as_ranks(ranks[asked]) for ranks in own])
        found[group] = {"users": int(asked.sum())} | estimates(values, "titles")
        if reference is not None and all((ranks[asked] != NOT_ASKED).all() for ranks in reference):
            theirs = user_values([as_ranks(ranks[asked]) for ranks in reference])
            found[group]["less reference"] = differences(values, theirs, "titles")
    return found


def _joined(
    cells: dict[str, dict[str, Any]], ranks: dict[str, Kept], groups: Groups, reference: str
) -> list[dict[str, Any]]:
    """One row a system that several seeds have, users being what is drawn for an interval."""
    seeds = sorted(name for name in cells if name.startswith("seed-"))
    if len(seeds) < 2:
        return []
    rows = []
    for system in cells[seeds[0]]["systems"]:
        key = system["key"]
        if not all(rank_key(name, key) in ranks for name in seeds):
            continue
        own, theirs = ([ranks.get(rank_key(name, k)) for name in seeds] for k in (key, reference))
        speeds = [s["users_per_second"] for name in seeds for s in cells[name]["systems"] if s["key"] == key]
        rows.append({"cell": f"{len(seeds)} seeds", "key": key, "system": system["system"], "note": "",
                     "users_per_second": round(float(np.mean(speeds)), 2),
                     "figures": _figures(own, theirs if key != reference else None, groups)})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cell", "table", "plan"))
    parser.add_argument("data", type=Path, help="prepared data; of `plan` its file")
    parser.add_argument("--name", default="", help="of the table")
    parser.add_argument("--cell", default="", help="of the cell")
    parser.add_argument("--recipe", default=str(Path(__file__).parent / "titles.toml"))
    parser.add_argument("--set", action="append", default=[], help="change a field of the recipe")
    parser.add_argument("--run", type=Path, help="the run's folder")
    parser.add_argument("--from", dest="begun", type=Path, help="a run to begin with a copy of")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, or auto")
    parser.add_argument("--results", type=Path, default=RESULTS / "titles", help="where tables lie")
    parser.add_argument("--jobs", type=int, default=1, help="of a plan: cells at once")
    parser.add_argument("--limit", type=float, default=float("inf"), help="of a plan: seconds")
    parser.add_argument("--ask", default="allmrec", help="systems of the run; empty: train alone")
    parser.add_argument("--system", default="", help="a variant or baseline to train into the run and ask")
    parser.add_argument("--against", default="seed-{seed}", help="of a table: the cell that others are compared with")
    parser.add_argument("--reference", default="backbone", help="of a table: that cell's system")
    parser.add_argument("--users", type=int, help="test users; none: all")
    parser.add_argument("--cold", default="", help="systems that are asked about all users with a cold target alone")
    parser.add_argument("--slow", default="", help="systems that are asked about `--few` users")
    parser.add_argument("--few", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    {"cell": cell, "table": table, "plan": plan}[arguments.what](arguments)


if __name__ == "__main__":
    main()
