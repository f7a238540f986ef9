"""RECFORMER's pre-training and its two-stage fine-tuning; knows the model only as something that reads items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from allmrec.baselines.recformer import Recformer, RecformerConfig, hidden_words
from allmrec.baselines.recformer_text import ItemTokens
from allmrec.cf.validation import ValidationSample
from allmrec.core.config import Config
from allmrec.core.devices import chosen_device
from allmrec.core.errors import DataError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.splitting import Split

__all__ = ["RecformerTrainingConfig", "train_recformer"]


class RecformerTrainingConfig(Config):
    """How RECFORMER is trained; a sample of every step is a user with one cut of the history, drawn each epoch."""

    model: RecformerConfig = Field(
        default_factory=RecformerConfig, description="Which Longformer, and how much it reads."
    )
    masked: float = Field(0.15, gt=0, lt=1, description="Share of words that pre-training hides.")
    word_weight: float = Field(0.1, ge=0, description="Weight of the hidden words' loss beside the contrast's.")
    pretraining: TrainingConfig | None = Field(
        TrainingConfig(learning_rate=5e-4, batch_size=32, epochs=5, warmup=0.1),
        description="Hidden words, and histories that find their next item; none: start from the Longformer as it is.",
    )
    first: TrainingConfig = Field(
        TrainingConfig(learning_rate=5e-4, batch_size=32, epochs=10, patience=3),
        description="Fine-tuning in which the item vectors are computed anew before each epoch.",
    )
    second: TrainingConfig = Field(
        TrainingConfig(learning_rate=5e-4, batch_size=32, epochs=10, patience=3),
        description="Fine-tuning with the item vectors of the first one's best epoch.",
    )
    samples_per_epoch: int | None = Field(None, ge=1, description="Users drawn for an epoch; none: all of them.")
    validation_users: int = Field(1000, ge=1, description="Users drawn for validation, at the most.")
    validation_negatives: int = Field(
        19, ge=1, description="Items that each validation item is ranked against, at the most."
    )


@dataclass(frozen=True)
class Cuts:
    """Histories and what followed, of one step.

    Attributes:
        epoch, number: which step; they name its draws.
        histories: item numbers, oldest first.
        targets: the item after each.
    """

    epoch: int
    number: int
    histories: list[Int[np.ndarray, " _items"]]
    targets: Int[np.ndarray, " rows"]


class CutSampler:
    """One random cut a user and epoch: a history of at least one training item and the item after it.

    Args:
        split: only training prefixes are cut.
        batch_size: cuts in a batch.
        limit: users drawn for an epoch, at the most; none: all.
        seed: of the draws.
        step: what the cuts are for; each step has draws of its own.
    """

    def __init__(self, split: Split, batch_size: int, limit: int | None, seed: int, step: str) -> None:
        self._split, self._size, self._limit = split, batch_size, limit
        self._stream = (seed, "recformer", step, "cuts")
        self._users = np.flatnonzero(split.train_end >= 2)
        if not len(self._users):
            raise DataError(
                "No user has two training items, so there is nothing to learn an order from; use more data."
            )

    def batches(self, epoch: int) -> list[Cuts]:
        """The epoch's cuts in its own order."""
        rng = numpy_generator(*self._stream, epoch)
        users = rng.permutation(self._users)[: self._limit]
        cut = rng.integers(1, self._split.train_end[users])
        found = []
        for number, start in enumerate(range(0, len(users), self._size)):
            rows = slice(start, start + self._size)
            pairs = [(self._split.train(u), c) for u, c in zip(users[rows].tolist(), cut[rows].tolist(), strict=True)]
            targets = np.array([items[c] for items, c in pairs], dtype=np.int64)
            found.append(Cuts(epoch, number, [items[:c] for items, c in pairs], targets))
        return found


class PretrainingTask:
    """Hidden words, and contrast of histories with their next items, for `core.training.fit`."""

    def __init__(self, model: Recformer, sampler: CutSampler, config: RecformerTrainingConfig, seed: int) -> None:
        self._model, self._sampler, self._config, self._seed = model, sampler, config, seed

    def batches(self, epoch: int) -> Sequence[Cuts]:
        """One cut a user."""
        return self._sampler.batches(epoch)

    def losses(self, batch: Cuts) -> Mapping[str, Tensor]:
        """Both terms from one pass over the masked history; the next item is read as it is."""
        model, config = self._model, self._config
        rng = numpy_generator(self._seed, "recformer", "words", batch.epoch, batch.number)
        words = model.tokens.batch(batch.histories, model.config.max_history, model.config.max_tokens)
        masked, chosen = hidden_words(words, model.tokens, config.masked, rng)
        hidden = model(masked)
        items = model.encode([np.array([item]) for item in batch.targets])
        users = F.normalize(hidden[:, 0], dim=1)
        same = torch.from_numpy(batch.targets[:, None] == batch.targets).to(users.device)
        return {
            "contrast": in_batch_contrast(users, items, same, model.config.temperature),
            "words": config.word_weight * self._word_loss(hidden, words.ids, chosen),
        }

    def validate(self) -> Mapping[str, float]:
        """None: what counts is the fine-tuning's."""
        return {}

    def _word_loss(
        self,
        hidden: Float[Tensor, "rows tokens d"],
        ids: Int[np.ndarray, "rows tokens"],
        chosen: Bool[np.ndarray, "rows tokens"],
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the hidden words; 0 where none was hidden."""
        if not chosen.any():
            return hidden.new_zeros(())
        logits = self._model.word_logits(hidden[torch.from_numpy(chosen).to(hidden.device)])
        return F.cross_entropy(logits, torch.from_numpy(ids[chosen]).to(logits.device))


def in_batch_contrast(
    users: Float[Tensor, "rows d"], items: Float[Tensor, "rows d"], same: Bool[Tensor, "rows rows"], temperature: float
) -> Float[Tensor, ""]:
    """−log softmax of each history's own next item among the batch's (RECFORMER).

    Args:
        users, items: of length 1.
        same: whether two rows have the same next item; the other one is no negative.
        temperature: divides cosines.
    """
    own = torch.arange(len(users), device=users.device)
    same_item = same & ~torch.eye(len(users), dtype=torch.bool, device=users.device)
    scores = (users @ items.T / temperature).masked_fill(same_item, -torch.inf)
    return F.cross_entropy(scores, own)


class FineTuningTask:
    """Next-item prediction over the whole catalogue by fixed item vectors, for `core.training.fit`.

    Args:
        model: what is trained. Its item vectors are part of its state, so the best epoch's are kept with its weights,
            and a run that was killed has the same ones again.
        sampler: the samples.
        validation: what decides which weights are kept.
        refresh: compute the item vectors anew before each epoch's first step, as the first stage does.
    """

    def __init__(self, model: Recformer, sampler: CutSampler, validation: ValidationSample, refresh: bool) -> None:
        self._model, self._sampler, self._validation, self._refresh = model, sampler, validation, refresh

    def batches(self, epoch: int) -> Sequence[Cuts]:
        """One cut a user."""
        return self._sampler.batches(epoch)

    def losses(self, batch: Cuts) -> Mapping[str, Tensor]:
        """Cross-entropy of the next item among all items (RECFORMER)."""
        if self._refresh and batch.number == 0:
            self._model.refresh_items()
        users = self._model.encode(batch.histories) / self._model.config.temperature
        # A copy: before the next epoch the table is written anew, and row 0 is no item.
        scores = users @ self._model.item_vectors()[1:].clone().T
        return {"next item": F.cross_entropy(scores, torch.from_numpy(batch.targets - 1).to(scores.device))}

    def validate(self) -> Mapping[str, float]:
        """NDCG@10 and Hit@1 on the validation sample, with the item vectors as they are."""
        return self._validation.figures(self._validation.user_vectors(self._model, 64), self._model.item_vectors())


def train_recformer(
    split: Split,
    tokens: ItemTokens,
    config: RecformerTrainingConfig,
    seed: int,
    resume: Checkpoint | None = None,
    device: torch.device | str = "auto",
) -> tuple[Recformer, dict[str, TrainingLog]]:
    """Pre-train and fine-tune RECFORMER (Li et al., KDD 2023).

    From the paper: pre-training by hidden words and by contrast within the batch, L = L_contrast + λ L_words; then
    fine-tuning over the whole catalogue, first with item vectors that are computed anew before each epoch, then, from
    the best epoch on, with that epoch's vectors held fixed. Ours: pre-training on this catalogue's own training
    histories, one pass over the masked history serves both terms, there is no extra layer before the word embeddings,
    and every epoch cuts each user's history at a random place. If the second stage finds nothing better on the
    validation items, the first one's best stays.

    What comes back ranks through `BackboneRecommender(model, model.name)`, its `state_dict` is what to store, and
    `Recformer.from_arrays` loads it beside the same tokens.

    Args:
        split: the data; only training prefixes are learned from.
        tokens: the catalogue in tokens.
        config: model and training.
        seed: names every draw; it takes the place of the training configs' own.
        resume: where to keep the resume states, one a step, with the step's name added to the file's; the caller
            removes all of them at the end.
        device: where to train; auto: the GPU where there is one.

    Returns:
        The model in evaluation mode, and what happened in each step.

    Raises:
        DataError: there is nothing to train or validate on.
        ModelNotFoundError: the Longformer that is named cannot be loaded.
    """
    with seeded_torch(seed, "recformer", "initialisation"):
        model = Recformer(tokens, config.model)
    model.to(chosen_device(str(device)))
    validation = ValidationSample(
        split, config.validation_users, config.validation_negatives, config.model.max_history, seed
    )
    logs: dict[str, TrainingLog] = {}

    def step(name: str, training: TrainingConfig) -> TrainingLog:
        sampler = CutSampler(split, training.batch_size, config.samples_per_epoch, seed, name)
        task: PretrainingTask | FineTuningTask
        if name == "pretraining":
            task = PretrainingTask(model, sampler, config, seed)
        else:
            task = FineTuningTask(model, sampler, validation, refresh=name == "first")
        state = None if resume is None else replace(resume, path=resume.path.with_name(f"{resume.path.name}.{name}"))
        logs[name] = fit(model, task, training, f"RECFORMER {name}", state, seed=seed)
        return logs[name]

    if config.pretraining is not None:
        step("pretraining", config.pretraining)
    first = step("first", config.first)
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if step("second", config.second).best_value <= first.best_value:
        model.load_state_dict(best)
    return model.eval(), logs
