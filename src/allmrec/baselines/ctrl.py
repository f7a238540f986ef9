"""CTRL: item embeddings that meet their texts before they learn to recommend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.baselines.given_items import sasrec_settings
from allmrec.baselines.morec import check_texts
from allmrec.cf.pretrain import PretrainConfig, SequenceTask
from allmrec.cf.sasrec import SASRec
from allmrec.core.config import Config
from allmrec.core.devices import chosen_device
from allmrec.core.errors import DataError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.splitting import Split
from allmrec.text.bank import TextBank
from allmrec.text.encoder import EncoderConfig, SentenceEncoder

__all__ = ["CTRLConfig", "CTRLTowers", "contrastive_loss", "train_ctrl"]


class CTRLConfig(Config):
    """How the two steps of CTRL are trained."""

    encoder: EncoderConfig = EncoderConfig(name="sentence-transformers/all-mpnet-base-v2")

    dim: int = Field(128, ge=1, description="Width in which the two projections meet.")
    temperature: float = Field(0.1, gt=0, description="Divides cosines before the softmax.")
    cache_bytes: int = Field(2**30, ge=0, description="Memory for what the encoder's frozen layers give, in bytes.")
    contrast: TrainingConfig = Field(
        TrainingConfig(learning_rate=1e-3, batch_size=256, epochs=20),
        description="The contrastive step; a sample is an item. It has no validation: the last weights count.",
    )
    pretrain: PretrainConfig = Field(
        default_factory=PretrainConfig, description="SASRec's size, and the fine-tuning with its validation."
    )


class CTRLTowers(nn.Module):
    """The two towers of the contrastive step and their projections.

    Args:
        encoder: the text tower; its tunable part is trained in place.
        bank: texts behind that encoder, one row per item number.
        sasrec: its item embedding is the collaborative tower.
        dim: of the space in which they meet.
    """

    def __init__(self, encoder: SentenceEncoder, bank: TextBank, sasrec: SASRec, dim: int) -> None:
        super().__init__()
        self.encoder = cast(nn.Module, encoder)
        self.items = sasrec.item_emb
        self.item_projection = nn.Linear(sasrec.dim, dim)
        self.text_projection = nn.Linear(encoder.dim, dim)
        self._bank = bank

    def forward(
        self, items: Int[np.ndarray, " items"]
    ) -> tuple[Float[Tensor, "items dim"], Float[Tensor, "items dim"]]:
        """Each item's projected embedding and its projected text."""
        numbers = torch.from_numpy(items).to(self.items.weight.device)
        return self.item_projection(self.items(numbers)), self.text_projection(self._bank.vectors(items))


def contrastive_loss(
    items: Float[Tensor, "items dim"], texts: Float[Tensor, "items dim"], temperature: float
) -> Float[Tensor, ""]:
    """An item must find its own text among the batch's, and a text its own item (CTRL).

    With s_ij = cos(item_i, text_j) / τ:   L = ½ · mean_i [ −log softmax_j(s_ij)_i − log softmax_j(s_ji)_i ].
    """
    scores = F.normalize(items, dim=1) @ F.normalize(texts, dim=1).T / temperature
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


class ContrastTask:
    """Every item with a text once an epoch, for `core.training.fit`."""

    def __init__(self, towers: CTRLTowers, bank: TextBank, config: CTRLConfig, seed: int) -> None:
        self._towers, self._config, self._seed = towers, config, seed
        self._items = np.flatnonzero(bank.present)
        if len(self._items) < 2:
            raise DataError(f"{len(self._items)} items have a text; CTRL contrasts at least two. Give texts.")

    def batches(self, epoch: int) -> Sequence[Int[np.ndarray, " items"]]:
        """Items in the epoch's own order; batches differ by one item at the most, so none has nothing to contrast."""
        order = numpy_generator(self._seed, "ctrl", "order", epoch).permutation(self._items)
        size = max(2, self._config.contrast.batch_size)
        return np.array_split(order, max(1, min(math.ceil(len(order) / size), len(order) // 2)))

    def losses(self, batch: Int[np.ndarray, " items"]) -> Mapping[str, Tensor]:
        """The contrastive loss."""
        items, texts = self._towers(batch)
        return {"contrast": contrastive_loss(items, texts, self._config.temperature)}

    def validate(self) -> Mapping[str, float]:
        """None: what counts is the fine-tuning's."""
        return {}


def train_ctrl(
    split: Split,
    texts: Sequence[str | None],
    encoder: SentenceEncoder,
    config: CTRLConfig,
    seed: int,
    resume: Checkpoint | None = None,
    device: torch.device | str = "auto",
) -> tuple[SASRec, TrainingLog, TrainingLog]:
    """Train CTRL's two steps: contrast item embeddings with texts, then fine-tune SASRec from there.

    CTRL (Li et al., "Connect Tabular and Language Model for CTR Prediction", 2023) pre-trains a click model against a
    language model that reads the same sample as words, by a softmax over the batch in both directions with a projection
    on each tower, then fine-tunes the click model alone; text is not read when serving. A-LLMRec's authors carried it
    over to next-item recommendation on SASRec. Its samples being users' clicks, the pairs that are left are items: an
    item's embedding and its text. Ours: the encoder is any sentence encoder, tuned or not (`encoder.tune`), CTRL tunes
    it in full; loss, negatives and stopping of the fine-tuning are those of `cf.pretrain`, and SASRec starts from the
    same weights as `pretrain` of that seed, but for its item embedding. Items without a text keep their first one.

    What comes back ranks through `BackboneRecommender(model, "CTRL")`, its `state_dict` is what to store, and
    `SASRec.from_arrays` loads it.

    Args:
        split: the data.
        texts: one per item number; entry 0 is the padding's, None where an item has no text.
        encoder: the sentence encoder; its tunable part is trained in place.
        config: sizes and training.
        seed: names every draw.
        resume: where to keep the fine-tuning's resume state; the contrastive step keeps its own beside it
            (`.contrast`). The caller removes both at the end.
        device: where to train; auto: the GPU where there is one.

    Returns:
        The model in evaluation mode, what happened in the contrastive step, and in the fine-tuning.

    Raises:
        ConfigError: the config is of a backbone other than SASRec.
        DataError: the number of texts does not fit the data, or there is nothing to contrast, train or validate on.
    """
    settings = sasrec_settings(config.pretrain, "CTRL")
    check_texts(texts, split)
    place = chosen_device(str(device))
    with seeded_torch(seed, "cf", "initialisation"):
        sasrec = SASRec(split.dataset.n_items, settings)
    bank = TextBank(encoder, [None, *texts[1:]], config.cache_bytes, place)
    with seeded_torch(seed, "ctrl", "initialisation"):
        towers = CTRLTowers(encoder, bank, sasrec, config.dim)
    towers.to(place)
    sasrec.to(place)
    contrasted = fit(
        towers,
        ContrastTask(towers, bank, config, seed),
        config.contrast,
        "contrast items with texts",
        None if resume is None else replace(resume, path=resume.path.with_name(f"{resume.path.name}.contrast")),
        seed=seed,
    )
    task = SequenceTask(sasrec, split, config.pretrain, seed)
    tuned = fit(sasrec, task, config.pretrain.training, "fine-tune CTRL", resume, seed=seed)
    return sasrec.eval(), contrasted, tuned
