"""Which learning curves a section shows: for each stage its loss, and the validation figure that picked its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allmrec.experiments.plots import Line
from allmrec.experiments.tables import Section

__all__ = ["CurveFigure", "curve_figures"]

_OURS = "allmrec"
# A-LLMRec's stages stand first; what else is trained stands with the stage that has the same kind of curves.
_STAGES = ("Stage 1 (align)", "Stage 2 (tune), and systems trained as it is", "CF models and text encoders")
_LINES = 12
_LOSS, _VALIDATION = "loss/", "validation/"


@dataclass(frozen=True)
class CurveFigure:
    """Curves that are drawn together.

    Attributes:
        caption: of which stage they are, and what they show.
        label: what they show.
        lines: one a system and seed.
    """

    caption: str
    label: str
    lines: Sequence[Line]


@dataclass
class _Trained:
    """A stage that was trained, which several systems may use."""

    stage: str
    seed: int
    columns: Mapping[str, Sequence[Any]]
    # For each system that uses it: how many stages the system has, and its place in the plan.
    users: dict[str, tuple[int, int]] = field(default_factory=dict)
    ours: bool = False

    @property
    def names(self) -> list[str]:
        """Systems that use it; the one that has the fewest stages beside it is named first."""
        return sorted(self.users, key=lambda name: self.users[name])

    @property
    def losses(self) -> list[str]:
        """Columns of its loss; each is weighted, so that their sum is what was minimised."""
        return [name for name in self.columns if name.startswith(_LOSS)]

    @property
    def watched(self) -> str | None:
        """The validation figure that decided which weights were kept, which stands first; none where nothing was validated."""
        return next(
            (name for name in self.columns if name not in ("step", "epoch") and not name.startswith(_LOSS)), None
        )

    def line(self, names: Sequence[str], name: str) -> Line | None:
        """A sum of columns over steps; none where it has no point."""
        rows = zip(self.columns["step"], *(self.columns[column] for column in names), strict=True)
        points = [(float(step), float(sum(found))) for step, *found in rows if step is not None and None not in found]
        if not points:
            return None
        steps, values = zip(*points, strict=True)
        return Line(name, steps, values, ", ".join(self.names))


def curve_figures(section: Section) -> list[CurveFigure]:
    """Loss and validation of each stage, systems as lines; a stage that systems share is one line.

    A loss of several terms is their sum; where one system alone has such a loss, its terms are the lines.

    Args:
        section: its cells' curves are shown.
    """
    trained = sorted(_trained(section), key=lambda one: (one.seed != _first_seed(section), not one.ours))
    return [figure for stage in _STAGES for figure in _of_stage(stage, [one for one in trained if one.stage == stage])]


def _of_stage(stage: str, trained: Sequence[_Trained]) -> Iterator[CurveFigure]:
    """Figures of one stage: those of loss, then those of validation."""
    seeds = len({one.seed for one in trained}) > 1
    losses: dict[str, list[_Trained]] = {}
    for one in trained:
        if one.losses:
            label = one.losses[0].removeprefix(_LOSS) if len(one.losses) == 1 else ""
            losses.setdefault(label, []).append(one)
    for label, found in losses.items():
        if label or len(found) > 1:
            lines = [one.line(one.losses, _name(one, seeds)) for one in found]
            yield from _figure(f"{stage}: loss", label or "all terms together", lines)
        else:
            terms = [found[0].line([loss], loss.removeprefix(_LOSS).replace("_", " ")) for loss in found[0].losses]
            yield from _figure(f"{stage}, {_name(found[0], seeds)}: loss", "each term", terms)
    for watched in dict.fromkeys(one.watched for one in trained if one.watched is not None):
        lines = [one.line([watched], _name(one, seeds)) for one in trained if watched in one.columns]
        yield from _figure(f"{stage}: validation", watched.removeprefix(_VALIDATION).replace("_", " "), lines)


def _figure(caption: str, label: str, lines: Sequence[Line | None]) -> Iterator[CurveFigure]:
    """A figure; none where no line has two points."""
    found = [line for line in lines if line is not None]
    if any(len(line.x) > 1 for line in found):
        some = f"; the first {_LINES} of {len(found)} lines" if len(found) > _LINES else ""
        yield CurveFigure(f"{caption}, {label}{some}", label, found[:_LINES])


def _name(one: _Trained, seeds: bool) -> str:
    return f"{one.names[0]}, seed {one.seed}" if seeds else one.names[0]


def _first_seed(section: Section) -> int:
    return min((cell.cell.seed for row in section.rows for cell in row.cells), default=0)


def _trained(section: Section) -> list[_Trained]:
    """Every stage that was trained for the section, once, in the order of the plan."""
    found: dict[str, _Trained] = {}
    for place, row in enumerate(section.rows):
        for cell in row.cells:
            curves = cell.about["curves"]
            for label, columns in curves.items():
                key = cell.about["made_of"][label]
                one = found.setdefault(key, _Trained(_stage(label, columns), cell.cell.seed, columns))
                one.users.setdefault(row.title, (len(curves), place))
                one.ours |= cell.cell.system == _OURS
    return list(found.values())


def _stage(label: str, columns: Mapping[str, Sequence[Any]]) -> str:
    """Under which heading a stage's curves stand; stages of variants are named `VARIANT.STAGE`."""
    kind = label.rpartition(".")[2]
    if kind == "align":
        return _STAGES[0]
    if kind == "tune" or any(name.startswith(_VALIDATION) for name in columns):
        return _STAGES[1]
    return _STAGES[2]
