"""Samples whose negatives come from a pool, and prompts that grow."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from allmrec.core.training import TrainingConfig
from allmrec.data.splitting import leave_one_out
from allmrec.prompting.tokenising import TitleTokens
from allmrec.recommend.samples import SampleConfig, StageTwoSamples
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.testing.worlds import taste_world

WORLD = taste_world(users=60, tastes=5, items_per_taste=10, length=7)
TITLES = TitleTokens(WORLD.catalogue.titles, tiny_language_model(), 4, "untitled")


def samples(epochs: int = 2, **config: object) -> StageTwoSamples:
    settings = SampleConfig.model_validate({"candidates": 10, "positions": "all", "validation_users": 0, **config})
    return StageTwoSamples(leave_one_out(WORLD), settings, TrainingConfig(batch_size=8, epochs=epochs), TITLES, 0)


def test_a_batch_draws_its_negatives_from_one_pool() -> None:
    known = leave_one_out(WORLD).training_part()
    for batch in samples(pool=14).batches(0):
        targets = {int(c[t]) for c, t in zip(batch.candidates, batch.targets, strict=True)}
        others = {int(i) for c in batch.candidates for i in c} - targets
        # A user who leaves too little of the pool draws from the whole catalogue.
        assert len(others) <= 14 + 9
        for query, items, target in zip(batch.queries, batch.candidates, batch.targets, strict=True):
            negatives = set(np.delete(items, target).tolist())
            assert len(negatives) == len(items) - 1 == 9
            assert not negatives & set(known.sequence(query.user).tolist())


def test_the_same_epoch_is_drawn_alike() -> None:
    first, second = (samples(pool=12).batches(1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.candidates, b.candidates, strict=True))


def test_a_pool_too_small_is_refused() -> None:
    with pytest.raises(ValidationError, match="pool"):
        samples(pool=5)
