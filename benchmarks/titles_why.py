"""Why A-LLMRec by titles is below its CF model: `python -m benchmarks.titles_why RUN`, of a run with a trained stage 2.

Both rank the samples that stage 2 learned from (each user's last training item, negatives drawn anew) and test items. A
system that fits too much is good on the first and poor on the second; one that cannot fit is alike on both. Test users are
also taken apart by how far the CF model's first choice is ahead of its second, in deviations of the user's scores.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from allmrec.cf.backbone import Backbone
from allmrec.cf.recommender import query_batch
from allmrec.core.progress import track
from allmrec.core.seeding import numpy_generator
from allmrec.data.negatives import sample_negatives
from allmrec.evaluation import draw_protocol
from allmrec.evaluation.intervals import bootstrap_mean
from allmrec.library import Run
from allmrec.ranking import Query
from allmrec.recommend.language_ranker import normalised
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.samples import training_positions
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

__all__ = ["Scores", "cf_scores", "scored", "title_scores"]

Scores = Float[np.ndarray, "users candidates"]
_MARGINS = (0.0, 0.2, 0.5, 1.0, np.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--users", type=int, default=480)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "titles-why.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("titles_why")
    run = Run.open(arguments.run, arguments.device)
    ranker = run.ranker()
    ranker.eval()
    ranker.keeps_items = True
    rows: dict[str, Any] = {}
    for name, (queries, candidates) in {
        "training": trained_on(run, arguments.users),
        "test": tested_on(run, arguments.users),
    }.items():
        by_titles, by_cf = scored(ranker, queries, candidates, name)
        rows[name] = {"users": len(queries), "titles": hit(by_titles), "cf": hit(by_cf)}
    rows["by_margin"] = by_margin(by_titles, by_cf)
    write_result(arguments.output, about | rows)
    shown = Table("users", "how many", "by titles", "CF model", "same first choice")
    for name in ("training", "test"):
        shown.add_row(name, str(rows[name]["users"]), f"{rows[name]['titles']['value']:.3f}", f"{rows[name]['cf']['value']:.3f}", "")  # fmt: skip
    for row in rows["by_margin"]:
        shown.add_row(f"margin {row['from']}-{row['to']}", str(row["users"]), *(f"{row[k]:.3f}" for k in ("titles", "cf", "agree")))  # fmt: skip
    Console().print(shown)


Asked = tuple[Sequence[Query], Int[np.ndarray, "users candidates"]]


def trained_on(run: Run, users: int) -> Asked:
    """Users' last training items among 19 others; the target comes first."""
    rng = numpy_generator(run.config.seed, "titles why")
    split = run.split
    owners, places = training_positions(split, "last")
    chosen = rng.permutation(len(owners))[:users]
    owners, places = owners[chosen], places[chosen]
    targets = split.dataset.item_numbers[split.dataset.offsets[owners] + places]
    negatives = sample_negatives(split.training_part(), owners, 19, rng)
    queries = [Query(split.dataset.sequence(int(u))[:p], int(u)) for u, p in zip(owners, places, strict=True)]
    return queries, np.concatenate([targets[:, None], negatives], axis=1)


def tested_on(run: Run, users: int) -> Asked:
    """The first test users and the candidates that every table has; the target comes first."""
    protocol = draw_protocol(run.split, "test", None, 20, 0).first(users)
    others = [row[row != target] for row, target in zip(protocol.candidates, protocol.targets, strict=True)]
    return protocol.queries(run.split), np.concatenate([protocol.targets[:, None], np.stack(others)], axis=1)


@torch.inference_mode()
def title_scores(
    ranker: PromptedRanker, queries: Sequence[Query], candidates: Int[np.ndarray, "users candidates"], what: str
) -> Scores:
    """Titles' log-likelihoods."""
    rows: list[Any] = []
    for start in track(range(0, len(queries), 16), what, None):
        part = slice(start, start + 16)
        rows += [normalised(row, "sum") for row in ranker.title_likelihoods(queries[part], list(candidates[part]))]
    return np.stack(rows)


@torch.inference_mode()
def cf_scores(backbone: Backbone, queries: Sequence[Query], candidates: Int[np.ndarray, "users candidates"]) -> Scores:
    """x_u · E_i."""
    states = backbone.user_vectors(query_batch(queries, backbone.max_history))
    vectors = backbone.item_vectors()[torch.from_numpy(candidates).to(states.device)]
    return torch.einsum("bd,bcd->bc", states, vectors).float().cpu().numpy()


def scored(
    ranker: PromptedRanker, queries: Sequence[Query], candidates: Int[np.ndarray, "users candidates"], what: str
) -> tuple[Scores, Scores]:
    """Scores by titles, and the CF model's."""
    return title_scores(ranker, queries, candidates, what), cf_scores(ranker.backbone, queries, candidates)


def hit(scores: Scores) -> dict[str, float]:
    """Hit@1 with its interval; a tie counts against the target."""
    right = (scores[:, :1] > scores[:, 1:]).all(axis=1).astype(np.float64)
    return vars(bootstrap_mean(right, numpy_generator(0, "titles why")))


def by_margin(titles: Scores, cf: Scores) -> list[dict[str, Any]]:
    """Both by how sure the CF model is."""
    ordered = np.sort((cf - cf.mean(axis=1, keepdims=True)) / cf.std(axis=1, keepdims=True), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    rows = []
    for low, high in itertools.pairwise(_MARGINS):
        of = (margin >= low) & (margin < high)
        first, second = titles[of].argmax(axis=1), cf[of].argmax(axis=1)
        rows.append({"from": low, "to": None if np.isinf(high) else high, "users": int(of.sum()),
                     "titles": float((first == 0).mean()), "cf": float((second == 0).mean()),
                     "agree": float((first == second).mean())})  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
