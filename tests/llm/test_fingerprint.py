"""The fingerprint of a frozen model: equal for equal weights, different for any other."""

from __future__ import annotations

import torch
from torch import nn

from allmrec.llm.fingerprint import fingerprint
from allmrec.testing.tiny_lm import tiny_language_model


def test_equal_weights_have_equal_fingerprints_at_any_precision() -> None:
    one, two = (tiny_language_model("opt").frozen.module for _ in range(2))
    assert fingerprint(one) == fingerprint(two) == fingerprint(two.to(torch.bfloat16))


def test_another_model_has_another() -> None:
    prints = {
        fingerprint(tiny_language_model(kind, seed=seed).frozen.module) for kind in ("opt", "llama") for seed in (0, 1)
    }
    assert len(prints) == 4


def test_names_and_shapes_count() -> None:
    one, two = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        one.weight.fill_(1.0)
        two.weight.fill_(1.0)
    assert fingerprint(one) != fingerprint(two)
