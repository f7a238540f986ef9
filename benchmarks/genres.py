"""`python -m benchmarks.genres RUN`: which genres a run's language model names, of items and of users, and what tells it.

A-LLMRec is asked with its own vectors and with exchanged ones, LLM-Only and, where the run has it, TALLRec with the same words
without slots. Of an item its own genres are right. Of a user those of the next item are, which nobody has seen, and by themselves
those of the history's majority.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allmrec.baselines.tallrec import TALLRec
from allmrec.cli.options import chosen_device
from allmrec.core.seeding import numpy_generator
from allmrec.evaluation.genres import evaluate_genres, item_genres, majority_genres
from allmrec.library import Run
from allmrec.prompting.questions import Question
from allmrec.ranking import Query
from allmrec.recommend.explain import Explainer, PromptReader
from allmrec.systems.registry import open_systems, trained_systems
from benchmarks.about import measured_by
from benchmarks.figures import shown
from benchmarks.tables import RESULTS, write_result

OWN, EXCHANGED = "A-LLMRec", "A-LLMRec, vectors exchanged"


def readers(run: Run, trained: bool = True) -> dict[str, PromptReader]:
    """Who is asked: A-LLMRec first, then those that read words alone."""
    names = ["llm-only", *(name for name in trained_systems(run)[0] if name == "tallrec")]
    found: dict[str, PromptReader] = {OWN: run.ranker(trained)}
    for system in open_systems(run, names).values():
        asked: Any = system.ranker
        found[asked.name] = asked.reader if isinstance(asked, TALLRec) else asked
    return found


def said(
    run: Run,
    asked: dict[str, PromptReader],
    question: Question,
    queries: Sequence[Query],
    items: Sequence[int] | None = None,
) -> dict[str, list[str]]:
    """What each says, A-LLMRec with exchanged vectors too."""
    texts: dict[str, list[str]] = {}
    for name, reader in asked.items():
        explainer = Explainer(reader, question, run.config.answer.explain)
        texts[name] = explainer.texts(queries, items)
        if name == OWN:
            texts[EXCHANGED] = explainer.texts(queries, items, shuffle=numpy_generator(0, "genres", "shuffle"))
        print(f"  {name}: {len(queries)} {'users' if items is None else 'items'} asked", flush=True)
    return texts


def measured(run: Run, count: int, trained: bool = True, examples: int = 5) -> dict[str, Any]:
    """All comparisons and a few answers, for `count` users of whose test item the genres are known."""
    catalogue, split, explain = run.dataset.catalogue, run.split, run.config.answer.explain
    known = np.array([bool(genres) for genres in catalogue.categories])
    users = numpy_generator(0, "genres", "users").permutation(np.flatnonzero(known[split.test]))[:count]
    if not len(users):
        sys.exit(
            f"No test item of {run.path} has categories, so no genre can be right. Prepare the data with categories."
        )
    queries = [Query(split.test_history(int(user)), int(user)) for user in users]
    items = [int(item) for item in split.test[users]]
    of_items, of_histories = item_genres(items, catalogue), majority_genres([q.history for q in queries], catalogue)
    asked = readers(run, trained)
    item_texts, user_texts = (
        said(run, asked, explain.genres, queries, items),
        said(run, asked, explain.profile, queries),
    )
    intervals = numpy_generator(0, "genres", "intervals")
    found = {
        "items": {"the item": asdict(evaluate_genres(item_texts, of_items, catalogue, intervals))},
        "users": {
            "the next item": asdict(evaluate_genres(user_texts, of_items, catalogue, intervals)),
            "the history's majority": asdict(evaluate_genres(user_texts, of_histories, catalogue, intervals)),
        },
    }
    return {
        "trained": trained,
        "title_weight": run.config.tune.title_weight,
        "llm": run.config.llm.name,
        "form": run.config.tune.prompt.template.form,
        "slots": run.config.tune.prompt.slots,
        "explain": explain.model_dump(mode="json"),
        "right": found,
        "examples": {
            "items": [
                {
                    "title": catalogue.titles[item],
                    "genres": catalogue.categories[item],
                    "said": {name: texts[n] for name, texts in item_texts.items()},
                }
                for n, item in enumerate(items[:examples])
            ],
            "users": [
                {
                    "latest": [catalogue.titles[item] for item in queries[n].history[-5:]],
                    "majority": sorted(of_histories[n]),
                    "next": catalogue.titles[item],
                    "next_genres": catalogue.categories[item],
                    "said": {name: texts[n] for name, texts in user_texts.items()},
                }
                for n, item in enumerate(items[:examples])
            ],
        },
    }


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print precision, base rate and differences."""

    for about, by_truth in found.items():
        for truth, comparison in by_truth.items():
            print(f"Of {comparison['answers']} {about}, right are the genres of {truth}")
            for name, system in comparison["systems"].items():
                print(f"  {name}: precision {shown(list(system['precision'].values()))}, {shown(list(system['above_base_rate'].values()), '+')} above the "
                      f"most frequent genres; {system['named']:.1f} named, {system['silent']} silent")  # fmt: skip
            for name, estimate in comparison["differences"].items():
                print(f"  {OWN} less {name}: {shown(list(estimate.values()), '+')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run whose data have categories")
    parser.add_argument("--users", type=int, default=100, help="test users, each with their own test item")
    parser.add_argument("--untrained", action="store_true", help="with stage 2 as it is initialised")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")
    parser.add_argument("--name", default="genres", help="name of the file under benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("genres")
    run = Run.open(arguments.run, chosen_device(arguments.device))
    found = measured(run, arguments.users, trained=not arguments.untrained)
    show(found["right"])
    path = RESULTS / f"{arguments.name}.json"
    write_result(path, about | found)
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
