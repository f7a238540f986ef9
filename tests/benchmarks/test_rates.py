"""The rates of `allmrec plan` are what the benchmarks' results say."""

from __future__ import annotations

import json

import pytest
from benchmarks.rates import TARGET, rates, written


def test_the_file_is_what_the_results_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == written(), "run `python -m benchmarks.rates`"


def test_a_rate_is_its_quotient() -> None:
    known = rates()
    assert known["cf.users"].value == pytest.approx(7.177724814529896 * 256)
    assert known["score:facebook/opt-6.7b"].machine == "NVIDIA H200"
    assert json.loads(written()).keys() == known.keys()
