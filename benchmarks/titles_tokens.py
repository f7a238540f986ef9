"""What training by titles costs, counted in tokens: `python -m benchmarks.titles_tokens RUN`; nothing is trained.

The frozen language model's weights are multiplied with every token that it reads, forward and backward, for A-LLMRec as for
TALLRec, so tokens compare their compute on any machine. Counted are the tokens of the samples that the run's stage 2 draws, the
answer's among them and padding not: in the run's own form, in the paper's, and as TALLRec reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from rich.console import Console
from rich.table import Table

from allmrec.library import Run
from allmrec.prompting.template import PromptTemplate
from allmrec.prompting.tokenising import PromptBuilder
from allmrec.recommend.samples import StageTwoBatch, StageTwoSamples
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

__all__ = ["alone", "shared"]


def shared(builder: PromptBuilder, batch: StageTwoBatch) -> int:
    """Tokens of a batch whose items are read once for all of its users, as `shared_title_loss` lays it out."""
    items = np.unique(np.concatenate(batch.candidates))
    prompt = builder.build([], items.tolist())
    front = int(np.flatnonzero(prompt.blocks >= 0)[-1]) + 1
    tails = len(prompt) - front
    return front + sum(tails + len(builder.titles[item]) for item in _targets(batch))


def alone(builder: PromptBuilder, batch: StageTwoBatch) -> int:
    """Tokens of a batch whose prompts are read one by one."""
    rows = zip(batch.queries, batch.candidates, _targets(batch), strict=True)
    return sum(len(builder.build(q.history.tolist(), c.tolist())) + len(builder.titles[t]) for q, c, t in rows)


def _targets(batch: StageTwoBatch) -> Sequence[int]:
    return [int(c[t]) for c, t in zip(batch.candidates, batch.targets, strict=True)]


def samples(run: Run, builder: PromptBuilder, batch_size: int, pool: int | None) -> StageTwoSamples:
    """The samples of the run's stage 2 in batches of this size."""
    tune = run.config.tune
    config = tune.model_copy(update={"pool": pool, "validation_users": 0})
    training = tune.training.model_copy(update={"batch_size": batch_size})
    return StageTwoSamples(
        run.split, config, training, builder.titles, tune.prompt.budget.max_history, seed=run.config.seed
    )


def counted(run: Run, small: int) -> dict[str, dict[str, float]]:
    """Tokens a sample, over one epoch of the run's samples.

    Args:
        run: whose stage 2's form, samples and batch size are counted; it need not be trained.
        small: batch size of what shares nothing; it changes which samples stand together and not what each takes.
    """
    tune = run.config.tune
    own = PromptBuilder(tune.prompt.template, tune.prompt.budget, run.lm, run.dataset.catalogue.titles)
    words = PromptTemplate(words=tune.prompt.template.words, untitled=tune.prompt.template.untitled)
    paper, plain = (
        PromptBuilder(template, tune.prompt.budget, run.lm, run.dataset.catalogue.titles)
        for template in (words, tune.prompt.template.without_vectors())
    )
    batches = samples(run, own, tune.training.batch_size, tune.pool).batches(0)
    count = shared if own.template.is_shared else alone
    rows = {f"A-LLMRec, {tune.prompt.template.form}": np.array([[count(own, b), len(b.queries)] for b in batches])}
    if own.template.is_shared:
        rows["A-LLMRec, copy, prompts one by one"] = np.array([[alone(own, b), len(b.queries)] for b in batches])
    batches = samples(run, plain, small, None).batches(0)
    rows["A-LLMRec, paper"] = np.array([[alone(paper, b), len(b.queries)] for b in batches])
    rows["TALLRec"] = np.array([[alone(plain, b), len(b.queries)] for b in batches])
    return {name: _row(found) for name, found in rows.items()}


def _row(found: Int[np.ndarray, "batches 2"]) -> dict[str, float]:
    tokens, count = (int(column.sum()) for column in found.T)
    return {"samples": count, "tokens": tokens, "tokens_each": round(tokens / count, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--trained", nargs=2, type=int, metavar=("OURS", "TALLREC"), default=(51_200, 12_800),
                        help="samples that each was trained on, for the tokens of the whole training")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "titles-tokens.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("titles_tokens")
    run = Run.open(arguments.run, "cpu")
    rows = counted(run, 16)
    own, tallrec = next(iter(rows.values())), rows["TALLRec"]
    trained = {
        name: {"samples": count, "tokens": round(count * row["tokens_each"])}
        for name, count, row in zip(("A-LLMRec", "TALLRec"), arguments.trained, (own, tallrec), strict=True)
    }
    found = {
        "rows": rows,
        "trained": trained,
        "a_sample": round(tallrec["tokens_each"] / own["tokens_each"], 3),
        "the_training": round(trained["TALLRec"]["tokens"] / trained["A-LLMRec"]["tokens"], 3),
    }
    write_result(arguments.output, about | found)
    shown = Table("prompt", "samples", "tokens a sample")
    for name, row in rows.items():
        shown.add_row(name, f"{row['samples']:,}", f"{row['tokens_each']:.1f}")
    console = Console()
    console.print(shown)
    console.print(f"TALLRec reads {found['a_sample']} times as much a sample, {found['the_training']} in all.")


if __name__ == "__main__":
    main()
