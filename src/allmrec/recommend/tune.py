"""Stage 2's training: which samples, which losses, which validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from allmrec.core.resume import Checkpoint
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.splitting import Split
from allmrec.recommend.copying import CopyingConfig, CopyingTask
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.samples import SampleConfig, StageTwoBatch, StageTwoSamples, rank_figures, training_positions

__all__ = ["StageTwoBatch", "TuneConfig", "stage_two_batches", "training_positions", "tune"]


class TuneConfig(SampleConfig):
    """Stage 2 (paper, section 3.2). The defaults are the paper's."""

    prompt: PromptConfig = PromptConfig()
    title_weight: float = Field(1.0, ge=0, description="Weight of the paper's loss on the target's title.")
    select_weight: float = Field(0.0, ge=0, description="Weight of the pointer head's loss over the candidates (ours).")
    items: Literal["joint", "backbone", "random"] = Field(
        "joint",
        description="What fills item slots: stage 1's joint vectors; the CF model's own, without stage 1 (the paper's "
        "MLP-LLM); or random ones (the paper's Table 9).",
    )
    text_share: float = Field(
        0.0, ge=0, le=1, description="Share of batches whose item slots carry text vectors, so that both kinds work."
    )
    copying: CopyingConfig = CopyingConfig()
    training: TrainingConfig = TrainingConfig(learning_rate=1e-4, batch_size=4, epochs=5)

    @model_validator(mode="after")
    def _some_loss(self) -> TuneConfig:
        if self.title_weight == 0 and self.select_weight == 0:
            raise ValueError("title_weight and select_weight are both 0; nothing would be learned")
        return self


class _StageTwoTask:
    """What `fit` needs: seeded batches of like length, both losses, validation by rank."""

    def __init__(self, ranker: PromptedRanker, split: Split, config: TuneConfig, seed: int) -> None:
        self._ranker, self._config = ranker, config
        titles, history = ranker.builder.titles, ranker.builder.history_shown
        self._samples = StageTwoSamples(split, config, config.training, titles, history, config.text_share, seed=seed)
        self._text = ranker.slot_table(ranker.joint.with_source("text"))

    def batches(self, epoch: int) -> Sequence[StageTwoBatch]:
        return self._samples.batches(epoch)

    def fit_prior(self) -> None:
        """Let the ranker's prior begin from what the first epoch's samples say."""
        samples = ((b.queries, b.candidates, b.targets) for b in self.batches(0))
        self._ranker.prior_scores.fit(self._ranker.head, samples)

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

    def shares(self, batch: StageTwoBatch, count: int) -> list[tuple[StageTwoBatch, dict[str, float]]] | None:
        """The batch's queries for `count` processes: `title` is a mean over the targets' tokens, `select` over queries.

        None where processes that share the language model would come away empty: all must call it equally often.
        """
        if self._ranker.lm.is_shared and len(batch.queries) < count:
            return None
        shared = []
        for part, of_tokens, of_queries in self._samples.parts(batch, count):
            shares = {}
            if self._config.title_weight > 0:
                shares["title"] = of_tokens
            if self._config.select_weight > 0:
                shares["select"] = of_queries
            shared.append((part, shares))
        return shared

    def validate(self) -> Mapping[str, float]:
        """Mean NDCG, Hit@1 and margin of the target over the validation users, by `select` where it is trained."""
        with self._ranker.keeping_items():
            return rank_figures((self._scores(batch), batch.targets) for batch in self._samples.validation)

    def _scores(self, batch: StageTwoBatch) -> Float[Tensor, "batch candidates"]:
        if self._config.select_weight > 0:
            return self._ranker.select_logits(batch.queries, batch.candidates)
        likelihoods = self._ranker.title_likelihoods(batch.queries, batch.candidates)
        return torch.stack([row.sum(dim=-1) for row in likelihoods])


def stage_two_batches(
    ranker: PromptedRanker, split: Split, config: TuneConfig, epoch: int, *, seed: int = 0
) -> Sequence[StageTwoBatch]:
    """The batches that `tune` trains on in an epoch, counted from 0."""
    return _StageTwoTask(ranker, split, config, seed).batches(epoch)


def tune(
    ranker: PromptedRanker,
    split: Split,
    config: TuneConfig,
    resume: Checkpoint | None = None,
    trained_before: bool = False,
    *,
    seed: int = 0,
) -> TrainingLog:
    """Train stage 2 in place.

    Args:
        ranker: projections and head, with the frozen parts around them.
        split: its training part is learned from, its validation items are watched.
        config: samples, losses, rates.
        resume: where to keep the resume state.
        trained_before: the ranker has trained weights to go on from: its prior is not fitted and nothing copied first, and
            validation before the first step says how good they are.
        seed: names every draw.

    Returns:
        Losses and validation figures over the steps.
    """
    task = _StageTwoTask(ranker, split, config, seed)
    if config.select_weight > 0 and not trained_before:
        task.fit_prior()
    if not trained_before and config.copying.steps and config.title_weight > 0 and ranker.can_copy:
        copying = CopyingTask(ranker, config.copying, split.dataset.n_items, seed)
        state = None if resume is None else replace(resume, path=resume.path.with_name(f"{resume.path.name}.copying"))
        once = config.training.model_copy(
            update={
                "epochs": 1,
                "accumulation": 1,
                "validate_every": None,
                "learning_rate": config.copying.learning_rate,
            }
        )
        fit(ranker, copying, once, "stage 2: copying", state, seed=seed)
        ranker.train()
    return fit(ranker, task, config.training, "stage 2: prompts", resume, trained_before, seed=seed)
