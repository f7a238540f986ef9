"""What titles_speed compares computes the same, and its rows say what they must; no time is asserted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.scoring import spliced_one_at_a_time
from benchmarks.titles_speed import (
    Questions,
    compared,
    precisions,
    same_results,
    scoring,
    single_prompts_loss,
    training,
)
from tests.recommend.conftest import WORLD, queries, ranker

from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import draw_protocol
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import StageTwoBatch, TuneConfig
from allmrec.testing.tiny_lm import tiny_language_model

COPY = {"template": {"form": "copy"}, "budget": {"title_tokens": 4}}
CANDIDATES = [np.asarray(c) for c in ([3, 1, 7, 9], [9, 2, 3, 12], [5, 6, 7, 8])]
TARGETS = np.asarray([2, 0, 3])
TUNE = TuneConfig.model_validate(
    {"prompt": COPY, "candidates": 4, "pool": 5, "validation_users": 0, "training": {"batch_size": 3}}
)


def made(kind: str, **prompt: object) -> PromptedRanker:
    config = {**COPY, **prompt}
    return ranker(tiny_language_model(kind), **config).eval()  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("kind", ["llama", "opt"])
@pytest.mark.parametrize("prompt", [{}, {"user_vector": False}, {"item_vectors": False}, {"template": {}}])
def test_titles_one_at_a_time_score_as_kept_items_do(kind: str, prompt: dict[str, object]) -> None:
    """The paper's form keeps nothing, so there the comparator is compared with the tree behind the whole prompt."""
    own = made(kind, **prompt)
    with own.keeping_items():
        kept = torch.stack([row.sum(-1) for row in own.title_likelihoods(queries(3), CANDIDATES)]).detach()
    alone = torch.tensor(spliced_one_at_a_time(own, queries(3), CANDIDATES))
    torch.testing.assert_close(alone, kept, rtol=1e-4, atol=1e-4)


def test_single_prompts_have_the_loss_of_the_shared_batch() -> None:
    own = made("llama")
    shared = own.losses(queries(3), CANDIDATES, TARGETS, title=True, select=False).title
    batch = StageTwoBatch(queries(3), CANDIDATES, TARGETS, text=False)
    torch.testing.assert_close(single_prompts_loss(own, batch), shared)


def test_ways_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own, asked = made("llama"), Questions(queries(3), CANDIDATES)
    batch = StageTwoBatch(queries(3), CANDIDATES, TARGETS, text=False)
    assert same_results(own, asked, batch) < 1e-3
    monkeypatch.setattr("benchmarks.titles_speed.spliced_one_at_a_time", lambda *_: [[0.0] * 4] * 3)
    with pytest.raises(AssertionError):
        same_results(own, asked, batch)


def test_a_ratio_is_the_median_of_the_turns() -> None:
    """Ours handles 8 in 1, 2 and 4 seconds, theirs 4 in 2, 2 and 2: 4, 2 and 1 times as fast."""
    ours, theirs = (np.repeat(np.asarray(column)[:, None], 2, axis=1) for column in ([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]))
    row = compared("a", ours, "b", theirs, (8, 4))
    assert (row["ours"], row["theirs"], row["ratio"], row["turns"]) == (4.0, 2.0, 2.0, 3)


def test_every_comparison_gives_rows() -> None:
    split = leave_one_out(WORLD)
    protocol = draw_protocol(split, n_candidates=4)
    asked = Questions.of(protocol, split, 16)
    lm = tiny_language_model()
    rows, sizes = scoring(ranker(lm, **COPY), asked, protocol)
    rows += training(lm, split, TUNE, 2)
    rows += precisions({"float32": lm, "bfloat16": lm}, split, TUNE, asked, 2)
    assert sizes["reading"]["the whole protocol"] == {
        "items": len(np.unique(protocol.candidates)),
        "users": len(protocol),
    }
    assert sizes["users"] == 16
    for row in rows:
        assert row["ours"] > 0
        assert row["theirs"] > 0
        assert row["turns"] == 2
