"""Draws where the answer's attention goes: two heatmaps over layers and heads, and shares by layer, before and after."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmrec.core.artifacts import atomic_write
from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.recommend.attention import AnswerAttention, Group
from allmrec.systems.attention import AttentionChange

if TYPE_CHECKING:  # an optional package
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["attention_figure", "check_figure", "save_figure"]

_ENDINGS = (".png", ".svg")
# Of Okabe and Ito (2008): colours that readers with any colour vision can distinguish.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_PANELS = (
    (
        "The target",
        {
            Group.TARGET_SLOT: ("its slot", _BLUE),
            Group.TARGET_TITLE_START: ("first token of its title", _ORANGE),
            Group.TARGET_TITLE_REST: ("rest of its title", _GREEN),
        },
    ),
    (
        "Other candidates (mean per candidate)",
        {
            Group.OTHER_SLOTS: ("its slot", _BLUE),
            Group.OTHER_TITLE_STARTS: ("first token of its title", _ORANGE),
            Group.OTHER_TITLE_RESTS: ("rest of its title", _GREEN),
        },
    ),
    (
        "Elsewhere",
        {
            Group.USER_SLOT: ("the user's slot", _BLUE),
            Group.HISTORY: ("the history", _ORANGE),
            Group.WORDS: ("words", _GREEN),
        },
    ),
)


def check_figure(path: Path) -> None:
    """Make sure that a figure can be drawn and written there, before anything is computed for it.

    Raises:
        ConfigError: the ending is of no format that is drawn.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'!r}; a figure ends in {' or '.join(_ENDINGS)}.")
    try:
        import matplotlib  # noqa: F401  # an optional package
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "Drawing a figure") from error


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, in the format of the path's ending."""
    import matplotlib  # an optional package

    # The same numbers give the same file: no date, and names inside an SVG that are not random. Text stays text in it.
    with matplotlib.rc_context({"svg.hashsalt": "allmrec", "svg.fonttype": "none"}):
        content = io.BytesIO()
        kind = path.suffix.lower().removeprefix(".")
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    atomic_write(path, content.getvalue())


def attention_figure(change: AttentionChange) -> Figure:
    """Two heatmaps of the attention to the first token of the target's title, and each group's share by layer."""
    from matplotlib.figure import Figure  # an optional package

    layers, heads = change.after.shares.shape[1:]
    height = min(7.0, max(2.6, 0.16 * layers))
    figure = Figure(figsize=(12, height + 4.2), layout="constrained")
    read = "in parallel" if change.parallel else "one after the other"
    figure.suptitle(
        f"Attention from the place where the answer begins\n{_short(change.language_model)}, prompt form "
        f'"{change.form}", candidates read {read}; mean over {change.after.users} test users',
        fontsize=12,
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=[height, 3.6])
    _draw_heatmaps(parts[0], change, layers, heads)
    _draw_panels(parts[1], change, layers)
    return figure


def _draw_heatmaps(figure: Any, change: AttentionChange, layers: int, heads: int) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    both = [seen.of(Group.TARGET_TITLE_START) for seen in (change.before, change.after)]
    highest = max(float(share.max()) for share in both)
    for ax, share, title in zip(axes, both, ("Before training", "After training"), strict=True):
        image = ax.imshow(
            share,
            cmap="cividis",
            vmin=0,
            vmax=highest or 1,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0.5, heads + 0.5, 0.5, layers + 0.5),
        )
        ax.set(title=title, xlabel="head")
        _whole_numbers(ax.xaxis)
        _whole_numbers(ax.yaxis)
    axes[0].set_ylabel("layer")
    figure.colorbar(image, ax=axes, label="share of attention to the first\ntoken of the target's title")


def _draw_panels(figure: Any, change: AttentionChange, layers: int) -> None:
    axes = figure.subplots(1, len(_PANELS))
    for ax, (title, groups) in zip(axes, _PANELS, strict=True):
        for group, (label, colour) in groups.items():
            _draw_lines(ax, change.before, change.after, group, label, colour)
        ax.set(title=title, xlabel="layer", xlim=(0.5, layers + 0.5))
        _whole_numbers(ax.xaxis)
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)
    # The target and the other candidates are compared, so they share a scale.
    top = max(ax.get_ylim()[1] for ax in axes[:2])
    for ax in axes[:2]:
        ax.set_ylim(0, top)
    axes[2].set_ylim(bottom=0)
    axes[0].set_ylabel("share of attention")
    figure.suptitle("Mean over heads by layer; dashed: before training, solid: after", fontsize=10)


def _draw_lines(
    ax: Axes, before: AnswerAttention, after: AnswerAttention, group: Group, label: str, colour: str
) -> None:
    """A group's share by layer; nothing where the prompt has no such place."""
    if not (before.of(group).any() or after.of(group).any()):
        return
    layers = range(1, before.shares.shape[1] + 1)
    ax.plot(layers, before.of(group).mean(axis=1), color=colour, linestyle="--", marker=".", markersize=4)
    ax.plot(layers, after.of(group).mean(axis=1), color=colour, marker=".", markersize=4, label=label)


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator  # an optional package

    axis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))


def _short(name: str) -> str:
    """A model's name without the folders that it may stand in."""
    return Path(name).name if Path(name).is_absolute() else name
