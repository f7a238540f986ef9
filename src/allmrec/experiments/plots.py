"""Small figures as inline SVG. Colours are classes that the page's style sheet gives (Okabe and Ito's, light and dark); text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from allmrec.evaluation.intervals import Estimate
from allmrec.experiments.labels import HEIGHT, Box, labels_beside, spread, text_width

__all__ = ["Dot", "Line", "Point", "dots", "histogram", "lines", "scatter"]

# Narrow, so that letters stay legible where a whole drawing is as wide as a telephone.
_WIDTH = 480.0
# Of rows of dots, whose names stand above them.
_EDGE, _STEP = 14.0, 36.0
# Of a scatter plot: where its axes begin; and of names in it, as the style sheet has them.
_SIDE, _TOP, _TEXT = 58.0, 14.0, 13.0
# Of learning curves: where names begin, and their letters.
_NAMES, _SMALL = 334.0, 11.5
# A name that stands further from its mark is led to it by a line.
_NEAR = 12.0


@dataclass(frozen=True)
class Dot:
    """A row of a figure of dots.

    Attributes:
        name: what stands above it.
        ours: with its interval.
        theirs: the paper's; none: there is none.
        marked: whether it is the one that others are compared with.
    """

    name: str
    ours: Estimate
    theirs: float | None = None
    marked: bool = False


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot: two figures with their intervals, which may be nothing wide."""

    name: str
    x: Estimate
    y: Estimate
    marked: bool = False


@dataclass(frozen=True)
class Line:
    """A learning curve.

    Attributes:
        name: what stands at its end.
        x, y: its points.
        about: what it says when it is pointed at; empty: its name.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    about: str = ""


@dataclass(frozen=True)
class _Axis:
    """Values to places; logarithmic or not."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        )
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            step = max(1, (last - first) // 6)
            return [10.0**n for n in range(first, last + 1, step) if self.low <= 10.0**n <= self.high]
        span = self.high - self.low
        size = 10 ** math.floor(math.log10(span / 4)) if span > 0 else 1.0
        size *= next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 6)
        first = math.ceil(self.low / size - 1e-9)
        return [n * size for n in range(first, math.floor(self.high / size + 1e-9) + 1)]


def dots(rows: Sequence[Dot], label: str) -> Markup:
    """Figures with intervals, one a row; the paper's as hollow diamonds, the marked one a square.

    Args:
        rows: in order.
        label: of the axis.
    """
    values = [v for row in rows for v in (row.ours.low, row.ours.high, row.theirs) if v is not None]
    axis = _Axis(min(0.0, *values), max(0.05, *values) * 1.04, _EDGE, _WIDTH - _EDGE)
    bottom = 12.0 + _STEP * len(rows)
    parts, names = [_grid(axis, 6.0, bottom, label)], []
    for number, row in enumerate(rows):
        y, kind = 12 + _STEP * number + _STEP * 0.7, "marked" if row.marked else "own"
        low, high, middle = axis.at(row.ours.low), axis.at(row.ours.high), axis.at(row.ours.value)
        said = f"{row.name}: {row.ours.value:.3f} [{row.ours.low:.3f}, {row.ours.high:.3f}]"
        name = _fitting(row.name, _WIDTH - 2 * _EDGE, _TEXT)
        names.append(Markup('<text x="{:.0f}" y="{:.1f}" class="name">{}</text>').format(_EDGE, y - 9, name))
        rule = Markup('<line class="grid" x1="{0:.0f}" x2="{1:.0f}" y1="{2:.1f}" y2="{2:.1f}"/>')
        parts.append(rule.format(_EDGE, _WIDTH - _EDGE, y))
        parts.append(
            Markup(
                '<g class="{}"><title>{}</title><line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>{}</g>'
            ).format(kind, said, low, high, y, y, _mark(middle, y, row.marked))
        )
        if row.theirs is not None:
            x = axis.at(row.theirs)
            place = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
            parts.append(
                Markup('<g class="theirs"><title>theirs: {:.4f}</title><polygon points="{}"/></g>').format(
                    row.theirs, place
                )
            )
    return _svg([*parts, *names], _WIDTH, bottom + 44, label)


def scatter(
    points: Sequence[Point], x_label: str, y_label: str, logarithmic: bool = False, diagonal: bool = False
) -> Markup:
    """Points with intervals in both directions and their names beside them, as far as there is room for names.

    Args:
        points: what to draw.
        x_label, y_label: of the axes.
        logarithmic: whether the x axis is.
        diagonal: whether to draw where both are equal.
    """
    low_x, high_x = min(p.x.low for p in points), max(p.x.high for p in points)
    low_y, high_y = min(0.0, *(p.y.low for p in points)), max(0.05, *(p.y.high for p in points)) * 1.05
    if logarithmic:
        low_x, high_x = low_x / 1.6, high_x * 2.5
    else:
        low_x, high_x = min(0.0, low_x), max(0.05, high_x) * 1.25
    bottom = 380.0
    x_axis = _Axis(low_x, high_x, _SIDE, _WIDTH - 20, logarithmic)
    y_axis = _Axis(low_y, high_y, bottom, _TOP)
    parts = [_grid(x_axis, _TOP, bottom, x_label), _side(y_axis, _SIDE, _WIDTH - 20, y_label)]
    if diagonal:
        end = min(high_x, high_y)
        parts.append(
            Markup('<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
                x_axis.at(max(low_x, low_y)), y_axis.at(max(low_x, low_y)), x_axis.at(end), y_axis.at(end)
            )
        )
    points = sorted(points, key=lambda p: p.y.value)
    marks = [(x_axis.at(point.x.value), y_axis.at(point.y.value)) for point in points]
    bars = [
        Box(x_axis.at(point.x.low), y - 1, x_axis.at(point.x.high), y + 1)
        for point, (_, y) in zip(points, marks, strict=True)
    ]
    bars += [
        Box(x - 1, y_axis.at(point.y.high), x + 1, y_axis.at(point.y.low))
        for point, (x, _) in zip(points, marks, strict=True)
    ]
    names = [_short(point.name) for point in points]
    boxes = labels_beside(marks, names, Box(_SIDE + 2, _TOP, _WIDTH, bottom), _TEXT, bars)
    parts += [_leader(*mark, box) for mark, box in zip(marks, boxes, strict=True) if box is not None]
    for point, (x, y) in zip(points, marks, strict=True):
        parts.append(
            Markup(
                '<g class="{}"><title>{}: {:.3g}, {:.3g}</title><line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/><line x1="{:.1f}" '
                'x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>{}</g>'
            ).format(
                "marked" if point.marked else "own", point.name, point.x.value, point.y.value,
                x_axis.at(point.x.low), x_axis.at(point.x.high), y, y, x, x, y_axis.at(point.y.low), y_axis.at(point.y.high), _mark(x, y, point.marked),
            )
        )  # fmt: skip
    for name, (x, _), box in zip(names, marks, boxes, strict=True):
        if box is not None:
            # Boxes are as wide as names in a wide font: in others a name ends where its mark begins all the same.
            place, anchor = (box.right, "end") if box.right <= x else (box.left, "start")
            text = Markup('<text x="{:.1f}" y="{:.1f}" class="name" text-anchor="{}">{}</text>')
            parts.append(text.format(place, box.top + 0.95 * _TEXT, anchor, name))
    return _svg(parts, _WIDTH, bottom + 44, f"{y_label} against {x_label}")


def lines(curves: Sequence[Line], x_label: str, y_label: str) -> Markup:
    """Learning curves; each has a colour and a dash of its own, and is led to its name at the right."""
    xs, ys = [v for line in curves for v in line.x], [v for line in curves for v in line.y]
    low, high = min(ys), max(ys)
    room = (high - low) * 0.06 or 0.05
    x_axis, y_axis = _Axis(0.0, max(xs), 62.0, _NAMES - 14), _Axis(low - room, high + room, 220.0, 12.0)
    parts = [_grid(x_axis, 12.0, 220.0, x_label), _side(y_axis, 62.0, _NAMES - 14, y_label)]
    ends = [(x_axis.at(line.x[-1]), y_axis.at(line.y[-1])) for line in curves]
    heights = spread([y for _, y in ends], 14.0, 220.0, HEIGHT * _SMALL)
    names = []
    for number, (line, (x, y), height) in enumerate(zip(curves, ends, heights, strict=True)):
        places = " ".join(f"{x_axis.at(a):.0f},{y_axis.at(b):.1f}" for a, b in zip(line.x, line.y, strict=True))
        parts.append(
            Markup(
                '<g class="line line{}{}"><title>{}</title><polyline points="{}"/><circle cx="{:.1f}" cy="{:.1f}" r="3"/></g>'
                '<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            ).format(
                number % 6, " again" if number >= 6 else "", line.about or line.name, places, x, y, x + 3, y, _NAMES - 3, height,
            )
        )  # fmt: skip
        name = _fitting(line.name, _WIDTH - _NAMES, _SMALL)
        names.append(
            Markup('<text x="{:.1f}" y="{:.1f}" class="name small">{}</text>').format(_NAMES, height + 4, name)
        )
    return _svg([*parts, *names], _WIDTH, 264.0, f"{y_label} by {x_label}")


def histogram(shares: Sequence[float], label: str, names: Sequence[str], top: float) -> Markup:
    """Bars of shares that are 1 together.

    Args:
        shares: one a bar.
        label: what they are of.
        names: one a bar.
        top: the largest share that has room; the same for figures that are to be compared.
    """
    axis, step = _Axis(0.0, top * 1.1, 120.0, 8.0), 300 / len(shares)
    parts = [_side(axis, 40.0, 345.0, "")]
    for number, (share, name) in enumerate(zip(shares, names, strict=True)):
        x, y = 42 + step * number, axis.at(share)
        parts.append(
            Markup(
                '<g class="bar"><title>{}: {:.1%}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></g>'
            ).format(name, share, x, y, step * 0.8, 120 - y)
        )
        if name in ("1", "5", "10", "15", "missed") or (number == len(shares) - 1 and len(shares) > 2):
            parts.append(
                Markup('<text x="{:.1f}" y="136" class="tick" text-anchor="middle">{}</text>').format(
                    x + step * 0.4, name
                )
            )
    return _svg(parts, 350.0, 144.0, label)


def _leader(x: float, y: float, box: Box) -> Markup:
    """A thin line to a name that stands away from its mark; nothing for one beside it."""
    end_x, end_y = box.nearest(x, y)
    if math.hypot(end_x - x, end_y - y) <= _NEAR:
        return Markup("")
    return Markup('<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(x, y, end_x, end_y)


def _mark(x: float, y: float, marked: bool) -> Markup:
    """A dot; what others are compared with is a square, so that it can be told apart without colours."""
    if marked:
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="10" height="10"/>').format(x - 5, y - 5)
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5"/>').format(x, y)


def _grid(axis: _Axis, top: float, bottom: float, label: str) -> Markup:
    """Vertical lines with their values below, and what they are of."""
    parts = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/><text class="tick" x="{0:.1f}" y="{3:.1f}" '
            'text-anchor="middle">{4}</text>'
        ).format(axis.at(value), top, bottom, bottom + 16, _number(value))
        for value in axis.ticks()
    ]
    middle = (axis.start + axis.end) / 2
    parts.append(
        Markup('<text class="axis" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            middle, bottom + 36, label
        )
    )
    return Markup("").join(parts)


def _side(axis: _Axis, left: float, right: float, label: str) -> Markup:
    """Horizontal lines with their values at the left."""
    parts = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/><text class="tick" x="{3:.1f}" y="{4:.1f}" '
            'text-anchor="end">{5}</text>'
        ).format(left, right, axis.at(value), left - 6, axis.at(value) + 4, _number(value))
        for value in axis.ticks()
    ]
    middle = (axis.start + axis.end) / 2
    turned = Markup('<text class="axis" transform="translate(14 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>')
    return Markup("").join([*parts, turned.format(middle, label)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _short(name: str, length: int = 30) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _fitting(name: str, width: float, size: float) -> str:
    """A name that is no wider, cut where it must be."""
    if text_width(name, size) <= width:
        return name
    while name and text_width(name + "…", size) > width:
        name = name[:-1]
    return name.rstrip(" ,") + "…"


def _svg(parts: Sequence[Markup], width: float, height: float, label: str) -> Markup:
    start = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" style="--wide:{:.0f}px">')
    return start.format(width, height, escape(label), width * 1.15) + Markup("").join(parts) + Markup("</svg>")
