"""Learning curves of a section: which are drawn, in which order, and that names stand inside."""

from __future__ import annotations

import html
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmrec.experiments.answers import Ranks
from allmrec.experiments.cells import Cell
from allmrec.experiments.curves import CurveFigure, curve_figures
from allmrec.experiments.labels import text_width
from allmrec.experiments.plots import Line, lines
from allmrec.experiments.results import AskedUsers, CellResult
from allmrec.experiments.tables import Row, Section

STEPS = {"step": [1, 2, 3], "epoch": [1, 2, 3]}
PRETRAIN = STEPS | {"loss/recommendation": [3.0, 2.0, 1.0], "ndcg@10": [0.1, None, 0.3], "hit@1": [0.0, 0.1, 0.2]}
ALIGN = STEPS | {
    "loss/matching": [0.25, 0.25, 0.125],
    "loss/recommendation": [1.0, 0.75, 0.5],
    "matching_mrr": [0.1, 0.2, 0.3],
    "recommendation_ndcg@10": [0.4, 0.5, 0.6],
}
# Of an ablation: recommendation is watched, so it stands first.
UNMATCHED = {name: ALIGN[name] for name in ("step", "epoch", "loss/recommendation")} | {
    "recommendation_ndcg@10": [0.4, 0.4, 0.4],
    "matching_mrr": [0.1, 0.1, 0.1],
}
TUNE = STEPS | {"loss/title": [2.0, 1.0, 0.5], "validation/ndcg": [0.3, 0.4, 0.5], "validation/hit@1": [0.1, 0.2, 0.3]}
# By stage: what a system was trained with, and of whom it is the stage.
STAGES: dict[str, dict[str, dict[str, Any]]] = {
    "gru4rec": {"gru4rec": PRETRAIN},
    "backbone": {"pretrain": PRETRAIN},
    "tallrec": {"tallrec": TUNE},
    "allmrec": {"pretrain": PRETRAIN, "align": ALIGN, "tune": TUNE},
    "without-matching": {"pretrain": PRETRAIN, "without-matching.align": UNMATCHED, "without-matching.tune": TUNE},
}


def section(*systems: str, seeds: tuple[int, ...] = (0,)) -> Section:
    """Rows of systems in this order; stages of one label and seed are one."""
    asked = AskedUsers(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), {"all users": np.ones(1, dtype=bool)})
    rows = []
    for system in systems:
        curves = STAGES.get(system, {system: PRETRAIN})
        cells = [
            CellResult(
                Cell("d", "s", seed, "base", system),
                {"curves": curves, "made_of": {label: f"{label} {seed}" for label in curves}},
                Ranks(np.ones(1, dtype=np.int16)),
            )
            for seed in seeds
        ]
        rows.append(Row(system, system.upper(), cells, asked))
    return Section("d", "s", ("all users",), (), tuple(rows), None)


def named(figure: CurveFigure) -> list[str]:
    return [line.name for line in figure.lines]


def test_stages_of_ours_come_first_with_loss_and_validation() -> None:
    """Whatever the order of the rows; further systems are lines beside ours."""
    found = curve_figures(section("gru4rec", "backbone", "tallrec", "allmrec"))
    assert [one.caption for one in found] == [
        "Stage 1 (align), ALLMREC: loss, each term",
        "Stage 1 (align): validation, matching mrr",
        "Stage 2 (tune), and systems trained as it is: loss, title",
        "Stage 2 (tune), and systems trained as it is: validation, ndcg",
        "CF models and text encoders: loss, recommendation",
        "CF models and text encoders: validation, ndcg@10",
    ]
    assert [named(one) for one in found[1:]] == [
        ["ALLMREC"],
        ["ALLMREC", "TALLREC"],
        ["ALLMREC", "TALLREC"],
        ["BACKBONE", "GRU4REC"],  # the CF model of ours, which the baseline shares and gives its name
        ["BACKBONE", "GRU4REC"],
    ]
    assert found[4].lines[0].about == "BACKBONE, ALLMREC"
    assert (found[5].lines[0].x, found[5].lines[0].y) == ((1.0, 3.0), (0.1, 0.3))


def test_terms_are_added_where_systems_are_compared() -> None:
    """And each figure that picked anyone's weights is shown of all."""
    found = {one.caption: one for one in curve_figures(section("allmrec", "without-matching"))}
    alone = found["Stage 1 (align), ALLMREC: loss, each term"]
    assert named(alone) == ["matching", "recommendation"]
    assert named(found["Stage 1 (align): loss, recommendation"]) == ["WITHOUT-MATCHING"]
    for metric in ("matching mrr", "recommendation ndcg@10"):
        assert named(found[f"Stage 1 (align): validation, {metric}"]) == ["ALLMREC", "WITHOUT-MATCHING"]
    seeds = {one.caption: one for one in curve_figures(section("allmrec", seeds=(0, 1)))}
    together = seeds["Stage 1 (align): loss, all terms together"]
    assert named(together) == ["ALLMREC, seed 0", "ALLMREC, seed 1"]
    assert together.lines[0].y == (1.25, 1.0, 0.625)


def test_many_lines_are_cut_and_first_seeds_come_first() -> None:
    systems = [f"model-{n}" for n in range(8)]
    (loss, _) = curve_figures(section(*systems, "backbone", "allmrec", seeds=(0, 1)))[-2:]
    assert loss.caption.endswith("the first 12 of 18 lines")
    assert named(loss)[0] == "BACKBONE, seed 0"
    assert [name[-1] for name in named(loss)] == ["0"] * 9 + ["1"] * 3


def test_what_has_one_point_only_is_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """But is shown beside others."""
    monkeypatch.setitem(STAGES, "once", {"once": {name: values[:1] for name, values in TUNE.items()}})
    assert curve_figures(section("once")) == []
    assert named(curve_figures(section("once", "tallrec"))[0]) == ["ONCE", "TALLREC"]


@settings(max_examples=30, deadline=None)
@given(ends=st.lists(st.tuples(st.floats(0, 1), st.text(max_size=40)), min_size=1, max_size=12))
def test_names_of_curves_stand_inside_and_apart(ends: list[tuple[float, str]]) -> None:
    drawn = lines([Line(name, [0, 1], [0.5, end]) for end, name in ends], "step", "loss")
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name small">([^<]*)<', drawn)
    heights = sorted(float(y) for _, y, _ in places)
    assert len(places) == len(ends)
    assert all(b - a >= 13 for a, b in pairwise(heights))
    assert heights[-1] <= 264
    assert all(float(x) + text_width(html.unescape(name), 11.5) <= 480 for x, _, name in places)
