"""Trains a backbone on a split's training prefixes; knows the backbones only through their registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt, SerializeAsAny, field_validator, model_validator
from torch import Tensor

from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.continuing import EarlierWeights, take_over
from allmrec.cf.next_item import NextItemLoss
from allmrec.cf.registry import backbone_kind
from allmrec.cf.samples import CompetingSampler, NegativeSampler, TrainingBatch, training_windows
from allmrec.cf.text_items import of_texts
from allmrec.cf.validation import ValidationSample
from allmrec.core.config import Config, parse_config
from allmrec.core.devices import chosen_device
from allmrec.core.distributed import slices
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.splitting import Split

__all__ = ["PretrainConfig", "SequenceTask", "pretrain"]


# Items above which a step moves only those rows of the table of items that it looks at (`core.optimizers.RowAdamW`): with gradients and
# moments of the whole table a step takes as long as the catalogue is.
_BY_ROWS_ABOVE = 1_000_000


class PretrainConfig(Config):
    """Which backbone is trained, and how. The defaults are the paper's, with validation added."""

    backbone: str = Field("sasrec", description="Name in the registry of backbones.")
    model: SerializeAsAny[Config] = Field(
        default_factory=dict,  # the validator below turns it into the backbone's own config
        validate_default=True,
        description="The backbone's own settings, e.g. `SASRecConfig` or a mapping of its fields.",
    )
    windows: Literal["last", "all"] = Field(
        "last",
        description="Training positions of a long sequence: its last max_history (the paper's), or all of them.",
    )
    validation_users: int = Field(1000, ge=1, description="Users drawn for validation, at the most.")
    validation_negatives: PositiveInt | Literal["all"] = Field(
        19, description="Items that each validation item is ranked against, at the most; all: the whole catalogue."
    )
    training: TrainingConfig = Field(
        TrainingConfig(
            learning_rate=1e-3, betas=(0.9, 0.98), batch_size=128, epochs=200, validate_every=200, patience=10
        ),
        description="The training loop's settings.",
    )

    @model_validator(mode="before")
    @classmethod
    def _parse_model(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        name = values.get("backbone", "sasrec")
        if not isinstance(name, str):
            raise ValueError(f"backbone is {name!r}; expected the name of one")
        try:
            kind = backbone_kind(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        model = values.get("model", {})
        return {
            **values,
            "model": parse_config(kind.config, model, "pretrain.model") if isinstance(model, Mapping) else model,
        }

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: Config, info: Any) -> Config:
        wanted = backbone_kind(info.data.get("backbone", "sasrec")).config
        if not isinstance(value, wanted):
            raise ValueError(f"expected a {wanted.__name__}, found a {type(value).__name__}")
        return value


def validation_negatives(config: PretrainConfig) -> int | None:
    """How many items each validation item is ranked against; none: all."""
    return None if config.validation_negatives == "all" else config.validation_negatives


class SequenceTask:
    """Next-item prediction at every position with sampled negatives, for `core.training.fit`.

    The backbone's `objective` says which loss, and how many negatives.

    Args:
        backbone: what is trained.
        split: gives the training prefixes and the validation items.
        config: windows, batch size, validation.
        seed: names order, negatives and the validation sample.
    """

    def __init__(self, backbone: SequenceBackbone, split: Split, config: PretrainConfig, seed: int) -> None:
        self._backbone = backbone
        self._seed = seed
        self.batch_size = config.training.batch_size
        self._sampler: NegativeSampler | None = NegativeSampler(split)
        self.windows = training_windows(split, backbone.max_history, config.windows).of(~self._sampler.without)
        if not len(self.windows):
            raise DataError("No user who trains leaves an item unseen; use a catalogue with more items.")
        users = self.windows.users  # in order
        backbone.trained_on(users[np.diff(users, prepend=-1) != 0])
        objective, n_items = backbone.objective, split.dataset.n_items
        self._negatives = objective.negatives
        if objective.loss == "softmax":
            self._sampler = None
        self._competing = None
        if objective.loss == "softmax" and n_items > objective.exact_below:
            self._competing = CompetingSampler(split.train_counts(), objective.sample)
        self._loss = NextItemLoss(backbone, by_rows=n_items > _BY_ROWS_ABOVE)
        self._validation = ValidationSample(
            split, config.validation_users, validation_negatives(config), backbone.max_history, seed
        )

    def batches(self, epoch: int) -> Sequence[TrainingBatch]:
        """The epoch's rows in its own order; each batch is put together when it is asked for."""
        order = numpy_generator(self._seed, "cf", "order", epoch).permutation(len(self.windows))
        return _Batches(self, order, epoch)

    def batch(self, epoch: int, number: int, rows: Int[np.ndarray, " rows"]) -> TrainingBatch:
        """One batch, trimmed to its longest row; its negatives depend on the epoch and its number alone."""
        histories, targets = self.windows.cut(rows)
        users = self.windows.users[rows]
        rng = numpy_generator(self._seed, "cf", "negatives", epoch, number)
        if self._sampler is None:
            none = np.zeros((len(rows), 0), dtype=np.int64)
            competing = (None, None) if self._competing is None else self._competing.draw(targets[targets != 0], rng)
            return TrainingBatch(users, histories, targets, none, *competing)
        if self._negatives is None:
            real = np.nonzero(targets)
            negatives = np.zeros_like(targets)
            negatives[real] = self._sampler.draw(users[real[0]], 1, rng)[:, 0]
        else:
            negatives = self._sampler.draw(users, self._negatives, rng)
        return TrainingBatch(users, histories, targets, negatives)

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        """The backbone's objective, averaged over real positions."""
        return {"recommendation": self._loss.of(batch)}

    def shares(self, batch: TrainingBatch, count: int) -> list[tuple[TrainingBatch, dict[str, float]]]:
        """The batch's rows for `count` processes; every loss is a mean over the rows' real positions."""
        positions = (batch.targets != 0).sum(axis=1)
        shared = []
        for rows in slices(len(batch), count):
            part = replace(
                batch,
                users=batch.users[rows],
                histories=batch.histories[rows],
                targets=batch.targets[rows],
                negatives=batch.negatives[rows],
            )
            shared.append((part, {"recommendation": float(positions[rows].sum() / positions.sum())}))
        return shared

    def validate(self) -> Mapping[str, float]:
        """NDCG@10 and Hit@1 on the validation sample."""
        return self._validation.figures(self._validation.user_vectors(self._backbone), self._backbone.item_vectors())


class _Batches(Sequence[TrainingBatch]):
    """An epoch's batches, made when they are looked at."""

    def __init__(self, task: SequenceTask, order: Int[np.ndarray, " rows"], epoch: int) -> None:
        self._task, self._order, self._epoch = task, order, epoch

    def __len__(self) -> int:
        return -(-len(self._order) // self._task.batch_size)

    @overload
    def __getitem__(self, index: int) -> TrainingBatch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingBatch]: ...
    def __getitem__(self, index: int | slice) -> TrainingBatch | Sequence[TrainingBatch]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        size = self._task.batch_size
        return self._task.batch(self._epoch, number, self._order[number * size : (number + 1) * size])


def pretrain(
    split: Split,
    config: PretrainConfig,
    seed: int,
    resume: Checkpoint | None = None,
    device: torch.device | str = "auto",
    earlier: EarlierWeights | None = None,
    texts: Float[Tensor, "rows texts"] | None = None,
) -> tuple[SequenceBackbone, TrainingLog]:
    """Train a backbone on each user's training prefix (`split.train_end`) and keep the best validation's weights.

    A kind that needs no training, such as `imported`, is made, checked and measured on the validation sample.

    Args:
        split: the data; with `hold_out` the withheld items are not seen.
        config: backbone and training.
        seed: names every draw.
        resume: where to keep the resume state, if the run is to survive being killed.
        device: where to train; auto: the GPU where there is one.
        earlier: weights to go on from; validation before the first step says how good they are, and they stay where no later
            ones are better.
        texts: vectors of the items' texts, one row an item number, zeros where there is none; where `model.items` is texts.

    Returns:
        The backbone in evaluation mode, and what happened.

    Raises:
        ConfigError: `model.items` is texts and there are none.
        DataError: there is nothing to train or to validate on.
        ArtifactError: the earlier weights are those of another model.
    """
    kind, device = backbone_kind(config.backbone), chosen_device(str(device))
    if kind.ready is not None:
        return _checked(kind.ready(split, config.model).to(device), split, config, seed)
    with seeded_torch(seed, "cf", "initialisation"):
        backbone = kind.build(split.dataset.n_items, len(split.train_end), config.model)
        if getattr(config.model, "items", "ids") == "texts":
            if texts is None:
                raise ConfigError(f"model.items of {config.backbone} is texts, and no vectors of texts were given.")
            backbone = of_texts(backbone, texts, None if earlier is None else earlier.tensors)
    if earlier is not None:
        take_over(backbone, earlier)
    backbone.to(device)
    task = SequenceTask(backbone, split, config, seed)
    log = fit(backbone, task, config.training, f"pre-train {kind.title}", resume, earlier is not None, seed=seed)
    return backbone.eval(), log


def _checked(
    backbone: SequenceBackbone, split: Split, config: PretrainConfig, seed: int
) -> tuple[SequenceBackbone, TrainingLog]:
    """A backbone that came trained, with its validation figures as the only record."""
    backbone.eval()
    sample = ValidationSample(split, config.validation_users, validation_negatives(config), backbone.max_history, seed)
    with torch.no_grad():
        figures = sample.figures(sample.user_vectors(backbone), backbone.item_vectors())
    record = {"step": 0.0, "epoch": 0.0, **figures}
    return backbone, TrainingLog(records=[record], best_value=next(iter(figures.values())))
