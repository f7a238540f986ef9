"""MoRec: SASRec on texts instead of item numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.baselines.given_items import GivenItemsTask, SASRecOnGivenItems, sasrec_settings
from allmrec.cf.pretrain import PretrainConfig
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.config import Config
from allmrec.core.devices import chosen_device
from allmrec.core.errors import DataError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import TrainingConfig, TrainingLog, fit
from allmrec.data.splitting import Split
from allmrec.text.bank import TextBank
from allmrec.text.encoder import EncoderConfig, SentenceEncoder

__all__ = ["MoRec", "MoRecConfig", "train_morec"]


class MoRecConfig(Config):
    """How MoRec is trained."""

    encoder: EncoderConfig = EncoderConfig(name="sentence-transformers/all-mpnet-base-v2")

    pretrain: PretrainConfig = Field(
        PretrainConfig(
            training=TrainingConfig(
                learning_rate=1e-4, betas=(0.9, 0.98), batch_size=128, epochs=200, validate_every=200, patience=10
            )
        ),
        description="SASRec's size, its training and validation; one learning rate for encoder, dense layer and SASRec.",
    )
    cache_bytes: int = Field(2**30, ge=0, description="Memory for what the encoder's frozen layers give, in bytes.")


class MoRec(nn.Module):
    """MoRec (Yuan et al., SIGIR 2023): the text's vector, through a dense layer, is the item's embedding.

        E_i = W · encoder(text_i) + b,    x_u = SASRec(E of the history),    score = x_u · E_i

    From that paper: the dense layer behind the encoder, training of everything end to end on the recommender's own
    loss, and SASRec as the recommender. A-LLMRec's authors used it so too, as the row in which text replaces
    the ID embedding. Ours: the encoder may be tuned in full, in its last layers or not at all (`encoder.tune`); one
    rate for all parts, where the paper has one for the encoder and another for the rest; loss, negatives and stopping
    are those of `cf.pretrain`, so that only the source of the item vectors tells this row from SASRec's.

    An item without a text has the vector b, the same for all of them.

    Args:
        encoder: its tunable part is trained in place.
        bank: texts behind that encoder, one row per item number.
        config: SASRec's sizes.
    """

    def __init__(self, encoder: SentenceEncoder, bank: TextBank, config: SASRecConfig) -> None:
        super().__init__()
        self.encoder = cast(nn.Module, encoder)
        self.dense = nn.Linear(encoder.dim, config.dim)
        self.sasrec = SASRecOnGivenItems(config)
        self._bank = bank

    def vectors(self, items: Int[np.ndarray, " items"]) -> Float[Tensor, "items d"]:
        """E of the chosen items; each text is encoded once."""
        found: Tensor = self.dense(self._bank.vectors(items))
        return found

    @torch.no_grad()
    def all_vectors(self) -> Float[Tensor, "rows d"]:
        """E of every item number, row 0 zeros; in evaluation mode."""
        table: Tensor = self.dense(self._bank.all_vectors(description="encode items"))
        table[0] = 0
        return table


def train_morec(
    split: Split,
    texts: Sequence[str | None],
    encoder: SentenceEncoder,
    config: MoRecConfig,
    seed: int,
    resume: Checkpoint | None = None,
    device: torch.device | str = "auto",
) -> tuple[SASRec, TrainingLog]:
    """Train MoRec on each user's training prefix and keep the best validation's weights.

    What comes back is a plain SASRec that holds the computed vectors as its item embedding: it ranks through
    `BackboneRecommender(model, "MoRec")`, its `state_dict` is what to store, and `SASRec.from_arrays` loads it. The tuned
    encoder stays in `encoder`; the weights of the dense layer are not kept.

    Args:
        split: the data.
        texts: one per item number; entry 0 is the padding's, None where an item has no text.
        encoder: the sentence encoder; its tunable part is trained in place.
        config: sizes and training.
        seed: names every draw.
        resume: where to keep the resume state, if the run is to survive being killed.
        device: where to train; auto: the GPU where there is one.

    Raises:
        ConfigError: the config is of a backbone other than SASRec.
        DataError: the number of texts does not fit the data, or there is nothing to train or validate on.
    """
    settings = sasrec_settings(config.pretrain, "MoRec")
    check_texts(texts, split)
    place = chosen_device(str(device))
    bank = TextBank(encoder, [None, *texts[1:]], config.cache_bytes, place)
    with seeded_torch(seed, "morec", "initialisation"):
        model = MoRec(encoder, bank, settings)
    model.to(place)
    task = GivenItemsTask(model.sasrec, model, split, config.pretrain, seed)
    log = fit(model, task, config.pretrain.training, "train MoRec", resume, seed=seed)
    return model.sasrec.with_items(model.all_vectors()), log


def check_texts(texts: Sequence[str | None], split: Split) -> None:
    """One text an item number.

    Raises:
        DataError: there are more or fewer.
    """
    if len(texts) != split.dataset.n_items + 1:
        raise DataError(
            f"{len(texts)} texts came with {split.dataset.n_items} items; expected {split.dataset.n_items + 1}, "
            "entry 0 for padding."
        )
