"""Why a decoded answer is no candidate's title: `python -m benchmarks.titles_answers RUN`, of a run with a trained stage 2.

Test users are answered by `generate`, and every answer that names no candidate is put in one class by its tokens (`kind_of`). The same
users are answered along the candidates' titles (`constrained`), which cannot fail; where the free answer is a title that is it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from allmrec.core.seeding import numpy_generator
from allmrec.data.texts import clean_text
from allmrec.evaluation import draw_protocol
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from allmrec.library import Run
from allmrec.prompting.tokenising import TitleTokens
from allmrec.recommend.alike import prompts_alike
from allmrec.recommend.answering import answer_words, answers, choices
from allmrec.recommend.generate import GenerateConfig
from allmrec.recommend.resolve import TitleResolver, template_quotes
from benchmarks.about import measured_by
from benchmarks.figures import figure, shown
from benchmarks.tables import RESULTS, write_result

__all__ = ["KINDS", "kind_of"]

# By the answer's tokens without EOS, the first that fits.
KINDS = {
    "other spelling": "but for capitals, blanks and punctuation a candidate's title",
    "stopped": "the beginning of a candidate's title",
    "went on": "a candidate's title and more behind it",
    "mixture": "the beginning of one candidate's title and the end of another's",
    "other": "begins like a candidate's title or like none, and goes on by itself",
}


def kind_of(answer: Sequence[int], titles: Sequence[Sequence[int]], text: str, shown_titles: Sequence[str]) -> str:
    """Which kind of answer that is no candidate's title; see `KINDS`.

    Args:
        answer: its tokens, EOS left out.
        titles: the candidates' tokens as the prompt shows them.
        text: the answer.
        shown_titles: the candidates' titles as the prompt shows them.
    """
    said = list(answer)
    if _plain(text) and _plain(text) in {_plain(title) for title in shown_titles}:
        return "other spelling"
    if any(list(title[: len(said)]) == said for title in titles):
        return "stopped"
    if any(said[: len(title)] == list(title) for title in titles):
        return "went on"
    begun = max(_common(said, title) for title in titles)
    # Where it left the title that it began with, or earlier: what follows is another title's end.
    if any(
        said[cut:] == list(title[-(len(said) - cut) :])
        for cut in range(1, begun + 1)
        for title in titles
        if len(title) >= len(said) - cut
    ):
        return "mixture"
    return "other"


def is_cut(run: Run, item: int) -> bool:
    """Whether the prompt shows only a title's beginning."""
    title = run.dataset.catalogue.titles[item]
    return title is not None and len(run.lm.tokenize(" " + title)) > run.config.tune.prompt.budget.title_tokens


def _alike(titles: TitleTokens, items: Sequence[int]) -> bool:
    return len({titles[item] for item in items}) < len(items)


def _plain(text: str) -> str:
    return "".join(c for c in clean_text(text).casefold() if c.isalnum())


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def measured(run: Run, users: int, examples: int, batch_size: int = 16) -> dict[str, Any]:
    """Counts by kind, examples, and Hit@1 of both ways to answer."""
    protocol = draw_protocol(run.split, "test", None, 20, 0).first(users)
    queries, shown_lists = protocol.queries(run.split), list(protocol.candidates)
    ranker = run.ranker()
    ranker.eval()
    titles = ranker.builder.titles
    resolver = TitleResolver(run.dataset.catalogue.titles, template_quotes(run.config.tune.prompt.template))
    named, walked = np.zeros(len(protocol)), np.zeros(len(protocol))
    kinds: Counter[str] = Counter()
    met: list[dict[str, Any]] = []
    beyond = 0
    for numbers in prompts_alike(ranker, queries, shown_lists, batch_size):
        found = answers(ranker, [queries[n] for n in numbers], [shown_lists[n] for n in numbers], GenerateConfig())
        for n, answer in zip(numbers, found, strict=True):
            items, target = shown_lists[n].tolist(), int(protocol.targets[n])
            words = [ranker.lm.detokenize(titles[item]) for item in items]
            said = answer_words(ranker.lm, answer, titles, items)
            resolution = resolver.resolve(said, items, words)
            beyond += resolution.kind == "candidate" and said != answer.text
            if resolution.kind == "candidate":
                # Along the titles the same tokens are likeliest, as all of them are a title's.
                named[n] = walked[n] = resolution.item == target
                continue
            (choice,) = choices(ranker, [queries[n]], [shown_lists[n]])
            walked[n] = items[choice.candidate] == target
            tokens = [titles[item] for item in items]
            kind = kind_of(answer.tokens, tokens, answer.text, words) if resolution.kind == "none" else resolution.kind
            kinds[kind] += 1
            nearest = max(items, key=lambda item: _common(answer.tokens, titles[item]))
            met.append({"kind": kind, "answer": answer.text, "ended": answer.ended,
                        "nearest": ranker.lm.detokenize(titles[nearest]), "its title": run.dataset.catalogue.titles[nearest],
                        "cut": is_cut(run, nearest), "the target's": nearest == target,
                        "constrained": ranker.lm.detokenize(tokens[choice.candidate])})  # fmt: skip
        print(f"  {len(met)} invalid so far, {len(numbers)} more answers", flush=True)

    def value(values: np.ndarray) -> list[float]:
        return figure(bootstrap_mean(values, numpy_generator(0, "titles answers")))

    less = figure(paired_difference(walked, named, numpy_generator(0, "titles answers")))
    return {
        "answers": len(protocol),
        "invalid": len(met),
        "valid that went on behind a cut title": beyond,
        "kinds": {
            kind: {"answers": count} | {what: sum(one[what] for one in met if one["kind"] == kind) for what in ("ended", "cut", "the target's")}
            for kind, count in kinds.most_common()
        },
        "titles that are cut": float(np.mean([is_cut(run, item) for row in shown_lists for item in row.tolist()])),
        "lists that show two titles alike": float(np.mean([_alike(ranker.builder.titles, row.tolist()) for row in shown_lists])),
        "Hit@1": {"generate": value(named), "constrained": value(walked), "constrained less generate": less},
        "examples": _examples(met, examples),
    }  # fmt: skip


def _examples(met: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first few of each kind."""
    return [
        one
        for kind in dict.fromkeys(one["kind"] for one in met)
        for one in [o for o in met if o["kind"] == kind][:count]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--examples", type=int, default=5, help="of each kind and run")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "titles-answers.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("titles_answers")
    rows = {
        place.name: measured(Run.open(place, "cpu"), arguments.users, arguments.examples) for place in arguments.runs
    }
    write_result(arguments.output, about | {"kinds": KINDS, "runs": rows})
    table = Table("run", "answers", "valid", *KINDS, "generate", "constrained")
    for name, row in rows.items():
        counts = [str(row["kinds"].get(kind, {"answers": 0})["answers"]) for kind in KINDS]
        table.add_row(name, str(row["answers"]), f"{1 - row['invalid'] / row['answers']:.3f}", *counts,
                      *(shown(row["Hit@1"][way]) for way in ("generate", "constrained")))  # fmt: skip
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
