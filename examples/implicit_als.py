"""A CF model from another library inside A-LLMRec: alternating least squares of the package `implicit`.

    pip install implicit==0.7.3
    python examples/implicit_als.py

Whatever gives a vector for each item and one for each history fits. ALS answers new histories by itself, so nothing
here approximates it: `recalculate_user` solves for the user's vector with the item vectors held still.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from torch import Tensor

from allmrec.alignment import AlignConfig, align
from allmrec.cf import Backbone, BackboneRecommender
from allmrec.cf.backbone import check_numbers
from allmrec.core.training import TrainingConfig
from allmrec.data import InteractionDataset, SequenceBatch, leave_one_out
from allmrec.data.splitting import Split
from allmrec.llm.language_model import LanguageModel
from allmrec.llm.transformers_lm import load_language_model
from allmrec.ranking import Query
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.prompt_config import PromptConfig
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import TuneConfig, tune
from allmrec.testing.worlds import taste_world
from allmrec.text import EncoderConfig, SentenceEncoder, load_encoder


class ALSBackbone:
    """A trained ALS model as a `Backbone`: no base class, only what the protocol names.

    Args:
        model: trained on rows of users and columns of items, where column i is item number i + 1.
        max_history: how many of a history's most recent items are looked at.
    """

    def __init__(self, model: AlternatingLeastSquares, max_history: int = 50) -> None:
        self.model = model
        self.max_history = max_history
        self.dim = int(model.item_factors.shape[1])
        self.n_items = int(model.item_factors.shape[0])
        padding = np.zeros((1, self.dim), dtype=np.float32)
        self._items = torch.from_numpy(np.concatenate([padding, model.item_factors]))

    @classmethod
    def fit(cls, split: Split, factors: int = 50, iterations: int = 15, seed: int = 0) -> ALSBackbone:
        """Train on each user's training items."""
        dataset = split.dataset
        mask = split.train_mask()
        users, items = dataset.user_of_interaction()[mask], dataset.item_numbers[mask] - 1
        taken = sparse.csr_matrix(
            (np.ones(len(users), dtype=np.float32), (users, items)), (dataset.n_users, dataset.n_items)
        )
        with warnings.catch_warnings():
            # It warns where OPENBLAS_NUM_THREADS is not 1, which costs time and changes nothing.
            warnings.simplefilter("ignore", RuntimeWarning)
            model = AlternatingLeastSquares(
                factors=factors, iterations=iterations, random_state=seed, num_threads=1, use_gpu=False
            )
        model.fit(taken, show_progress=False)
        return cls(model)

    def item_vectors(self) -> Tensor:
        """`E`, one row per item number; row 0 pads."""
        return self._items

    def user_vectors(self, batch: SequenceBatch) -> Tensor:
        """`x_u` of each history, as ALS itself finds it; 0 for an empty one."""
        check_numbers(batch, self.n_items)
        recent = batch.histories[:, -self.max_history :]
        rows, columns = np.nonzero(recent)
        shape = (len(recent), self.n_items)
        ones = np.ones(len(rows), dtype=np.float32)
        taken = sparse.csr_matrix((ones, (rows, recent[rows, columns] - 1)), shape)
        return torch.from_numpy(self.model.recalculate_user(np.arange(len(recent)), taken))


def with_language_model(
    split: Split, backbone: Backbone, encoder: SentenceEncoder, lm: LanguageModel, samples: int = 32
) -> ALLMRec:
    """Stage 1 and stage 2 around a CF model that this project did not train."""
    titles = split.dataset.catalogue.titles
    training = TrainingConfig(learning_rate=1e-3, batch_size=32, epochs=1)
    _, joint, _ = align(split, backbone, titles, encoder, AlignConfig(training=training), seed=0)
    ranker = PromptedRanker(lm, backbone, joint, titles, PromptConfig())
    config = TuneConfig(
        title_weight=0.0, select_weight=1.0, samples_per_epoch=samples, validation_users=8,
        training=TrainingConfig(learning_rate=1e-3, batch_size=4, epochs=1),
    )  # fmt: skip
    tune(ranker, split, config)
    return ALLMRec(split.dataset, ranker)


def world() -> InteractionDataset:
    """Users who each keep to one of ten tastes."""
    return taste_world(users=120)


def main() -> list[int]:
    """Train, and recommend to somebody whom ALS has never seen."""
    split = leave_one_out(world())
    backbone = ALSBackbone.fit(split, factors=16)
    history = split.test_history(0)
    candidates = np.arange(1, split.dataset.n_items + 1)[::6]
    alone = BackboneRecommender(backbone, "ALS").rank([Query(history)], [candidates])[0]
    recommender = with_language_model(
        split, backbone, load_encoder(EncoderConfig(tune="frozen")), load_language_model("smollm2-135m-instruct")
    )
    together = recommender.rank([Query(history)], [candidates])[0]
    for name, ranking in (("ALS", alone), (recommender.name, together)):
        print(f"{name}: {', '.join(split.dataset.catalogue.titles[int(item)] or '' for item in ranking.items[:5])}")
    return [int(item) for item in alone.items]


if __name__ == "__main__":
    main()
