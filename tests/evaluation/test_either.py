"""What two systems hit together, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allmrec.core.errors import ConfigError
from allmrec.data.splitting import Split
from allmrec.evaluation import Report, draw_protocol, evaluate_rankers, markdown, render
from allmrec.evaluation.either import hits_of_either

from .conftest import Scored


def test_it_is_the_union_of_hits_and_its_gain_on_the_better() -> None:
    first = np.array([1.0, 3, np.inf, 11, 2])
    second = np.array([np.inf, 1, 10, 11, np.inf])
    found = hits_of_either(("A", "B"), first, second, "hash", (1, 10))
    assert found.n_users == 5
    # At 1: A hits the first user, B the second. At 10: users 0, 1, 4 by A, 1 and 2 by B.
    assert {name: one.value for name, one in found.hits.items()} == pytest.approx({"Hit@1": 0.4, "Hit@10": 0.8})
    assert {name: one.value for name, one in found.gains.items()} == pytest.approx({"Hit@1": 0.2, "Hit@10": 0.2})


def test_the_report_has_it_over_common_users(split: Split, oracle: Scored, fool: Scored, tmp_path: Path) -> None:
    protocol = draw_protocol(split)
    report = evaluate_rankers([oracle, fool], protocol, split, {"Fool": 12}, either=[("Fool", "Oracle")])
    (found,) = report.either
    assert (found.systems, found.n_users, found.hits["Hit@10"].value) == (("Fool", "Oracle"), 12, 1.0)
    assert found.gains["Hit@10"].value == 0
    said = "Hit@10 of Fool or Oracle, whichever hits: 1.0000 [1.0000, 1.0000]"
    assert said in markdown(report)
    assert (
        len(render(report).renderables)
        == len(render(evaluate_rankers([oracle, fool], protocol, split)).renderables) + 1
    )
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    with pytest.raises(ConfigError, match="'Nobody'"):
        evaluate_rankers([oracle], protocol, split, either=[("Nobody", "Oracle")])
