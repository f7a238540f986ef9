"""`python -m benchmarks.generate_speed`: what an answer costs by score, by decoding, and by score as others would do it.

Everything answers the same users with SmolLM2, in turns of a few users, so that whatever else the machine does meets
all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from transformers import DynamicCache

from allmrec.prompting.splicing import SplicedPrompts, splice
from allmrec.ranking import Query
from allmrec.recommend.generate import Answer, Choice, constrained_choices, greedy_answers
from allmrec.recommend.score import TitleTree
from benchmarks.about import measured_on
from benchmarks.scoring import Workload, check_same_scores, movielens_workload, one_at_a_time
from benchmarks.tables import RESULTS, write_result

_SCORE = "score"
_WAYS = {
    "prompt alone": "the prompt read once and nothing said: no way can be faster",
    _SCORE: "all titles of a user in one pass over a prefix tree, 2 users a pass",
    "one at a time": "score with the prompt cached once, the titles behind it one after another",
    "expanded": "score with the prompt cached once and the cache copied for each title, all titles of a user at once",
    "generate": "greedy decoding, 2 users at a time, as many tokens as the target's title and its end",
    "constrained": "greedy decoding along the candidates' titles, 2 users at a time, until one title is left",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=24, help="how many users each way answers; a multiple of 2")
    parser.add_argument("--profile", action="store_true", help="say what score spends its time on")
    arguments = parser.parse_args()
    command = f"python -m benchmarks.generate_speed --users {arguments.users}" + " --profile" * arguments.profile
    results = measure(arguments.users)
    if arguments.profile:
        results["profile"] = profiled(movielens_workload(4))
    show(results)
    path = RESULTS / f"generate-speed-{datetime.now(UTC):%Y-%m-%d}.json"
    write_result(path, measured_on(command) | results)
    print(f"Written: {path}")


def measure(users: int, turn: int = 2) -> dict[str, Any]:
    """Seconds of each way over the same users, in turns; what scores the same titles must find the same scores.

    Processor seconds are given beside: on a machine that others use they vary less than the clock's.
    """
    work = movielens_workload(users)
    ways: dict[str, Callable[[list[Query], list[np.ndarray]], Any]] = {
        "prompt alone": lambda q, c: prompts_alone(work, q, c),
        _SCORE: work.tree.rank,
        "one at a time": lambda q, c: one_at_a_time(work.lm, work.builder, q, c),
        "expanded": lambda q, c: expanded(work, q, c),
        "generate": lambda q, c: generated(work, q, c),
        "constrained": lambda q, c: constrained(work, q, c),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    computed: dict[str, float] = dict.fromkeys(ways, 0.0)
    answered: dict[str, list[Any]] = {name: [] for name in ways}
    for way in ways.values():
        way(work.queries[:1], work.candidates[:1])
    for start in range(0, users, turn):
        queries, candidates = work.queries[start : start + turn], work.candidates[start : start + turn]
        for name, way in ways.items():
            began, busy = time.perf_counter(), time.process_time()
            found = way(queries, candidates)
            seconds[name].append(time.perf_counter() - began)
            computed[name] += time.process_time() - busy
            answered[name] += found
    for name in ("one at a time", "expanded"):
        check_same_scores(answered[_SCORE], answered[name], work.candidates)
    return {
        "users": users,
        "prompt_tokens": float(np.mean([len(p) for p in prompts_of(work, work.queries, work.candidates)])),
        "tree_tokens": float(np.mean([len(trees_of(work, [items])[0].tokens) for items in work.candidates])),
        "generated_tokens": float(np.mean([len(a.tokens) + a.ended for a in answered["generate"]])),
        "ways": [
            {
                "way": name,
                "what": _WAYS[name],
                "users_per_second": users / sum(times),
                "score_is_faster_by": sum(times) / sum(seconds[_SCORE]),
                "processor_seconds_per_user": computed[name] / users,
                "score_takes_less_processor_by": computed[name] / computed[_SCORE],
                "by_turn": [a / b for a, b in zip(times, seconds[_SCORE], strict=True)],
            }
            for name, times in seconds.items()
        ],
    }


def prompts_of(work: Workload, queries: list[Query], candidates: list[np.ndarray]) -> list[Any]:
    return [
        work.builder.build(q.history.tolist(), c.tolist(), work.builder.longest_answer(c.tolist()))
        for q, c in zip(queries, candidates, strict=True)
    ]


def spliced(work: Workload, queries: list[Query], candidates: list[np.ndarray]) -> SplicedPrompts:
    return splice(prompts_of(work, queries, candidates), work.lm, None, None)


def trees_of(work: Workload, candidates: list[np.ndarray]) -> list[TitleTree]:
    return [TitleTree.build([work.builder.titles[int(i)] for i in c], work.lm.eos_id) for c in candidates]


def prompts_alone(work: Workload, queries: list[Query], candidates: list[np.ndarray]) -> list[None]:
    """What every way has to do."""
    prompts = spliced(work, queries, candidates)
    with torch.inference_mode():
        work.lm.hidden(prompts.embeddings, None, prompts.positions)
    return [None] * len(queries)


def generated(work: Workload, queries: list[Query], candidates: list[np.ndarray]) -> list[Answer]:
    """Free decoding. This model was not trained to end a title, so it stops where a trained one would have ended."""
    limits = [len(work.builder.titles[int(items[0])]) + 1 for items in candidates]
    return greedy_answers(work.lm, spliced(work, queries, candidates), limits)


def constrained(work: Workload, queries: list[Query], candidates: list[np.ndarray]) -> list[Choice]:
    """Decoding that can only name a candidate."""
    return constrained_choices(work.lm, spliced(work, queries, candidates), trees_of(work, candidates))


def expanded(work: Workload, queries: list[Query], candidates: list[np.ndarray]) -> list[list[float]]:
    """The comparator: the prompt once, its cache copied for each candidate, the titles padded into one batch."""
    lm, model = work.lm, work.lm.frozen.module
    results = []
    with torch.inference_mode():
        for prompt, items in zip(prompts_of(work, queries, candidates), candidates, strict=True):
            titles = [[*work.builder.titles[int(item)], lm.eos_id] for item in items]
            longest = max(map(len, titles))
            cache = DynamicCache(config=model.config)
            ids = torch.from_numpy(prompt.ids)[None]
            last = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
            cache.batch_repeat_interleave(len(titles))
            # Padding on the right is seen by nothing real, so it needs no mask.
            rows = torch.tensor([title[:-1] + [0] * (longest - len(title)) for title in titles])
            output = model.base_model(input_ids=rows, past_key_values=cache, use_cache=True)
            states = torch.cat([last.expand(len(titles), -1, -1), output.last_hidden_state], dim=1)
            real = torch.arange(longest) < torch.tensor([len(title) for title in titles])[:, None]
            steps = lm.logits(states[real]).log_softmax(dim=-1)
            said = steps[torch.arange(len(steps)), torch.tensor([token for title in titles for token in title])]
            results.append([float(part.sum()) for part in said.split([len(title) for title in titles])])
    return results


def profiled(work: Workload) -> dict[str, float]:
    """Shares of score's time by kind of operation; those under a hundredth are left out."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work.tree.rank(work.queries, work.candidates)
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = {event.key: event.self_cpu_time_total / total for event in events}
    return {name: share for name, share in sorted(shares.items(), key=lambda pair: -pair[1]) if share >= 0.01}


def show(results: dict[str, Any]) -> None:
    """As tables."""
    table = Table("way", "users/s", "score is faster by", "in processor time")
    for row in results["ways"]:
        ratios = (f"{row[key]:.2f}" for key in ("score_is_faster_by", "score_takes_less_processor_by"))
        table.add_row(row["way"], f"{row['users_per_second']:.3g}", *ratios)
    console = Console()
    console.print(table)
    sizes = ("prompt_tokens", "tree_tokens", "generated_tokens")
    console.print(", ".join(f"{name.replace('_', ' ')}: {results[name]:.0f}" for name in sizes))
    for name, share in results.get("profile", {}).items():
        console.print(f"{share:6.1%} {name}")


if __name__ == "__main__":
    main()
