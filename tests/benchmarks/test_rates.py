"""The rates of `allmrec plan` are what the benchmarks' results say."""

from __future__ import annotations

import json

import pytest
from benchmarks.rates import TARGET, rates, written
from benchmarks.tables import RESULTS

from allmrec.core.artifacts import read_json


def test_the_file_is_what_the_results_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == written(), "run `python -m benchmarks.rates`"


def test_a_rate_is_its_quotient() -> None:
    known = rates()
    growth = read_json(RESULTS / "growth.json")["rows"]["cf-items"]
    assert growth["sizes"][2:] == [100_000, 1_000_000]
    assert known["cf.users"].value == pytest.approx(20 * 128 / growth["cpu_s"][0])
    assert known["cf.items"].value == pytest.approx(20 * 900_000 / (growth["cpu_s"][3] - growth["cpu_s"][2]))
    # Of the result of five million users and a million items, which had batches of twice as many: not far away.
    large = read_json(RESULTS / "large.json")
    step = large["batch_size"] / known["cf.users"].value + 1e6 / known["cf.items"].value
    assert step == pytest.approx(1 / large["steps_a_cpu_second"], rel=1)
    assert known["score:facebook/opt-6.7b"].machine == "NVIDIA H200"
    assert json.loads(written()).keys() == known.keys()
