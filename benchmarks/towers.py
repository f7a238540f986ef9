"""Text beside behaviour over the whole catalogue: the recipe's CF model, its text tower and both, on each test user.

    python -m benchmarks.towers train data/beauty --seed 0 --runs runs
    python -m benchmarks.towers table

`train` makes the run RUNS/towers-NAME-SEED by a recipe as it ships (`--set` changes a field), trains the CF model, the text tower
and their weights, ranks every test user's target among all items and among 20 candidates, and stores the ranks. `table` computes
figures of all seeds together: the mean over seeds for each user, then a bootstrap over users; differences are paired with the CF
model. Cold are users whose target is among the coldest 35 % of items. "Either" is right where the CF model or the text tower is:
what any fusion of the two could reach at the most (EnsRec's Genie bound).
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int32

from allmrec.cf.backbone import Backbone
from allmrec.cf.recommender import query_batch
from allmrec.core.artifacts import atomic_write, read_json
from allmrec.core.memory import peak_memory
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split
from allmrec.evaluation import draw_protocol
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import target_ranks
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.ranking import Query
from allmrec.recipes.files import load_recipe, parse_changes
from allmrec.store.stages import stage_record
from allmrec.systems.registry import checked_settings, open_systems, system_kind, train_systems
from benchmarks.about import measured_by
from benchmarks.figures import Figure, figure
from benchmarks.full_catalogue import ranks
from benchmarks.tables import RESULTS, write_result

FOLDER = RESULTS / "towers"
SYSTEMS = ("backbone", "text-tower", "towers")
MEASURES = ("NDCG@10", "Hit@10", "cold Hit@10", "Hit@1 of 20", "cold Hit@1 of 20")

# Ranks from here on are kept as this: no measure looks so far, and files stay small.
FAR = 254

Ranks = Int32[np.ndarray, " users"]


@torch.no_grad()
def catalogue_ranks(backbone: Backbone, split: Split, users: np.ndarray) -> Ranks:
    """From 0: how many items that a user has not met beat or tie with the target."""
    vectors = []
    for start in range(0, len(users), 512):
        asked = [Query(split.test_history(int(user)), int(user)) for user in users[start : start + 512]]
        vectors.append(backbone.user_vectors(query_batch(asked, backbone.max_history)).numpy())
    histories = [split.test_history(int(user)).astype(np.int64) for user in users]
    found = ranks(
        np.concatenate(vectors), backbone.item_vectors().numpy(), split.test[users].astype(np.int64), histories
    )
    return found.astype(np.int32)


def train(arguments: argparse.Namespace) -> None:
    """One data set, one seed."""
    cell = f"{arguments.data.name}{arguments.label}-{arguments.seed}"
    if (FOLDER / f"{cell}.json").is_file():
        print(f"{cell}: there already")
        return
    about = measured_by("towers")
    recipe = checked_settings(load_recipe(arguments.recipe, {"seed": arguments.seed} | parse_changes(arguments.set)))
    data = InteractionDataset.load(arguments.data)
    run = Run.create(arguments.runs / f"towers-{cell}", data, recipe, "cpu")
    begun = time.process_time()
    train_systems(run, [recipe.pretrain.backbone, "towers"], print)
    split, cpu = run.split, time.process_time() - begun
    protocol = draw_protocol(split, "test", None, recipe.evaluation.candidates, 0)
    users = protocol.users
    queries = protocol.queries(split)
    kept: dict[str, np.ndarray] = {"cold": scenario_masks(protocol, split)["cold items"]}
    costs: dict[str, Any] = {}
    for name, system in open_systems(run, list(SYSTEMS)).items():
        key = "backbone" if name == recipe.pretrain.backbone else name
        ranker: Any = system.ranker
        kept[key] = catalogue_ranks(ranker.backbone, split, users)
        found = [
            target_ranks(
                ranker.rank(queries[s : s + 512], list(protocol.candidates[s : s + 512])), protocol.targets[s : s + 512]
            )
            for s in range(0, len(users), 512)
        ]
        kept[f"{key}/20"] = np.concatenate(found).astype(np.int32) - 1
        of, stages = system_kind(name).job(run)
        record = stage_record(run.path, of.stage(stages[-1]))
        costs[key] = {
            field: record[field] for field in ("seconds", "steps", "best_step", "best_value") if field in record
        }
        print(f"{key}: NDCG@10 {means(kept, key)['NDCG@10'].mean():.4f}", flush=True)
    kept = {
        key: column if column.dtype == bool else np.minimum(column, FAR).astype(np.uint8)
        for key, column in kept.items()
    }
    log = read_json(run.path / run.stage(system_kind("towers").stages(run.config)[-1]).place / "log.json")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)
    atomic_write(FOLDER / f"{cell}.npz", buffer.getvalue())
    found_here = {"data": arguments.data.name, "label": arguments.label.strip("-"), "seed": arguments.seed, "recipe": arguments.recipe,
                  "changes": arguments.set, "users": len(users), "items": data.n_items, "cpu_seconds": round(cpu, 1),
                  "peak_memory": peak_memory(), "weights": log["weights"], "costs": costs}  # fmt: skip
    write_result(FOLDER / f"{cell}.json", about | found_here)
    print(f"{cell}: written", flush=True)


def means(kept: Any, key: str) -> dict[str, Float64[np.ndarray, " users"]]:
    """Each user's value of the measures; NaN where a measure does not ask about the user."""
    if key == "either":
        whole, few = (np.minimum(kept[f"backbone{end}"], kept[f"text-tower{end}"]) for end in ("", "/20"))
    else:
        whole, few = kept[key], kept[f"{key}/20"]
    cold = kept["cold"]
    hit, first = (whole < 10).astype(np.float64), (few < 1).astype(np.float64)
    return {
        "NDCG@10": np.where(whole < 10, 1 / np.log2(whole + 2.0), 0.0),
        "Hit@10": hit,
        "cold Hit@10": np.where(cold, hit, np.nan),
        "Hit@1 of 20": first,
        "cold Hit@1 of 20": np.where(cold, first, np.nan),
    }


def rows(cells: list[dict[str, np.ndarray]]) -> dict[str, dict[str, dict[str, Figure]]]:
    """Figures of some seeds together, and differences to the CF model's."""
    values = {
        key: {name: np.mean([means(cell, key)[name] for cell in cells], axis=0) for name in MEASURES}
        for key in (*SYSTEMS, "either")
    }
    found: dict[str, dict[str, dict[str, Figure]]] = {}
    for key, own in values.items():
        asked = {name: ~np.isnan(column) for name, column in own.items()}
        found[key] = {
            "figures": {n: figure(bootstrap_mean(c[asked[n]], numpy_generator(0, n))) for n, c in own.items()}
        }
        if key != "backbone":
            other = values["backbone"]
            found[key]["less"] = {
                n: figure(paired_difference(c[asked[n]], other[n][asked[n]], numpy_generator(0, n)))
                for n, c in own.items()
            }
    return found


def table() -> None:
    """All cells of a data set, and a label, as one entry of the table."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(FOLDER.glob("*-*.json")):
        cell = read_json(path)
        groups.setdefault(f"{cell['data']} {cell['label']}".strip(), []).append(path)
    found = {}
    for name, paths in groups.items():
        first = [read_json(path) for path in paths]
        cells = [dict(np.load(path.with_suffix(".npz"))) for path in paths]
        found[name] = {"seeds": [cell["seed"] for cell in first], "users": first[0]["users"], "items": first[0]["items"],
                       "cold users": int(cells[0]["cold"].sum()), "cpu seconds": [cell["cpu_seconds"] for cell in first],
                       "rows": rows(cells)}  # fmt: skip
    write_result(FOLDER / "table.json", found)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "table"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default="cpu")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--label", default="", help="Distinguishes cells with other settings, e.g. -bce.")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    if arguments.what == "table":
        table()
    elif arguments.data is None:
        parser.error("train needs prepared data")
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        train(arguments)


if __name__ == "__main__":
    main()
