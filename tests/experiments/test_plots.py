"""Drawings: every name stands inside, and on no other."""

from __future__ import annotations

import html
import re
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from allmrec.evaluation.intervals import Estimate
from allmrec.experiments.labels import HEIGHT, Box, labels_beside, spread, text_width
from allmrec.experiments.plots import Point, scatter

SYSTEMS = (
    "Popularity", "ItemKNN", "EASE", "Text similarity", "Late fusion", "NCF", "NextItNet", "GRU4Rec", "SASRec", "MoRec", "CTRL",
    "RECFORMER (small)", "LLM-Only", "TALLRec", "MLP-LLM", "A-LLMRec", "A-LLMRec (SBERT)", "w/o recommendation loss",
)  # fmt: skip


def boxes(drawn: str, size: float = 13.0) -> list[Box]:
    """Of the names in a drawing, as its numbers say; half a unit less, since they are rounded."""
    found = []
    for x, y, anchor, name in re.findall(
        r'<text x="([-.\d]+)" y="([-.\d]+)" class="name" text-anchor="(\w+)">([^<]*)<', drawn
    ):
        top, width = float(y) - 0.95 * size, text_width(html.unescape(name), size)
        left = float(x) - width if anchor == "end" else float(x)
        found.append(Box(left + 0.1, top + 0.1, left + width - 0.1, top + HEIGHT * size - 0.1))
    return found


def outside(found: list[Box], width: float, height: float) -> list[Box]:
    return [one for one in found if min(one.left, one.top) < 0 or one.right > width or one.bottom > height]


def size_of(drawn: str) -> tuple[float, float]:
    (found,) = re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawn)
    return float(found[0]), float(found[1])


places = st.floats(0.001, 1.0) | st.sampled_from([0.4, 0.41])
points = st.tuples(places, places, st.text(max_size=40) | st.sampled_from(SYSTEMS))


def drawing(marks: list[tuple[float, float, str]], logarithmic: bool) -> str:
    made = [Point(name, Estimate(x, x, x), Estimate(y, y * 0.9, y * 1.1)) for x, y, name in marks]
    return scatter(made, "x", "y", logarithmic=logarithmic)


@settings(max_examples=25, deadline=None)
@given(marks=st.lists(points, min_size=1, max_size=40), logarithmic=st.booleans())
def test_no_name_leaves_the_drawing_or_lies_on_another(
    marks: list[tuple[float, float, str]], logarithmic: bool
) -> None:
    drawn = drawing(marks, logarithmic)
    found = boxes(drawn)
    assert outside(found, *size_of(drawn)) == []
    assert not any(one.crosses(other) for one, other in combinations(found, 2))


@settings(max_examples=10, deadline=None)
@given(at=st.lists(st.tuples(places, places), min_size=len(SYSTEMS), max_size=len(SYSTEMS)), together=st.booleans())
def test_as_many_systems_as_plans_have_are_all_named(at: list[tuple[float, float]], together: bool) -> None:
    """Also where all of them are at one place."""
    marks = [(*(at[0] if together else place), name) for place, name in zip(at, SYSTEMS, strict=True)]
    drawn = drawing(marks, logarithmic=True)
    assert len(boxes(drawn)) == len(SYSTEMS)
    assert 'class="leader"' in drawn or not together


def test_a_name_stands_beside_its_mark_and_off_others() -> None:
    area = Box(0, 0, 400, 300)
    near, other = (100.0, 100.0), (125.0, 100.0)
    (alone,) = labels_beside([near], ["SASRec"], area, 13.0)
    assert alone is not None
    assert alone.left == 107
    first, second = labels_beside([near, other], ["SASRec", "CTRL"], area, 13.0)
    assert first is not None
    assert second is not None
    for box in (first, second):
        assert not any(box.crosses(Box(x - 7, y - 7, x + 7, y + 7)) for x, y in (near, other))
    assert labels_beside([near], ["a name without room"], Box(0, 0, 50, 50), 13.0) == [None]


@given(wanted=st.lists(st.floats(-50, 300), max_size=25))
def test_places_are_spread_inside(wanted: list[float]) -> None:
    found = spread(wanted, 10.0, 200.0, 12.0)
    step = min(12.0, 190 / max(1, len(wanted) - 1))
    assert all(10 - 1e-6 <= place <= 200 + 1e-6 for place in found)
    assert all(b - a >= step - 1e-6 for a, b in zip(sorted(found), sorted(found)[1:], strict=False))
    assert spread([50.0, 40.0, 100.0], 10.0, 200.0, 12.0) == [52.0, 40.0, 100.0]
