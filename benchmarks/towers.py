"""Text beside behaviour over the whole catalogue: the recipe's CF model, its text tower and both, on each test user.

    python -m benchmarks.towers train data/beauty --seed 0 --runs runs
    python -m benchmarks.towers table

`train` makes the run RUNS/towers-NAME-LABEL-SEED by a recipe as it ships (`--set` changes a field), trains the CF model, the text tower
and their weights, ranks every test user's target among all items and among 20 candidates, and stores the ranks, all cells of a set in one file. `table` computes
figures of all seeds together: the mean over seeds for each user, then a bootstrap over users; differences are paired with the CF
model. Cold are users whose target is among the coldest 35 % of items. "Either" is right where the CF model or the text tower is:
what any fusion of the two could reach at the most (EnsRec's Genie bound).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int32

from allmrec.cf.backbone import Backbone
from allmrec.cf.fused import FusedBackbone, emphasis, rarity
from allmrec.cf.fused_weights import Tried, best_within
from allmrec.cf.recommender import query_batch
from allmrec.core.artifacts import read_json
from allmrec.core.memory import peak_memory
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split
from allmrec.evaluation import draw_protocol
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import target_ranks
from allmrec.evaluation.rank_files import NOT_ASKED, Asked, Kept, as_ranks, kept
from allmrec.evaluation.scenarios import scenario_masks
from allmrec.library import Run
from allmrec.ranking import Query
from allmrec.recipes.files import load_recipe, parse_changes
from allmrec.store.stages import stage_record
from allmrec.systems.registry import checked_settings, open_systems, system_kind, train_systems
from benchmarks.about import measured_by
from benchmarks.figures import Figure, figure
from benchmarks.full_catalogue import ranks
from benchmarks.tables import RESULTS, add_cell, cells_of, read_table, table_ranks, write_result

# Shares given up at which only means are kept: what cold items gain, and what it costs.
GIVEN_UP_TRIED = (0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12)

FOLDER = RESULTS / "towers"
SYSTEMS = ("backbone", "text-tower", "towers")
MEASURES = ("NDCG@10", "Hit@10", "cold Hit@10", "Hit@1 of 20", "cold Hit@1 of 20")

# A row beside the systems': 1 for users whose target is cold.
COLD = "target is cold"
# Ranks beyond these, among all items and among 20, are kept as a miss: no measure looks so far, and files stay small.
FAR, FAR_OF_20 = 10, 1

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
    cell, path = f"{arguments.label} seed {arguments.seed}".strip(), FOLDER / f"{arguments.data.name}.json"
    if cell in cells_of(read_table(path)) and not arguments.again:
        print(f"{arguments.data.name}, {cell}: there already")
        return
    about = measured_by("towers")
    recipe = checked_settings(load_recipe(arguments.recipe, {"seed": arguments.seed} | parse_changes(arguments.set)))
    data = InteractionDataset.load(arguments.data)
    parts = ("towers", arguments.data.name, arguments.label, str(arguments.seed))
    place = arguments.runs / "-".join(part for part in parts if part)
    run = Run.open(place) if place.is_dir() else Run.create(place, data, recipe, "cpu")
    precision = run.config.pretrain.model.model_dump()["objective"]["precision"]
    train_systems(run, [recipe.pretrain.backbone, "towers"], print)
    split = run.split
    protocol = draw_protocol(split, "test", None, recipe.evaluation.candidates, 0)
    users = protocol.users
    queries = protocol.queries(split)
    cold = scenario_masks(protocol, split)["cold items"]
    ranks_of: dict[str, Kept] = {COLD: np.where(cold, 1, NOT_ASKED).astype(np.int16)}
    costs: dict[str, Any] = {}

    def rank(key: str, ranker: Any) -> None:
        ranks_of[key] = near(catalogue_ranks(ranker.backbone, split, users), FAR)
        parts = [slice(start, start + 512) for start in range(0, len(users), 512)]
        found = [
            target_ranks(ranker.rank(queries[part], list(protocol.candidates[part])), protocol.targets[part])
            for part in parts
        ]
        ranks_of[f"{key}/20"] = near(np.concatenate(found).astype(np.int32) - 1, FAR_OF_20)
        print(f"{key}: NDCG@10 {means(ranks_of, key)['NDCG@10'].mean():.4f}", flush=True)

    log = read_json(run.path / run.stage(system_kind("towers").stages(run.config)[-1]).place / "log.json")
    for name, system in open_systems(run, ["backbone", "text-tower", "towers"]).items():
        key = "backbone" if name == recipe.pretrain.backbone else name
        ranker: Any = system.ranker
        rank(key, ranker)
        if name == "towers":
            both: FusedBackbone = ranker.backbone
            counts = split.train_counts()
            tried = [Tried(**one) for one in log["tried"]]
            curve = rarity_curve(both, counts, tried, split, users, ranks_of)
        of, stages = system_kind(name).job(run)
        record = stage_record(run.path, of.stage(stages[-1]))
        costs[key] = {
            field: record[field] for field in ("seconds", "steps", "best_step", "best_value") if field in record
        }
    found_here = {
        "data": arguments.data.name, "label": arguments.label, "seed": arguments.seed, "recipe": arguments.recipe, "changes": arguments.set,
        "users": len(users), "items": data.n_items, "peak_memory": peak_memory(), "precision": precision, "weights": log["weights"],
        "chosen": log["chosen"], "costs": costs, "by_share_given_up": curve,
    }  # fmt: skip
    ranks_kept = {f"{cell}/{key}": row for key, row in ranks_of.items()}
    add_cell(path, cell, about | found_here, Asked.of(protocol), ranks_kept)
    print(f"{arguments.data.name}, {cell}: written", flush=True)


def with_weights(both: FusedBackbone, counts: np.ndarray, of: Tried) -> FusedBackbone:
    """The same models with other weights of rarity and emphasis."""
    return FusedBackbone(both.parts, both.weights, rarity(counts, of.rarity), emphasis(counts, of.emphasis))


def rarity_curve(
    both: FusedBackbone,
    counts: np.ndarray,
    tried: list[Tried],
    split: Split,
    users: np.ndarray,
    ranks_of: dict[str, Kept],
) -> list[dict[str, Any]]:
    """Means on the test users for each share given up on validation; shares that lead to the same weights stand together.

    The interval is of cold Hit@10 over the CF model's, by a bootstrap over the users whose target is cold.
    """
    shares_of: dict[Tried, list[float]] = {}
    for share in GIVEN_UP_TRIED:
        shares_of.setdefault(best_within(tried, share), []).append(share)
    cf = means(ranks_of, "backbone")["cold Hit@10"]
    of_cold = ~np.isnan(cf)
    draws = numpy_generator(0, "cold").integers(0, of_cold.sum(), (1000, of_cold.sum()))
    found = []
    for one, shares in shares_of.items():
        ranked = near(catalogue_ranks(with_weights(both, counts, one), split, users), FAR)
        own = means(ranks_of | {"tried": ranked, "tried/20": ranks_of["backbone/20"]}, "tried")
        hits, of_cf = own["cold Hit@10"][of_cold], cf[of_cold]
        ratios = hits[draws].mean(axis=1) / np.maximum(of_cf[draws].mean(axis=1), 1e-12)
        found.append({"shares": shares, "rarity": one.rarity, "emphasis": one.emphasis} | {name: round(float(np.nanmean(own[name])), 6) for name in ("NDCG@10", "Hit@10", "cold Hit@10")}
                     | {"times_cf": [round(float(value), 3) for value in (hits.mean() / of_cf.mean(), *np.percentile(ratios, [2.5, 97.5]))]})  # fmt: skip
    return found


def near(ranks: Ranks, far: int) -> Kept:
    """Ranks from 0 as they are stored: from 1, and a miss from `far` on."""
    return kept(np.where(ranks < far, ranks + 1.0, np.inf))


def means(stored: Mapping[str, Kept], key: str) -> dict[str, Float64[np.ndarray, " users"]]:
    """Each user's value of the measures; NaN where a measure does not ask about the user."""
    keys = ("backbone", "text-tower") if key == "either" else (key,)
    whole, few = (np.min([as_ranks(stored[one + end]) for one in keys], axis=0) - 1 for end in ("", "/20"))
    cold = stored[COLD] == 1
    hit, first = (whole < 10).astype(np.float64), (few < 1).astype(np.float64)
    return {
        "NDCG@10": np.where(whole < 10, 1 / np.log2(np.minimum(whole, FAR) + 2.0), 0.0),
        "Hit@10": hit,
        "cold Hit@10": np.where(cold, hit, np.nan),
        "Hit@1 of 20": first,
        "cold Hit@1 of 20": np.where(cold, first, np.nan),
    }


def rows(cells: list[dict[str, Kept]]) -> dict[str, dict[str, dict[str, Figure]]]:
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


def by_share(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What cold items gain at each share given up: means over the seeds, and each seed's ratio to its CF model."""
    found = []
    for share in GIVEN_UP_TRIED:
        of = [next(one for one in cell["by_share_given_up"] if share in one["shares"]) for cell in cells]
        found.append({"share": share, "rarity": [one["rarity"] for one in of], "emphasis": [one["emphasis"] for one in of], "times_cf": [one["times_cf"][0] for one in of]}
                     | {name: round(float(np.mean([one[name] for one in of])), 6) for name in ("NDCG@10", "Hit@10", "cold Hit@10")})  # fmt: skip
    return found


def ranks_of_cell(stored: Mapping[str, Kept], cell: str) -> dict[str, Kept]:
    """Ranks of one cell by system, and whose target is cold."""
    start = f"{cell}/"
    return {key.removeprefix(start): row for key, row in stored.items() if key.startswith(start)}


def table() -> None:
    """All cells of a data set, and a label, as one entry of the table."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        if path.stem == "table":
            continue
        stored = table_ranks(path, Asked(**read_table(path)["protocol"]))
        by_label: dict[str, dict[str, dict[str, Any]]] = {}
        for name, cell in sorted(cells_of(read_table(path)).items()):
            by_label.setdefault(cell["label"], {})[name] = cell
        for label, cells in by_label.items():
            of = list(cells.values())
            ranks_of = [ranks_of_cell(stored, name) for name in cells]
            found[f"{path.stem} {label}".strip()] = {
                "seeds": [cell["seed"] for cell in of], "changes": [cell["changes"] for cell in of],
                "users": of[0]["users"], "items": of[0]["items"], "cold users": int((ranks_of[0][COLD] == 1).sum()),
                "minutes": [round(sum(part["seconds"] for part in cell["costs"].values()) / 60, 1) for cell in of],
                "rows": rows(ranks_of), "by_share_given_up": by_share(of),
            }  # fmt: skip
    write_result(FOLDER / "table.json", found)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "table"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default="cpu")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--label", default="", help="Distinguishes cells with other settings, e.g. bce.")
    parser.add_argument("--again", action="store_true", help="Rank anew by the run that is there.")
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
