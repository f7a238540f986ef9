"""Stage 2's training: which samples, which losses, which validation; knows no file and no command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.distributed import slices
from allmrec.core.errors import ConfigError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import numpy_generator
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.interactions import InteractionDataset
from allmrec.data.negatives import sample_negatives
from allmrec.data.splitting import Split
from allmrec.ranking import Query
from allmrec.recommend.prompted import PromptConfig, PromptedRanker

__all__ = ["StageTwoBatch", "TuneConfig", "stage_two_batches", "training_positions", "tune"]


class TuneConfig(Config):
    """Stage 2 (paper, section 3.2). The defaults are the paper's."""

    prompt: PromptConfig = PromptConfig()
    title_weight: float = Field(1.0, ge=0, description="Weight of the paper's loss on the target's title.")
    select_weight: float = Field(0.0, ge=0, description="Weight of the pointer head's loss over the candidates (ours).")
    candidates: int = Field(20, ge=2, description="Candidates in a training prompt, the target included.")
    positions: Literal["last", "held_out", "all"] = Field(
        "last",
        description="Which positions train: the last training item of each user (paper), those that CF never trained "
        "on (ours; see held_out_targets), or every position ('all items' in the paper's Table 10).",
    )
    users: int | None = Field(None, ge=1, description="Train on a sample of so many users; none: all.")
    samples_per_epoch: int | None = Field(None, ge=1, description="Samples drawn anew each epoch; none: all.")
    redraw: bool = Field(True, description="Draw negatives and order anew each epoch; off: every epoch is the first.")
    text_share: float = Field(
        0.0, ge=0, le=1, description="Share of batches whose item slots carry text vectors, so that both kinds work."
    )
    validation_users: int = Field(100, ge=0, description="Users whose validation item is ranked at each validation.")
    training: TrainingConfig = TrainingConfig(learning_rate=1e-4, batch_size=4, epochs=5)

    @model_validator(mode="after")
    def _some_loss(self) -> TuneConfig:
        if self.title_weight == 0 and self.select_weight == 0:
            raise ValueError("title_weight and select_weight are both 0; nothing would be learned")
        return self


@dataclass(frozen=True)
class StageTwoBatch:
    """Queries with candidates, the place of each target among them, and what kind of joint vectors to show."""

    queries: Sequence[Query]
    candidates: Sequence[Int[np.ndarray, " _candidates"]]
    targets: Int[np.ndarray, " batch"]
    text: bool


class _StageTwoTask:
    """What `fit` needs: seeded batches of like length, both losses, validation by rank."""

    def __init__(self, ranker: PromptedRanker, split: Split, config: TuneConfig) -> None:
        self._ranker, self._split, self._config = ranker, split, config
        self._seed = config.training.seed
        self._users, self._places = training_positions(split, config.positions)
        if config.users is not None:
            chosen = numpy_generator(self._seed, "tuning users").permutation(np.unique(self._users))[: config.users]
            keep = np.isin(self._users, chosen)
            self._users, self._places = self._users[keep], self._places[keep]
        if len(self._users) == 0:
            raise ConfigError(
                f"No user has a training position for positions={config.positions!r}. It needs users with at least "
                "two training items, and 'held_out' needs held_out_targets of at least 1."
            )
        # Only what training may know is kept out of its negatives: sparing a user's validation and test items would
        # tell which they are.
        self._known = split.training_part()
        self._cached: tuple[int, list[StageTwoBatch]] | None = None
        self._text = ranker.joint.with_source("text").vectors().to(ranker.lm.device).float()
        self._validation = self._validation_batches()

    def batches(self, epoch: int) -> Sequence[StageTwoBatch]:
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._draw(epoch))
        return self._cached[1]

    def losses(self, batch: StageTwoBatch) -> Mapping[str, Tensor]:
        config = self._config
        vectors = self._text if batch.text else None
        found = self._ranker.losses(
            batch.queries, batch.candidates, batch.targets, config.title_weight > 0, config.select_weight > 0, vectors
        )
        terms = {}
        if found.title is not None:
            terms["title"] = config.title_weight * found.title
        if found.select is not None:
            terms["select"] = config.select_weight * found.select
        return terms

    def shares(self, batch: StageTwoBatch, count: int) -> list[tuple[StageTwoBatch, dict[str, float]]]:
        """The batch's queries for `count` processes: `title` is a mean over the targets' tokens, `select` over queries."""
        titles = self._ranker.builder.titles
        # With the token that ends each title.
        tokens = [len(titles[int(c[t])]) + 1 for c, t in zip(batch.candidates, batch.targets, strict=True)]
        shared = []
        for rows in slices(len(batch.queries), count):
            part = StageTwoBatch(batch.queries[rows], batch.candidates[rows], batch.targets[rows], batch.text)
            shares = {}
            if self._config.title_weight > 0:
                shares["title"] = sum(tokens[rows]) / sum(tokens)
            if self._config.select_weight > 0:
                shares["select"] = len(part.queries) / len(batch.queries)
            shared.append((part, shares))
        return shared

    def validate(self) -> Mapping[str, float]:
        """Mean NDCG, Hit@1 and margin of the target over the validation users, by `select` where it is trained."""
        if not self._validation:
            return {}
        ranks, margins = [], []
        for batch in self._validation:
            if self._config.select_weight > 0:
                scores = self._ranker.select_logits(batch.queries, batch.candidates)
            else:
                likelihoods = self._ranker.title_likelihoods(batch.queries, batch.candidates)
                scores = torch.stack([row.sum(dim=-1) for row in likelihoods])
            wanted = torch.from_numpy(batch.targets).to(scores.device)[:, None]
            target = scores.gather(1, wanted)
            others = scores.scatter(1, wanted, -torch.inf)
            ranks.append(1 + (others >= target).sum(dim=1))
            margins.append(target[:, 0] - others.max(dim=1).values)
        rank = torch.cat(ranks).double()
        return {
            "validation/ndcg": float((1 / torch.log2(rank + 1)).mean()),
            "validation/hit@1": float((rank == 1).double().mean()),
            "validation/margin": float(torch.cat(margins).double().mean()),
        }

    def _draw(self, epoch: int) -> list[StageTwoBatch]:
        rng = numpy_generator(self._seed, "stage 2", epoch if self._config.redraw else 0)
        order = rng.permutation(len(self._users))[: self._config.samples_per_epoch]
        users, places = self._users[order], self._places[order]
        targets = self._split.dataset.item_numbers[self._split.dataset.offsets[users] + places]
        queries = [Query(self._split.dataset.sequence(int(u))[:p], int(u)) for u, p in zip(users, places, strict=True)]
        return self._bucketed(queries, targets, users, rng, self._config.training.batch_size, self._known)

    def _validation_batches(self) -> list[StageTwoBatch]:
        rng = numpy_generator(self._seed, "stage 2 validation")
        able = np.flatnonzero(self._split.validation > 0)
        users = np.sort(rng.permutation(able)[: self._config.validation_users])
        if len(users) == 0:
            return []
        queries = [Query(self._split.validation_history(int(u)), int(u)) for u in users]
        batches = self._bucketed(queries, self._split.validation[users], users, rng, 16, self._split.dataset)
        return [StageTwoBatch(b.queries, b.candidates, b.targets, text=False) for b in batches]

    def _bucketed(
        self,
        queries: Sequence[Query],
        targets: Int[np.ndarray, " samples"],
        users: Int[np.ndarray, " samples"],
        rng: np.random.Generator,
        size: int,
        source: InteractionDataset,
    ) -> list[StageTwoBatch]:
        """Candidates drawn and shuffled; batches of prompts of like length, in random order."""
        negatives = sample_negatives(source, users, self._config.candidates - 1, rng)
        shown = rng.permuted(np.concatenate([targets[:, None], negatives], axis=1), axis=1)
        places = np.argmax(shown == targets[:, None], axis=1)
        titles, limit = self._ranker.builder.titles, self._config.prompt.budget.history
        lengths = np.asarray(
            [
                sum(len(titles[int(i)]) + 1 for i in (*shown[n], *q.history[max(0, len(q.history) - limit) :]))
                for n, q in enumerate(queries)
            ]
        )
        batches = []
        window = size * 16
        for start in range(0, len(queries), window):
            by_length = start + np.argsort(lengths[start : start + window], kind="stable")
            for first in range(0, len(by_length), size):
                rows = by_length[first : first + size]
                text = bool(rng.random() < self._config.text_share)
                batches.append(StageTwoBatch([queries[r] for r in rows], [shown[r] for r in rows], places[rows], text))
        return [batches[n] for n in rng.permutation(len(batches))]


def training_positions(
    split: Split, positions: Literal["last", "held_out", "all"]
) -> tuple[Int[np.ndarray, " samples"], Int[np.ndarray, " samples"]]:
    """Users and places in their sequences that stage 2 trains on; a place is never a user's first.

    `train_end` counts what CF trains on; behind it, up to `prefix_end`, lie the held-out targets.
    """
    ends, limits = split.train_end, split.prefix_end
    if positions == "last":
        first, last = limits - 1, limits
    elif positions == "held_out":
        first, last = ends, limits
    else:
        first, last = np.ones_like(ends), limits
    first = np.maximum(first, 1)
    counts = np.maximum(last - first, 0)
    users = np.repeat(np.arange(len(ends)), counts)
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return users, places


def stage_two_batches(ranker: PromptedRanker, split: Split, config: TuneConfig, epoch: int) -> Sequence[StageTwoBatch]:
    """The batches that `tune` trains on in an epoch, counted from 0."""
    return _StageTwoTask(ranker, split, config).batches(epoch)


def tune(ranker: PromptedRanker, split: Split, config: TuneConfig, resume: Checkpoint | None = None) -> TrainingLog:
    """Train stage 2 in place.

    Args:
        ranker: projections and head, with the frozen parts around them.
        split: its training part is learned from, its validation items are watched.
        config: samples, losses, rates.
        resume: where to keep the resume state.

    Returns:
        Losses and validation figures over the steps.
    """
    return fit(ranker, _StageTwoTask(ranker, split, config), config.training, "stage 2: prompts", resume)
