"""The paper's objective: A-LLMRec by the likelihood of titles, its forms and ablations, each cell a job of its own.

    python -m benchmarks.titles cell data/movietweetings --name movietweetings --cell seed-0 --ask allmrec,backbone
    python -m benchmarks.titles cell data/movietweetings --name movietweetings --cell mlp-llm --system mlp-llm --users 1000
    python -m benchmarks.titles table data/movietweetings --name movietweetings
    python -m benchmarks.titles plan benchmarks/titles_gpu.toml --jobs 8 --limit 500

A cell makes or continues the run RUNS/NAME-SEED (`--run` gives another), trains what it asks, and keeps the rank of each user's
target. With `--from` it begins as a copy of a run whose first stages are there. A plan is a TOML file of cells, each a list
of this command's arguments, done so many at once and in their order until the time is over. All cells of a name ask the same users and candidates, drawn with seed 0: the first `--users` of them, and of
`--cold` systems every user with a cold target (the coldest 35 % of items). Ranks lie in NAME/CELL.npz, figures in NAME/CELL.json.
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
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.cli.options import chosen_device
from allmrec.core.artifacts import read_json, write_json
from allmrec.core.memory import peak_memory
from allmrec.core.seeding import numpy_generator
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import metric_values, target_ranks
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.pipeline.config import load_recipe, parse_changes
from allmrec.ranking import Ranker
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompted import PromptedRanker
from allmrec.systems.registry import open_systems, system_kind, train_systems
from benchmarks.about import measured_on

RESULTS = Path(__file__).parent / "results" / "titles"


class OthersVectors:
    """A backbone that gives each user the vector of another one."""

    def __init__(self, backbone: Backbone, split: Split, other: np.ndarray) -> None:
        self._backbone, self._split, self._other = backbone, split, other
        self.width, self.max_length, self.n_items = backbone.width, backbone.max_length, backbone.n_items

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        return self._backbone.item_vectors()

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        others = self._other[batch.users]
        return self._backbone.user_vectors(
            SequenceBatch(others, left_pad([self._split.test_history(int(u)) for u in others], self.max_length))
        )


def shuffled(run: Run) -> Ranker:
    """The trained system with users' vectors exchanged among users and items' among items; words stay."""
    own, rng = run.ranker(), numpy_generator(0, "shuffle")
    order = np.concatenate([[0], rng.permutation(np.arange(1, run.dataset.n_items + 1))])
    joint = JointItemTable.from_tensors({name: tensor[order] for name, tensor in own.joint.tensors().items()})
    strangers = OthersVectors(run.backbone(), run.split, np.roll(rng.permutation(run.dataset.n_users), 1))
    titles = run.dataset.catalogue.titles
    others = PromptedRanker(run.lm, strangers, joint, titles, run.config.tune.prompt, counts=run.known_counts())
    others.load_state_dict(own.state_dict())
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
    """The target's rank for each user that is asked, 0 for the others and -1 for a miss; and users a second."""
    ranks = np.zeros(len(protocol), dtype=np.int16)
    chosen = np.flatnonzero(asked)
    queries = protocol.queries(split)
    begun = time.perf_counter()
    for start in range(0, len(chosen), 256):
        part = chosen[start : start + 256]
        found = target_ranks(
            system.rank([queries[n] for n in part], [protocol.candidates[n] for n in part]), protocol.targets[part]
        )
        ranks[part] = np.where(np.isfinite(found), found, -1)
        print(
            f"  {system.name}: {start + len(part)} of {len(chosen)}, Hit@1 {np.mean(ranks[chosen[: start + len(part)]] == 1):.3f}",
            flush=True,
        )
    return ranks, len(chosen) / (time.perf_counter() - begun)


def cell(arguments: argparse.Namespace) -> None:
    """Train what a cell needs, ask its systems, keep ranks."""
    folder = arguments.results / arguments.name
    if (folder / f"{arguments.cell}.json").is_file():
        print(f"{arguments.cell}: there already")
        return
    about = measured_on(" ".join(["python -m benchmarks.titles", *sys.argv[1:]]))
    recipe = load_recipe(arguments.recipe, parse_changes(arguments.set))
    path = arguments.run or Path("runs") / f"{arguments.name}-{recipe.seed}"
    if arguments.begun is not None and not path.exists():
        shutil.copytree(arguments.begun, path)
    run = Run.create(path, InteractionDataset.load(arguments.data), recipe, chosen_device(arguments.device))
    started = time.process_time()
    if arguments.system:
        train_systems(run, [arguments.system], print)
    elif not arguments.ask or any(n.startswith(("allmrec", "shuffled")) for n in arguments.ask.split(",")):
        run.train(print)
    else:
        run.train(print, "pretrain")
    spent = time.process_time() - started
    protocol = draw_protocol(run.split, "test", None, run.config.evaluation.candidates, 0)
    masks = scenario_masks(protocol, run.split)
    first = np.arange(len(protocol)) < (arguments.users or len(protocol))
    few = np.arange(len(protocol)) < arguments.few
    kept: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    for name in [arguments.system] if arguments.system else filter(None, arguments.ask.split(",")):
        system, note = opened(run, name)
        asked = first
        if name in arguments.cold.split(","):
            asked = masks["cold items"]
        elif name in arguments.slow.split(","):
            asked = few
        kept[name], speed = ranks_of(system, protocol, run.split, asked)
        rows.append({"key": name, "system": system.name, "users": int(asked.sum()), "users_per_second": round(speed, 2),
                     "note": note() if callable(note) else note})  # fmt: skip
    of, stages = system_kind(arguments.system or "allmrec").job(run)
    stage = of.stage(stages[-1])
    place = run.path / stage.place / "log.json"
    log = read_json(place) if place.is_file() else {}
    tuned = {
        name: log[name]
        for name in ("seconds", "steps", "best_step", "best_value", "trained_parameters", "records")
        if name in log
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{arguments.cell}.npz", **kept)
    write_json(
        folder / f"{arguments.cell}.json",
        about
        | {"cell": arguments.cell, "data": arguments.data.name, "recipe": Path(arguments.recipe).name, "changes": arguments.set,
           "protocol": protocol.hash, "cpu_seconds_training": round(spent, 1), "peak_memory": peak_memory(),
           "tune": tuned, "systems": rows},
    )  # fmt: skip
    print(f"{arguments.cell}: written", flush=True)


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
    """All cells of a name, each system with its intervals and paired differences."""
    folder = arguments.results / arguments.name
    data = InteractionDataset.load(arguments.data)
    from allmrec.data.splitting import leave_one_out

    split = leave_one_out(data)
    protocol = draw_protocol(split, "test", None, 20, 0)
    masks = scenario_masks(protocol, split) | {"all": np.ones(len(protocol), dtype=bool)}
    found = {
        path.stem: (read_json(path), np.load(path.with_suffix(".npz")))
        for path in sorted(folder.glob("*.json"))
        if path.with_suffix(".npz").is_file()
    }
    unlike = [about["cell"] for about, _ in found.values() if about["protocol"] != protocol.hash]
    if unlike:
        sys.exit(f"{unlike[0]} asked other users or candidates; remove it.")
    rows = []
    for about, ranks in found.values():
        cell = arguments.against.format(seed=_seed(about))
        reference = found[cell][1][arguments.reference] if cell in found else None
        for system in about["systems"]:
            if cell == about["cell"] and system["key"] == arguments.reference:
                rows.append(_row({"cell": about["cell"], **system}, masks, [ranks[system["key"]]], None))
                continue
            rows.append(_row({"cell": about["cell"], **system}, masks, [ranks[system["key"]]], reference))
    rows += _joined(found, masks, arguments)
    write_json(
        folder.with_suffix(".json"),
        measured_on(" ".join(["python -m benchmarks.titles", *sys.argv[1:]]))
        | {"against": arguments.against, "reference": arguments.reference, "rows": rows},
    )
    shown = Table(
        "cell", "system", "users", "Hit@1", "NDCG@10", "Hit@1 less reference", "cold Hit@1", "cold less", "users/s"
    )
    for row in rows:
        everybody, cold = row["figures"].get("all", {}), row["figures"].get("cold items", {})
        shown.add_row(row["cell"], row["system"], str(everybody.get("users", "")), _shown(everybody.get("Hit@1")), _shown(everybody.get("NDCG@10")),
                      _shown(everybody.get("less reference", {}).get("Hit@1"), "+"), _shown(cold.get("Hit@1")),
                      _shown(cold.get("less reference", {}).get("Hit@1"), "+"), str(row["users_per_second"]))  # fmt: skip
    Console(width=220).print(shown)


Masks = dict[str, Bool[np.ndarray, " users"]]
Found = dict[str, tuple[dict[str, Any], Any]]


def _seed(about: dict[str, Any]) -> str:
    return next((change.partition("=")[2] for change in about["changes"] if change.startswith("seed=")), "0")


def _row(
    row: dict[str, Any], masks: Masks, kept: list[np.ndarray], reference: np.ndarray | list[np.ndarray] | None
) -> dict[str, Any]:
    """Figures of a system in each group of users; of several seeds a user's value is the mean over them."""
    theirs = reference if isinstance(reference, list) or reference is None else [reference]
    row["figures"] = {}
    for group, mask in masks.items():
        asked = mask & (kept[0] != 0)
        if not asked.any():
            continue
        own = _values(kept, asked)
        row["figures"][group] = {"users": int(asked.sum())} | {
            name: vars(bootstrap_mean(values, numpy_generator(0, "titles", name))) for name, values in own.items()
        }
        if theirs is not None and all((ranks[asked] != 0).all() for ranks in theirs):
            other = _values(theirs, asked)
            row["figures"][group]["less reference"] = {
                name: vars(paired_difference(values, other[name], numpy_generator(0, "titles", name)))
                for name, values in own.items()
            }
    return row


def _values(kept: list[np.ndarray], asked: Bool[np.ndarray, " users"]) -> dict[str, np.ndarray]:
    """Hit@1 and NDCG@10 of each user that was asked, the mean over the seeds."""
    found = [metric_values(_ranks(ranks[asked])) for ranks in kept]
    return {name: np.mean([values[name] for values in found], axis=0) for name in ("Hit@1", "NDCG@10")}


def _joined(found: Found, masks: Masks, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a system that several seeds have, users being what is drawn for an interval."""
    seeds = [name for name in found if name.startswith("seed-")]
    if len(seeds) < 2:
        return []
    rows = []
    for key in found[seeds[0]][1].files:
        if not all(key in found[name][1].files for name in seeds):
            continue
        about = next(system for system in found[seeds[0]][0]["systems"] if system["key"] == key)
        reference = [found[name][1][arguments.reference] for name in seeds] if key != arguments.reference else None
        speeds = [s["users_per_second"] for name in seeds for s in found[name][0]["systems"] if s["key"] == key]
        row = {"cell": f"{len(seeds)} seeds", "key": key, "system": about["system"], "note": "",
               "users_per_second": round(float(np.mean(speeds)), 2)}  # fmt: skip
        rows.append(_row(row, masks, [found[name][1][key] for name in seeds], reference))
    return rows


def _ranks(kept: np.ndarray) -> np.ndarray:
    return np.where(kept < 0, np.inf, kept.astype(np.float64))


def _shown(found: dict[str, float] | None, sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]" if found else ""


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
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results lie")
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
