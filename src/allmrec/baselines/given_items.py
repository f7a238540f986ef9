"""SASRec whose item vectors are computed elsewhere, and its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.cf.pretrain import PretrainConfig, SequenceTask
from allmrec.cf.samples import TrainingBatch
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.errors import ConfigError
from allmrec.data.splitting import Split

__all__ = ["GivenItemsTask", "ItemSource", "SASRecOnGivenItems", "sasrec_settings"]


@runtime_checkable
class ItemSource(Protocol):
    """What computes item vectors."""

    def vectors(self, items: Int[np.ndarray, " items"]) -> Float[Tensor, "items d"]:
        """Vectors of the chosen items, none of them padding, with gradients to whatever is trained."""
        ...

    def all_vectors(self) -> Float[Tensor, "rows d"]:
        """One row per item number, row 0 zeros; without gradients."""
        ...


class _GivenEmbedding(nn.Embedding):
    """Stands where an embedding was: looks up rows of whatever table is set as its weight, and owns none."""

    def __init__(self, dim: int) -> None:
        super().__init__(1, dim, padding_idx=0)
        del self.weight
        self.register_buffer("weight", torch.zeros(1, dim), persistent=False)


class SASRecOnGivenItems(SASRec):
    """SASRec without an item table of its own: within `given`, item numbers are rows of the table given.

    Everything else is `SASRec` as it is, so a change there is a change here.

    Args:
        config: sizes.
    """

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__(1, config)
        self.item_emb = _GivenEmbedding(config.dim)

    @contextmanager
    def given(self, table: Float[Tensor, "rows d"]) -> Iterator[None]:
        """Use `table`, row 0 of which pads, for the length of the block."""
        before, known = self.item_emb.weight, self.n_items
        self.item_emb.register_buffer("weight", table, persistent=False)
        self.n_items = len(table) - 1
        try:
            yield
        finally:
            self.item_emb.register_buffer("weight", before, persistent=False)
            self.n_items = known

    def with_items(self, table: Float[Tensor, "rows d"]) -> SASRec:
        """A plain SASRec with the table as its item embedding: what computed it is no longer needed."""
        arrays = {"item_emb.weight": table.detach().cpu()}
        arrays |= {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}
        return SASRec.from_arrays(arrays, self.config).to(table.device)


class GivenItemsTask:
    """The training of `cf.pretrain` where item vectors are computed, for `core.training.fit`.

    A batch's items are computed once each, however often they stand in it; the batch is renumbered to rows of that small
    table, and `SequenceTask` does the rest.

    Args:
        backbone: reads item vectors.
        source: computes them.
        split, config, seed: as for `SequenceTask`.
    """

    def __init__(
        self, backbone: SASRecOnGivenItems, source: ItemSource, split: Split, config: PretrainConfig, seed: int
    ) -> None:
        self._backbone, self._source = backbone, source
        self._task = SequenceTask(backbone, split, config, seed)

    def batches(self, epoch: int) -> Sequence[TrainingBatch]:
        """The epoch's batches, by the catalogue's item numbers."""
        return self._task.batches(epoch)

    def losses(self, batch: TrainingBatch) -> Mapping[str, Tensor]:
        """The CF model's loss, through the vectors of the batch's items."""
        roles = {"histories": batch.histories, "targets": batch.targets, "negatives": batch.negatives}
        items = np.unique(np.concatenate([[0], *(numbers.ravel() for numbers in roles.values())]))
        vectors = self._source.vectors(items[1:])
        table = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
        rows = {role: np.searchsorted(items, numbers) for role, numbers in roles.items()}
        with self._backbone.given(table):
            return self._task.losses(replace(batch, **rows))

    def shares(self, batch: TrainingBatch, count: int) -> Sequence[tuple[TrainingBatch, Mapping[str, float]]] | None:
        """As `SequenceTask` shares it; each process computes its own part's items."""
        return self._task.shares(batch, count)

    def validate(self) -> Mapping[str, float]:
        """NDCG@10 and Hit@1 on the validation sample; all item vectors are computed."""
        with self._backbone.given(self._source.all_vectors()):
            return self._task.validate()


def sasrec_settings(config: PretrainConfig, name: str) -> SASRecConfig:
    """The settings of the SASRec that a baseline is built on.

    Raises:
        ConfigError: the config is of another backbone.
    """
    if not isinstance(config.model, SASRecConfig):
        raise ConfigError(f"{name} is built on SASRec, and its configuration names {config.backbone!r}.")
    return config.model
