"""`python -m benchmarks.genres RUN`: whether a run's vectors help its language model to name an item's genres."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from allmrec.core.artifacts import write_json
from allmrec.core.seeding import numpy_generator
from allmrec.evaluation.genres import judge_genres
from allmrec.pipeline.run import Run
from allmrec.ranking import Query
from allmrec.recommend.explain import Explainer
from benchmarks.about import measured_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run whose data have categories")
    parser.add_argument("--users", type=int, default=100, help="test users, each with their own test item")
    parser.add_argument("--untrained", action="store_true", help="with stage 2 as it is initialised")
    parser.add_argument("--name", default="genres", help="name of the file under benchmarks/results")
    arguments = parser.parse_args()
    about = measured_on(" ".join(["python -m benchmarks.genres", *sys.argv[1:]]))
    run = Run.open(arguments.run)
    split = run.split
    with_test = np.flatnonzero(split.test > 0)
    users = numpy_generator(0, "genres", "users").permutation(with_test)[: arguments.users]
    queries = [Query(split.test_history(int(u)), int(u)) for u in users]
    items = split.test[users].tolist()
    explainer = Explainer(run.ranker(trained=not arguments.untrained))
    own = explainer.texts(queries, items)
    shuffled = explainer.texts(queries, items, shuffle=numpy_generator(0, "genres", "shuffle"))
    catalogue = run.dataset.catalogue
    found = judge_genres(own, shuffled, items, catalogue, numpy_generator(0, "genres", "intervals"))
    for name in ("own", "shuffled", "difference"):
        estimate = getattr(found, name)
        print(f"{name:>10}: {estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})")
    print(f"{found.pairs} pairs; no genre named: {found.silent} own, {found.silent_shuffled} shuffled")
    examples = [
        {"title": catalogue.titles[item], "genres": catalogue.categories[item], "own": a, "shuffled": b}
        for item, a, b in zip(items[:5], own, shuffled, strict=False)
    ]
    path = Path(__file__).parent / "results" / f"{arguments.name}.json"
    write_json(path, about | {"trained": not arguments.untrained, "precision": asdict(found), "examples": examples})
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
