"""The samples that a language model is tuned on: a target among candidates behind a history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.distributed import slices
from allmrec.core.errors import ConfigError
from allmrec.core.grouping import length_groups
from allmrec.core.seeding import numpy_generator
from allmrec.core.training import TrainingConfig
from allmrec.data.interactions import InteractionDataset
from allmrec.data.negatives import pooled_negatives, room_for_negatives, sample_negatives
from allmrec.data.splitting import Split, drawn_users
from allmrec.prompting.tokenising import TitleTokens
from allmrec.ranking import Query

__all__ = ["SampleConfig", "StageTwoBatch", "StageTwoSamples", "rank_figures", "training_positions"]


class SampleConfig(Config):
    """Which samples train and which validate. The defaults are the paper's."""

    candidates: int = Field(20, ge=2, description="Candidates in a training prompt at the most, the target included.")
    pool: int | None = Field(
        None,
        ge=1,
        description="Negatives of a batch are drawn from so many random items, so that a prompt of the form `copy` is trained "
        "with each item read once a batch; none: every sample draws from the whole catalogue.",
    )
    positions: Literal["last", "held_out", "all"] = Field(
        "last",
        description="Which positions train: the last training item of each user (paper), those that CF never trained "
        "on (ours; see held_out_targets), or every position ('all items' in the paper's Table 10).",
    )
    users: int | None = Field(None, ge=1, description="Train on a sample of so many users; none: all.")
    samples_per_epoch: int | None = Field(None, ge=1, description="Samples drawn anew each epoch; none: all.")
    redraw: bool = Field(True, description="Draw negatives and order anew each epoch; off: every epoch is the first.")
    validation_users: int = Field(100, ge=0, description="Users whose validation item is ranked at each validation.")

    @model_validator(mode="after")
    def _pool_suffices(self) -> SampleConfig:
        if self.pool is not None and self.pool < self.candidates:
            raise ValueError(
                f"pool is {self.pool}; it must hold at least as many items as candidates ({self.candidates})"
            )
        return self


@dataclass(frozen=True)
class StageTwoBatch:
    """Queries with candidates, the place of each target among them, and what kind of joint vectors to show."""

    queries: Sequence[Query]
    candidates: Sequence[Int[np.ndarray, " _candidates"]]
    targets: Int[np.ndarray, " batch"]
    text: bool


class StageTwoSamples:
    """Seeded batches of prompts of like length.

    Where the catalogue is small, prompts have fewer candidates, and users who leave too few negatives train and validate
    nothing: see `room_for_negatives`.

    Args:
        split: its training part is drawn from, its validation items are ranked.
        config: which samples.
        training: its batch size is a batch's.
        titles: tell how long a prompt gets.
        history: items of the history that a prompt shows.
        text_share: share of batches whose item slots carry text vectors.
        seed: names every draw.

    Raises:
        ConfigError: no user has a position to train on.
        DataError: no user leaves an item unseen.
    """

    def __init__(
        self,
        split: Split,
        config: SampleConfig,
        training: TrainingConfig,
        titles: TitleTokens,
        history: int,
        text_share: float = 0.0,
        *,
        seed: int = 0,
    ) -> None:
        self._split, self._config, self._titles, self._history = split, config, titles, history
        self._seed, self._batch_size, self._text_share = seed, training.batch_size, text_share
        self._users, self._places = training_positions(split, config.positions)
        if config.users is not None:
            keep = np.isin(self._users, drawn_users(np.unique(self._users), config.users, self._seed))
            self._users, self._places = self._users[keep], self._places[keep]
        if len(self._users) == 0:
            raise ConfigError(
                f"No user has a training position for positions={config.positions!r}. It needs users with at least "
                "two training items, and 'held_out' needs held_out_targets of at least 1."
            )
        # Only what training may know is kept out of its negatives: sparing a user's validation and test items would
        # tell which they are.
        self._known = split.training_part()
        room = room_for_negatives(self._known, np.unique(self._users), config.candidates - 1)
        self._negatives = room.n
        if room.left_out:
            keep = np.isin(self._users, room.kept)
            self._users, self._places = self._users[keep], self._places[keep]
        self._cached: tuple[int, list[StageTwoBatch]] | None = None
        self.validation = self._validation_batches()

    def batches(self, epoch: int) -> Sequence[StageTwoBatch]:
        """The batches of an epoch, counted from 0; the same each time they are asked for."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._draw(epoch))
        return self._cached[1]

    def parts(self, batch: StageTwoBatch, count: int) -> list[tuple[StageTwoBatch, float, float]]:
        """The batch's queries for `count` processes, each part with its share of the targets' tokens and of the queries."""
        # With the token that ends each title.
        tokens = [len(self._titles[int(c[t])]) + 1 for c, t in zip(batch.candidates, batch.targets, strict=True)]
        found = []
        for rows in slices(len(batch.queries), count):
            part = StageTwoBatch(batch.queries[rows], batch.candidates[rows], batch.targets[rows], batch.text)
            found.append((part, sum(tokens[rows]) / sum(tokens), len(part.queries) / len(batch.queries)))
        return found

    def _draw(self, epoch: int) -> list[StageTwoBatch]:
        rng = numpy_generator(self._seed, "stage 2", epoch if self._config.redraw else 0)
        order = rng.permutation(len(self._users))[: self._config.samples_per_epoch]
        users, places = self._users[order], self._places[order]
        targets = self._split.dataset.item_numbers[self._split.dataset.offsets[users] + places]
        queries = [Query(self._split.dataset.sequence(int(u))[:p], int(u)) for u, p in zip(users, places, strict=True)]
        if self._config.pool is not None:
            return self._pooled(queries, targets, users, rng)
        return self._bucketed(queries, targets, users, rng, self._batch_size, self._known, self._negatives)

    def _validation_batches(self) -> list[StageTwoBatch]:
        rng = numpy_generator(self._seed, "stage 2 validation")
        able = np.flatnonzero(self._split.validation > 0)
        room = room_for_negatives(self._split.dataset, able, self._config.candidates - 1)
        users = np.sort(rng.permutation(room.kept)[: self._config.validation_users])
        if len(users) == 0:
            return []
        queries = [Query(self._split.validation_history(int(u)), int(u)) for u in users]
        batches = self._bucketed(queries, self._split.validation[users], users, rng, 16, self._split.dataset, room.n)
        return [StageTwoBatch(b.queries, b.candidates, b.targets, text=False) for b in batches]

    def _pooled(
        self,
        queries: Sequence[Query],
        targets: Int[np.ndarray, " samples"],
        users: Int[np.ndarray, " samples"],
        rng: np.random.Generator,
    ) -> list[StageTwoBatch]:
        """Batches whose negatives come from one pool each, in random order as they are."""
        batches = []
        others, pool = self._negatives, self._config.pool or self._config.candidates
        for start in range(0, len(queries), self._batch_size):
            rows = slice(start, start + self._batch_size)
            negatives = pooled_negatives(self._known, users[rows], others, pool, rng)
            text = bool(rng.random() < self._text_share)
            shown = rng.permuted(np.concatenate([targets[rows, None], negatives], axis=1), axis=1)
            places = np.argmax(shown == targets[rows, None], axis=1)
            batches.append(StageTwoBatch(queries[rows], list(shown), places, text))
        return batches

    def _bucketed(
        self,
        queries: Sequence[Query],
        targets: Int[np.ndarray, " samples"],
        users: Int[np.ndarray, " samples"],
        rng: np.random.Generator,
        size: int,
        source: InteractionDataset,
        others: int,
    ) -> list[StageTwoBatch]:
        """Candidates drawn and shuffled; batches of prompts of like length, in random order."""
        negatives = sample_negatives(source, users, others, rng)
        shown = rng.permuted(np.concatenate([targets[:, None], negatives], axis=1), axis=1)
        places = np.argmax(shown == targets[:, None], axis=1)
        titles, limit = self._titles, self._history
        lengths = np.asarray(
            [
                sum(len(titles[int(i)]) + 1 for i in (*shown[n], *q.history[max(0, len(q.history) - limit) :]))
                for n, q in enumerate(queries)
            ]
        )
        batches = []
        window = size * 16
        for start in range(0, len(queries), window):
            for group in length_groups(lengths[start : start + window], largest=size):
                rows = start + group
                text = bool(rng.random() < self._text_share)
                batches.append(StageTwoBatch([queries[r] for r in rows], [shown[r] for r in rows], places[rows], text))
        return [batches[n] for n in rng.permutation(len(batches))]


def training_positions(
    split: Split, positions: Literal["last", "held_out", "all"]
) -> tuple[Int[np.ndarray, " samples"], Int[np.ndarray, " samples"]]:
    """Users and places in their sequences that stage 2 trains on; a place is never a user's first.

    `train_end` counts what CF trains on; behind it, up to `prefix_end`, lie the held-out targets. Where nobody's history is
    long enough to withhold one, "held_out" takes the last training items, as "last" does.
    """
    ends, limits = split.train_end, split.prefix_end
    if positions == "held_out" and split.held_out_fails:
        positions = "last"
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


def rank_figures(
    scored: Iterable[tuple[Float[Tensor, "_batch _candidates"], Int[np.ndarray, " _batch"]]],
) -> Mapping[str, float]:
    """Mean NDCG, Hit@1 and margin of the target; a tie counts against it. Nothing of nothing.

    Args:
        scored: batch by batch the candidates' scores, and the place of each row's target.
    """
    ranks, margins = [], []
    for scores, targets in scored:
        wanted = torch.from_numpy(targets).to(scores.device)[:, None]
        target = scores.gather(1, wanted)
        others = scores.scatter(1, wanted, -torch.inf)
        ranks.append(1 + (others >= target).sum(dim=1))
        margins.append(target[:, 0] - others.max(dim=1).values)
    if not ranks:
        return {}
    rank = torch.cat(ranks).double()
    return {
        "validation/ndcg": float((1 / torch.log2(rank + 1)).mean()),
        "validation/hit@1": float((rank == 1).double().mean()),
        "validation/margin": float(torch.cat(margins).double().mean()),
    }
