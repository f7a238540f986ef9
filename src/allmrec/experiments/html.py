"""A report of one experiment or several as one HTML page that needs no network: `templates/report.html` filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int16
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from allmrec.evaluation.intervals import Estimate
from allmrec.evaluation.rank_files import MISS
from allmrec.experiments import plots
from allmrec.experiments.claims import CLAIMANTS, claim_rows, counted
from allmrec.experiments.curves import curve_figures
from allmrec.experiments.cuts import cuts_of
from allmrec.experiments.examples import examples_of, said_examples
from allmrec.experiments.found import Experiment, asked_dataset
from allmrec.experiments.joined import HOW
from allmrec.experiments.markdown import (
    cost_headings,
    cost_notes,
    cost_rows,
    figure_rows,
    has_theirs,
    headings,
    how_asked,
    shown,
    theirs_words,
)
from allmrec.experiments.paper import THEIRS
from allmrec.experiments.scenario_config import COLD, WARM
from allmrec.experiments.tables import Section, TableKind

__all__ = ["page"]


@dataclass(frozen=True)
class Figure:
    """A drawing with what it says."""

    caption: str
    drawing: Markup


def page(experiments: Sequence[Experiment]) -> str:
    """The whole page, of one experiment or of several, each under the title of its plan.

    Args:
        experiments: at least one.
    """
    loader = PackageLoader("allmrec.experiments", "templates")
    # Titles come from files of strangers: whatever the template shows is text, unless `plots` drew it.
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    many = len(experiments) > 1
    parts = [_part(found, f"{found.folder.name}-" if many else "") for found in experiments]
    done = [one for found in experiments for one in found.done]
    sections = [section for part in parts for section in part["sections"]]
    return environment.get_template("report.html").render(
        title="Experiments" if many else parts[0]["title"],
        many=many,
        # Of a section's heading.
        level=3 if many else 2,
        parts=parts,
        claims=[table for whose in CLAIMANTS if (table := _claims(experiments, whose))["rows"]],
        has_theirs=any(section["theirs"] for section in sections),
        how=HOW,
        theirs=THEIRS,
        counts={
            "done": len(done),
            "failed": sum(len(found.failed) for found in experiments),
            "waiting": sum(len(found.waiting) for found in experiments),
        },
        devices=sorted({str(one.about["device"]) for one in done}),
        dates=sorted({str(one.about["date"])[:10] for one in done}),
    )


def _claims(experiments: Sequence[Experiment], whose: Literal["paper", "ours"]) -> dict[str, Any]:
    """One of the two tables of claims."""
    rows = claim_rows(experiments, whose)
    shown_rows = [
        {
            "plans": "; ".join(one.title for one in row.experiments),
            "where": row.where,
            "result": row.result,
            "shown": shown(row.result.difference, "+"),
            "class": row.result.verdict.replace(" ", "-"),
        }
        for row in rows
    ]
    return {"title": CLAIMANTS[whose], "counted": counted(rows, whose), "rows": shown_rows}


def _part(found: Experiment, prefix: str) -> dict[str, Any]:
    """What the template shows of an experiment."""
    return {
        "title": found.title,
        "plan": found.record.plan,
        "record": found.record,
        "prefix": prefix,
        "sections": [_section(found, section, prefix) for section in found.sections],
        "failed": [(cell.words, why) for cell, why in found.failed.items()],
        "waiting": [cell.words for cell in found.waiting],
        "cells": [(one.cell.words, one.about) for one in found.done],
    }


def _section(found: Experiment, section: Section, prefix: str) -> dict[str, Any]:
    """What the template shows of a section; `prefix` stands before its name on the page."""
    plan = found.record.plan
    tables = [
        {
            "title": kind.title,
            "about": kind.about,
            "heads": headings(plan, section, kind),
            "rows": rows,
            "drawing": plots.dots(list(_dots(found, section, kind)), f"{kind.head}, {kind.title}"),
        }
        for kind in section.kinds
        if (rows := figure_rows(plan, section, kind))
    ]
    dataset = asked_dataset(found, section)
    return {
        "title": section.title,
        "id": f"{prefix}{section.data}-{section.scenario}",
        "asked": how_asked(plan, section),
        "tables": tables,
        "theirs": theirs_words(plan, section)
        if any(has_theirs(plan, section, group) for group in section.groups)
        else "",
        "cost_heads": cost_headings(plan),
        "costs": cost_rows(plan, section, found.times),
        "notes": cost_notes(plan, section),
        "figures": list(_figures(section)),
        "curves": [Figure(one.caption, plots.lines(one.lines, "step", one.label)) for one in curve_figures(section)],
        "histograms": list(_histograms(section)),
        "cuts": cuts_of(found.record.plan, section),
        "examples": None if dataset is None else examples_of(section, dataset),
        "said": [] if dataset is None else said_examples(section, dataset),
    }


def _dots(found: Experiment, section: Section, kind: TableKind) -> Iterator[plots.Dot]:
    figures = [(row.figure(kind.metric, kind.group), row) for row in section.rows]
    there = [(figure, row) for figure, row in figures if figure is not None]
    for figure, row in sorted(there, key=lambda pair: -pair[0].value):
        yield plots.Dot(row.title, figure, section.paper(found.record.plan, row, kind.group), row is section.reference)


def _figures(section: Section) -> Iterator[Figure]:
    """Cold against warm, and quality against cost."""
    if {COLD, WARM} <= set(section.groups):
        head, metric = section.kinds[0].head, section.kinds[0].metric
        points = [
            plots.Point(row.title, warm, cold, row is section.reference)
            for row in section.rows
            if (warm := row.figure(metric, WARM)) and (cold := row.figure(metric, COLD))
        ]
        if points:
            drawing = plots.scatter(points, f"{head}, {WARM}", f"{head}, {COLD}", diagonal=True)
            yield Figure("Cold items against warm items; on the line a system is as good at both.", drawing)
    points, first = [], section.kinds[0]
    for row in section.rows:
        speed, figure = row.cost("users_per_second"), row.figure(first.metric, first.group)
        if speed and np.isfinite(speed) and figure is not None:
            points.append(plots.Point(row.title, Estimate(speed, speed, speed), figure, row is section.reference))
    if points:
        drawing = plots.scatter(
            points, "users a second (logarithmic)", f"{first.head}, {first.title}", logarithmic=True
        )
        yield Figure("Quality against cost: further right answers faster, further up answers better.", drawing)


def _histograms(section: Section) -> Iterator[Figure]:
    """How often each row had the target first, second and so on, over all seeds; all of one height."""
    shares = {
        row.title: _shares(row.ranks[:, row.answered])
        for row in section.rows
        if row.ranks is not None and row.answered.any()
    }
    top = max((share for bars in shares.values() for share in bars.values()), default=0.1)
    for title, bars in shares.items():
        yield Figure(title, plots.histogram(list(bars.values()), f"Ranks by {title}", list(bars), max(top, 0.1)))


def _shares(ranks: Int16[np.ndarray, "seeds users"]) -> dict[str, float]:
    """The share of each place, up to the twentieth, and of what is not among them."""
    last = min(20, max(2, int(ranks.max())))
    found = {str(rank): float(np.mean(ranks == rank)) for rank in range(1, last + 1)}
    missed = float(np.mean((ranks == MISS) | (ranks > last)))
    return found | ({"missed": missed} if missed else {})
