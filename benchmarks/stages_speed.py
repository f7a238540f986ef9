"""Training steps of both stages against plain forms, side by side: `python -m benchmarks.stages_speed`.

Both sides of a row take the same samples, in turn, batch by batch, so that other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from allmrec.alignment.align import AlignBatch, AlignTask
from allmrec.alignment.autoencoders import Alignment
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.objective import AlignConfig, ItemSide, alignment_terms
from allmrec.alignment.samples import UserSamples
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.packaged import movielens_100k
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.data.build import read_movielens
from allmrec.data.splitting import Split, leave_one_out
from allmrec.llm.transformers_lm import load_language_model
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import StageTwoBatch, TuneConfig, stage_two_batches
from allmrec.text.bank import TextBank
from allmrec.text.encoder import EncoderConfig, load_encoder
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

Step = Callable[[Any], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage-one-batches", type=int, default=40)
    parser.add_argument("--stage-two-batches", type=int, default=12)
    arguments = parser.parse_args()
    about = measured_by("stages_speed")
    split = leave_one_out(read_movielens(movielens_100k()))
    with seeded_torch(0, "benchmark"):
        backbone = SASRec(split.dataset.n_items, SASRecConfig()).eval()
    few = max(2, arguments.stage_one_batches // 10)
    rows = [
        stage_one(split, backbone, "full", few, fully_padded=True),
        stage_one(split, backbone, "full", few * 5),
        stage_one(split, backbone, 1, arguments.stage_one_batches),
    ]
    rows.append(stage_two(split, backbone, arguments.stage_two_batches))
    table = Table("what", "ours", "against", "theirs", "ratio")
    for row in rows:
        table.add_row(row["what"], f"{row['ours']:.3g}", row["against"], f"{row['theirs']:.3g}", f"{row['ratio']:.2f}")
    Console().print(table)
    path = RESULTS / "stages-speed.json"
    write_result(
        path, about | {"results": rows, "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    )
    print(f"Written: {path}")


def stage_one(
    split: Split, backbone: SASRec, tune: str | int, batches: int, fully_padded: bool = False
) -> dict[str, Any]:
    """MiniLM tuned in full or in its last layer, 32 samples a batch; the other side encodes every text anew.

    Its rows are padded to what the encoder takes, as `padding="max_history"` does, or to the longest of the catalogue only.
    """
    config = AlignConfig(positions="all")
    texts = [None, *split.dataset.catalogue.item_texts()[1:]]
    sides: list[tuple[nn.Module, Step]] = []
    for ours in (True, False):
        encoder = load_encoder(EncoderConfig(name="all-MiniLM-L6-v2", tune=tune))
        with seeded_torch(0, "alignment"):
            alignment = Alignment(backbone.dim, encoder)
        if ours:
            task = AlignTask(alignment, split, backbone, TextBank(encoder, texts), config, 0)
            sides.append((alignment, lambda batch, task=task: sum_of(task.losses(batch).values())))
        else:
            sides.append((alignment, plain_stage_one(split, backbone, alignment, encoder, texts, config, fully_padded)))
    todo = task.batches(0)[:batches]
    seconds = in_turn(sides, todo)
    samples = sum(len(batch.rows) for batch in todo)
    how = "in full" if tune == "full" else f"in its last {tune} layer"
    return {
        "what": f"stage 1, MiniLM tuned {how}, MovieLens-100K: samples/s",
        "ours": samples / seconds[0],
        "against": "each row's text encoded anew, padded to "
        + (f"{encoder.max_tokens} tokens" if fully_padded else "the longest of the catalogue"),
        "theirs": samples / seconds[1],
        "ratio": seconds[1] / seconds[0],
        "samples": samples,
    }


def plain_stage_one(
    split: Split,
    backbone: SASRec,
    alignment: Alignment,
    encoder: Any,
    texts: Sequence[str | None],
    config: AlignConfig,
    fully_padded: bool,
) -> Step:
    """The same objective, straight."""
    samples = UserSamples(split, backbone, config.positions)
    vectors = backbone.item_vectors().detach()
    tokens = encoder.tokenise(texts)
    ids, real = tokens.batch(np.arange(len(texts)))
    ids, real = torch.as_tensor(ids), torch.as_tensor(real)
    if fully_padded:
        behind = (0, encoder.max_tokens - ids.shape[1])
        ids, real = nn.functional.pad(ids, behind), nn.functional.pad(real, behind)

    def loss(batch: AlignBatch) -> Tensor:
        items = torch.from_numpy(batch.positives)
        encoded = encoder(ids[items], real[items])
        positive = ItemSide(vectors[items], encoded, real[items].any(dim=1))
        negative = ItemSide(vectors[torch.from_numpy(batch.negatives)])
        users = samples.user_vectors(batch.rows)
        return sum_of(alignment_terms(alignment.items, alignment.texts, users, positive, negative, config).values())

    return loss


def stage_two(split: Split, backbone: SASRec, batches: int) -> dict[str, Any]:
    """SmolLM2 under the paper's loss, 4 samples a batch, 10 history items and 20 candidates."""
    lm = load_language_model("smollm2-135m-instruct", precision="float32")
    config = TuneConfig(validation_users=0, samples_per_epoch=4 * batches)
    rows = split.dataset.n_items + 1
    generator = torch.Generator().manual_seed(0)
    cf, text = (torch.rand(rows, 128, generator=generator) for _ in range(2))
    joint = JointItemTable.of(cf, text, torch.ones(rows, dtype=torch.bool))
    titles = split.dataset.catalogue.titles
    rankers = [PromptedRanker(lm, backbone, joint, titles, PromptConfig(), 0) for _ in range(2)]
    bucketed = list(stage_two_batches(rankers[0], split, config, 0))
    mixed = shuffled(bucketed)

    def ours(batch: StageTwoBatch) -> Tensor:
        return rankers[0].losses(batch.queries, batch.candidates, batch.targets, True, False).title

    def plain(batch: StageTwoBatch) -> Tensor:
        return full_logits_loss(rankers[1], batch)

    same = bucketed[0]
    torch.testing.assert_close(plain(same), ours(same), atol=1e-4, rtol=1e-4)
    seconds = in_turn([(rankers[0], ours), (rankers[1], plain)], bucketed, mixed)
    return {
        "what": "stage 2, title loss, SmolLM2, MovieLens-100K: samples/s",
        "ours": 4 * batches / seconds[0],
        "against": "logits at every place, batches in random order",
        "theirs": 4 * batches / seconds[1],
        "ratio": seconds[1] / seconds[0],
        "samples": 4 * batches,
    }


def full_logits_loss(ranker: PromptedRanker, batch: StageTwoBatch) -> Tensor:
    """The paper's loss as transformers computes it: logits and labels at every place, -100 where nothing is learned."""
    lm = ranker.lm
    items = [int(c[t]) for c, t in zip(batch.candidates, batch.targets, strict=True)]
    answers = [[*ranker.builder.titles[item], lm.eos_id] for item in items]
    prompts = ranker.prompts(batch.queries, batch.candidates, max(map(len, answers)))
    spliced = ranker.spliced(prompts, ranker.user_states(batch.queries), answers)
    hidden = lm.hidden(spliced.embeddings, None, spliced.positions)
    logits = lm.logits(hidden.flatten(0, 1)).float().view(*hidden.shape[:2], -1)
    labels = torch.full(hidden.shape[:2], -100)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def shuffled(batches: Sequence[StageTwoBatch]) -> list[StageTwoBatch]:
    """The same samples in batches of the same size, whatever their lengths."""
    rows = [(q, c, t) for b in batches for q, c, t in zip(b.queries, b.candidates, b.targets, strict=True)]
    order = numpy_generator(0, "benchmark", "unbucketed").permutation(len(rows))
    size = len(batches[0].queries)
    made = []
    for start in range(0, len(rows), size):
        queries, candidates, targets = zip(*(rows[n] for n in order[start : start + size]), strict=True)
        made.append(StageTwoBatch(queries, candidates, np.asarray(targets), text=False))
    return made


def in_turn(sides: Sequence[tuple[nn.Module, Step]], *batches: Sequence[Any]) -> list[float]:
    """Seconds of each side's training steps, the first of each left out as warm-up."""
    optimizers = [torch.optim.Adam([p for p in m.parameters() if p.requires_grad], lr=1e-4) for m, _ in sides]
    seconds = [0.0] * len(sides)
    for number in range(-1, len(batches[0])):
        for side, (module, loss) in enumerate(sides):
            module.train()
            batch = batches[min(side, len(batches) - 1)][max(number, 0)]
            started = time.perf_counter()
            optimizers[side].zero_grad()
            loss(batch).backward()
            optimizers[side].step()
            seconds[side] += (time.perf_counter() - started) * (number >= 0)
    return seconds


def sum_of(terms: Any) -> Tensor:
    """The terms' sum as one tensor."""
    return torch.stack(list(terms)).sum()


if __name__ == "__main__":
    main()
