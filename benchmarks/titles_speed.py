"""Titles in the form `copy`, items read once, against plain ways: `python -m benchmarks.titles_speed`.

The compared ways take turns, so that other work on the machine slows all alike. A rate is a median over the turns; a ratio
is the median of the ratios within a turn. The prompt is that of benchmarks/titles.toml; the CF model and the joint vectors
are random, because nothing here depends on what they say. Training is compared in samples a second, which says nothing of
how many samples a way needs to become as good.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.packaged import movielens_100k
from allmrec.core.precision import precision_here
from allmrec.core.seeding import seeded_torch
from allmrec.data.build import read_movielens
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBudget
from allmrec.ranking import Query
from allmrec.recipes.files import load_recipe
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.score import TitleTree, mean_title_loss
from allmrec.recommend.tune import StageTwoBatch, TuneConfig, stage_two_batches
from benchmarks.about import measured_by
from benchmarks.scoring import spliced_one_at_a_time
from benchmarks.tables import RESULTS, write_result

__all__ = ["Questions", "Trainer", "precisions", "same_results", "scoring", "single_prompts_loss", "training"]

Loss = Callable[[PromptedRanker, StageTwoBatch], Tensor]

# What `ALLMRec` scores in one forward pass, unless it is told otherwise.
_USERS_AT_ONCE = 8

# A measured way's clock and processor seconds, one row a turn.
Seconds = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=40, help=f"users to score; a multiple of {_USERS_AT_ONCE} is best")
    parser.add_argument("--steps", type=int, default=12, help="training steps of each way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the language model in scoring and training; the comparison of precisions always has both",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = measured_by("titles_speed")
    results = measure(arguments.users, arguments.steps, arguments.precision)
    show(results)
    path = RESULTS / "titles-speed.json"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    write_result(path, about | results | {"peak_rss_gb": peak})
    print(f"Written: {path}")


def measure(users: int, steps: int, precision: str) -> dict[str, Any]:
    """All three comparisons on MovieLens-100K with SmolLM2."""
    recipe = load_recipe(str(Path(__file__).parent / "titles.toml"))
    tune = recipe.tune.model_copy(update={"validation_users": 0})
    split = leave_one_out(read_movielens(movielens_100k()), hold_out=recipe.held_out_targets)
    auto = precision_here(torch.device("cpu"))
    lms = {name: load_language_model(recipe.llm.name, precision=name) for name in ("float32", "bfloat16")}
    chosen = auto if precision == "auto" else precision
    protocol = draw_protocol(split)
    asked = Questions.of(protocol, split, users)
    # In float32, where equal scores are equal to many digits.
    plain = random_ranker(lms["float32"], split, tune.prompt)
    alike = same_results(plain, asked.first(2), batches_of(plain, split, tune, 1)[0])
    found, sizes = scoring(random_ranker(lms[chosen], split, tune.prompt), asked, protocol)
    rows = found + training(lms[chosen], split, tune, steps) + precisions(lms, split, tune, asked, max(2, steps // 4))
    return {
        "precision": chosen,
        "auto": auto,
        "samples_per_second": "Training rows are samples a second, not time to equal quality: the shared batch has less "
        "varied negatives (one pool a batch) and another form than the paper's.",
        "largest_difference_of_scores_in_float32": alike,
        "scoring": sizes,
        "results": rows,
    }


@dataclass(frozen=True)
class Questions:
    """Queries with their candidates."""

    queries: list[Query]
    candidates: list[np.ndarray]

    @classmethod
    def of(cls, protocol: EvaluationProtocol, split: Split, users: int) -> Questions:
        """The first users of a protocol."""
        first = protocol.first(users)
        return cls(first.queries(split), list(first.candidates.astype(np.int64)))

    def first(self, count: int) -> Questions:
        return Questions(self.queries[:count], self.candidates[:count])

    def turns(self, size: int = _USERS_AT_ONCE) -> list[Questions]:
        """The same in turns; users that fill none are left out, unless there are no others."""
        starts = range(0, max(size, len(self.queries) - size + 1), size)
        return [Questions(self.queries[n : n + size], self.candidates[n : n + size]) for n in starts]


def random_ranker(lm: TransformersLM, split: Split, prompt: PromptConfig) -> PromptedRanker:
    """Stage 2 behind a random SASRec and random joint vectors of the usual size; the same weights for every caller."""
    with seeded_torch(0, "benchmark"):
        backbone = SASRec(split.dataset.n_items, SASRecConfig())
    generator = torch.Generator().manual_seed(0)
    rows = split.dataset.n_items + 1
    cf, text = (torch.rand(rows, 128, generator=generator) for _ in range(2))
    joint = JointItemTable.of(cf, text, torch.ones(rows, dtype=torch.bool))
    return PromptedRanker(lm, backbone, joint, split.dataset.catalogue.titles, prompt, 0)


def batches_of(ranker: PromptedRanker, split: Split, tune: TuneConfig, count: int) -> Sequence[StageTwoBatch]:
    """So many batches of an epoch."""
    config = tune.model_copy(update={"samples_per_epoch": count * tune.training.batch_size})
    return stage_two_batches(ranker, split, config, 0)


def title_loss(ranker: PromptedRanker, batch: StageTwoBatch) -> Tensor:
    """What `tune` learns by: shared by the batch where the form allows that."""
    loss = ranker.losses(batch.queries, batch.candidates, batch.targets, title=True, select=False).title
    assert loss is not None  # noqa: S101  # it was asked for
    return loss


def single_prompts_loss(ranker: PromptedRanker, batch: StageTwoBatch) -> Tensor:
    """The comparator of training: the same loss with each prompt a row of its own."""
    lm = ranker.lm
    items = [int(c[t]) for c, t in zip(batch.candidates, batch.targets, strict=True)]
    answers = [[*ranker.builder.titles[item], lm.eos_id] for item in items]
    prompts = ranker.prompts(batch.queries, batch.candidates, max(map(len, answers)))
    spliced = ranker.spliced(prompts, ranker.user_states(batch.queries), [answer[:-1] for answer in answers])
    hidden = lm.hidden(spliced.embeddings, spliced.visible, spliced.positions)
    return mean_title_loss(lm, hidden, [len(prompt) for prompt in prompts], answers)


def likelihoods(ranker: PromptedRanker, asked: Questions, keep: bool) -> Tensor:
    """Scores by the tree of titles, behind kept items or behind the whole prompt."""
    ranker.keeps_items = keep
    with torch.inference_mode():
        rows = ranker.title_likelihoods(asked.queries, asked.candidates)
        return torch.stack([row.sum(dim=-1) for row in rows])


def same_results(ranker: PromptedRanker, asked: Questions, batch: StageTwoBatch, tolerance: float = 1e-3) -> float:
    """Check that all ways to score and both ways to train compute the same; returns the scores' largest difference.

    Raises:
        AssertionError: they do not.
    """
    ranker.eval()
    with ranker.keeping_items():
        kept = likelihoods(ranker, asked, keep=True)
        tree = likelihoods(ranker, asked, keep=False)
    alone = torch.tensor(spliced_one_at_a_time(ranker, asked.queries, asked.candidates))
    for found in (tree, alone):
        torch.testing.assert_close(found, kept, atol=tolerance, rtol=0)
    torch.testing.assert_close(single_prompts_loss(ranker, batch), title_loss(ranker, batch), atol=1e-4, rtol=1e-4)
    return float(max((tree - kept).abs().max(), (alone - kept).abs().max()))


def in_turns(ways: Mapping[str, Callable[[int], object]], turns: int) -> dict[str, Seconds]:
    """Clock and processor seconds of each way in each turn; each way is given the turn's number."""
    seconds = {name: np.zeros((turns, 2)) for name in ways}
    for turn in range(turns):
        for name, way in ways.items():
            began, busy = time.perf_counter(), time.process_time()
            way(turn)
            seconds[name][turn] = time.perf_counter() - began, time.process_time() - busy
    return seconds


def compared(what: str, ours: Seconds, against: str, theirs: Seconds, done: tuple[float, float]) -> dict[str, Any]:
    """A row of the table.

    Args:
        what, against: the two ways in words.
        ours, theirs: seconds of each.
        done: how many samples or users each handles in a turn.
    """
    ratios = np.median((theirs / done[1]) / (ours / done[0]), axis=0)
    return {
        "what": what,
        "ours": float(done[0] / np.median(ours[:, 0])),
        "against": against,
        "theirs": float(done[1] / np.median(theirs[:, 0])),
        "ratio": float(ratios[0]),
        "ratio_in_processor_time": float(ratios[1]),
        "turns": len(ours),
    }


def scoring(
    ranker: PromptedRanker, asked: Questions, protocol: EvaluationProtocol
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Kept items against the other ways to score, and the sizes of what was scored.

    The first time that a turn's users are asked their new items are read, the second time none. The difference is what
    reading costs. Each item of a protocol is read once (all of MovieLens-100K's fit in what is kept), so its users share
    that cost; the rows give it for these users alone and for the whole of `protocol`.
    """
    ranker.eval()
    turns = asked.turns()
    users = len(turns[0].queries)
    likelihoods(ranker, asked.first(1), keep=False)
    spliced_one_at_a_time(ranker, asked.queries[:1], asked.candidates[:1])
    seen = [np.unique(np.concatenate([c for t in turns[:n] for c in t.candidates])) for n in range(1, len(turns) + 1)]
    new = np.diff([0, *map(len, seen)])
    with ranker.keeping_items():
        seconds = in_turns(
            {
                "reading": lambda turn: likelihoods(ranker, turns[turn], keep=True),
                "kept": lambda turn: likelihoods(ranker, turns[turn], keep=True),
                "tree": lambda turn: likelihoods(ranker, turns[turn], keep=False),
                "alone": lambda turn: spliced_one_at_a_time(ranker, turns[turn].queries, turns[turn].candidates),
            },
            len(turns),
        )
    kept = seconds["kept"]
    item = np.median(((seconds["reading"] - kept) / np.maximum(new, 1)[:, None])[new > 0], axis=0)
    items = {"these users": len(seen[-1]), "the whole protocol": len(np.unique(protocol.candidates))}
    of = {"these users": users * len(turns), "the whole protocol": len(protocol)}
    with_reading = {name: kept + item * (items[name] / of[name]) * users for name in items}
    row = partial(compared, done=(users, users))
    alone, tree = "one candidate at a time behind the prompt's cache", "the tree of titles behind the whole prompt"
    rows = [
        row("score, form copy, items kept: users/s", kept, alone, seconds["alone"]) | {"aim": 4.0},
        *(
            row(f"the same, with reading all items of {name}", cost, alone, seconds["alone"])
            for name, cost in with_reading.items()
        ),
        row("score, form copy, items kept: users/s", kept, tree, seconds["tree"]),
        row("the same, with reading all items of the whole protocol", with_reading["the whole protocol"], tree, seconds["tree"]),
    ]  # fmt: skip
    prompts = ranker.prompts(asked.queries, asked.candidates)
    titles, eos = ranker.builder.titles, ranker.lm.eos_id
    trees = [TitleTree.build([titles[int(i)] for i in c], eos) for c in asked.candidates]
    sizes = {
        "users": users * len(turns),
        "users_at_once": users,
        "candidates": len(asked.candidates[0]),
        "prompt_tokens": float(np.mean([len(p) for p in prompts])),
        "tree_tokens": float(np.mean([len(t.tokens) for t in trees])),
        "milliseconds_to_read_an_item": float(item[0] * 1e3),
        "reading": {name: {"items": items[name], "users": of[name]} for name in items},
    }
    return rows, sizes


class Trainer:
    """A ranker with its optimiser and batches."""

    def __init__(self, ranker: PromptedRanker, batches: Sequence[StageTwoBatch], loss: Loss = title_loss) -> None:
        self._ranker, self._batches, self._loss = ranker.train(), batches, loss
        self._optimizer = torch.optim.Adam([p for p in ranker.parameters() if p.requires_grad], lr=1e-4)
        self.batch_size = len(batches[0].queries)

    def step(self, turn: int) -> None:
        """One step on the turn's batch."""
        self._optimizer.zero_grad()
        self._loss(self._ranker, self._batches[turn]).backward()
        self._optimizer.step()


def training(lm: TransformersLM, split: Split, tune: TuneConfig, steps: int) -> list[dict[str, Any]]:
    """Steps of the shared batch against single prompts of the same form, and against the paper's form."""

    def trainer(config: TuneConfig, loss: Loss = title_loss) -> Trainer:
        ranker = random_ranker(lm, split, config.prompt)
        return Trainer(ranker, batches_of(ranker, split, config, steps), loss)

    words, cut = PromptTemplate(words=tune.prompt.template.words), tune.prompt.budget.title_tokens
    papers = {
        limit: TuneConfig(
            prompt=PromptConfig(template=words, budget=PromptBudget(title_tokens=limit)), validation_users=0
        )
        for limit in sorted({cut, PromptBudget().title_tokens})
    }
    ours = trainer(tune)
    ways = {f"the same loss, each of the {ours.batch_size} prompts a row": trainer(tune, single_prompts_loss)} | {
        f"the paper's form, {paper.prompt.budget.max_history} history items, batches of {paper.training.batch_size}, "
        f"titles of {limit} tokens at most": trainer(paper)
        for limit, paper in papers.items()
    }
    for way in (ours, *ways.values()):
        way.step(0)
    seconds = in_turns({"shared": ours.step} | {name: way.step for name, way in ways.items()}, steps)
    what = f"stage 2, title loss, form copy, batches of {ours.batch_size} that share items: samples/s"
    return [
        compared(what, seconds["shared"], name, seconds[name], (ours.batch_size, way.batch_size))
        for name, way in ways.items()
    ]


def precisions(
    lms: Mapping[str, TransformersLM], split: Split, tune: TuneConfig, asked: Questions, turns: int
) -> list[dict[str, Any]]:
    """bfloat16 against float32: in training, in scoring with items kept, and for one candidate at a time.

    Products of a few rows gain less by bfloat16 than those of many, so the last row says at which precision the comparator of
    `scoring` is at its best.
    """
    trainers, rankers = {}, {}
    for name, lm in lms.items():
        learning = random_ranker(lm, split, tune.prompt)
        trainers[name] = Trainer(learning, batches_of(learning, split, tune, turns))
        trainers[name].step(0)
        rankers[name] = random_ranker(lm, split, tune.prompt).eval()
    learned = in_turns({name: trainer.step for name, trainer in trainers.items()}, turns)
    size = trainers["float32"].batch_size
    part = asked.turns()[0]
    for ranker in rankers.values():
        likelihoods(ranker, part, keep=True)
    scored = in_turns(
        {name: partial(lambda _, own: likelihoods(own, part, keep=True), own=own) for name, own in rankers.items()},
        turns,
    )
    few = part.first(2)
    alone = in_turns(
        {
            name: partial(lambda _, own: spliced_one_at_a_time(own, few.queries, few.candidates), own=own)
            for name, own in rankers.items()
        },
        turns,
    )
    return [
        compared(f"{what} in bfloat16", seconds["bfloat16"], "in float32", seconds["float32"], (done, done))
        for what, seconds, done in (
            ("stage 2, title loss, form copy, shared batches: samples/s", learned, size),
            ("score, form copy, items kept: users/s", scored, len(part.queries)),
            ("score, form copy, one candidate at a time: users/s", alone, len(few.queries)),
        )
    ]


def show(results: Mapping[str, Any]) -> None:
    """As a table."""
    table = Table("what", "ours", "against", "theirs", "ratio", "in processor time", "aim")
    for row in results["results"]:
        ratios = (f"{row[key]:.2f}" for key in ("ratio", "ratio_in_processor_time"))
        aim = f"{row['aim']:g}" if "aim" in row else ""
        table.add_row(row["what"], f"{row['ours']:.3g}", row["against"], f"{row['theirs']:.3g}", *ratios, aim)
    console = Console(width=200)
    console.print(table)
    console.print(f"Measured in {results['precision']}; on this processor auto takes {results['auto']}.")
    console.print(results["samples_per_second"])


if __name__ == "__main__":
    main()
