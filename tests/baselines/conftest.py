"""A text encoder without words, small settings and a world for the systems that are built on SASRec."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor, nn

from allmrec.cf import PretrainConfig, SASRecConfig
from allmrec.core.training import TrainingConfig
from allmrec.data import Split, leave_one_out
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.ranking import Ranker
from allmrec.testing.worlds import taste_world
from allmrec.text import TokenisedTexts

MakeSettings = Callable[..., PretrainConfig]


class OneHot(nn.Module):
    """Text number n is the n-th unit vector; notes what it is asked for."""

    frozen = "nothing"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.asked: list[int] = []

    def tokenise(self, texts: list[str | None]) -> TokenisedTexts:
        return TokenisedTexts.of([[] if text is None else [int(text)] for text in texts])

    def states(self, ids: Tensor, real: Tensor) -> Tensor:
        raise NotImplementedError

    from_states = states

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        self.asked += ids[:, 0].tolist()
        return nn.functional.one_hot(ids[:, 0], self.dim).float()


def ranks(system: Ranker, split: Split) -> np.ndarray:
    """Each user's target's place among five candidates."""
    protocol = draw_protocol(split, n_candidates=5)
    return np.asarray(evaluate_rankers([system], protocol, split, reference=system.name).systems[0].ranks)


@pytest.fixture(scope="session")
def one_hot() -> type[OneHot]:
    return OneHot


@pytest.fixture(scope="session")
def sizes() -> SASRecConfig:
    return SASRecConfig(dim=8, max_history=6, dropout=0.0)


@pytest.fixture(scope="session")
def settings(sizes: SASRecConfig) -> MakeSettings:
    def make(epochs: int = 1, rate: float = 1e-3, dim: int = 8) -> PretrainConfig:
        training = TrainingConfig(learning_rate=rate, batch_size=32, epochs=epochs, validate_every=40)
        model = sizes.model_copy(update={"dim": dim})
        return PretrainConfig(model=model, windows="all", validation_negatives=4, training=training)

    return make


@pytest.fixture(scope="session")
def split() -> Split:
    """Forty users, three tastes of eight items."""
    return leave_one_out(taste_world(users=40, tastes=3, items_per_taste=8, length=7))
