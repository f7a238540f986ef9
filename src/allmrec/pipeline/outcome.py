"""What a stage's training came to, in words for the line that says it is done; knows no stage."""

from __future__ import annotations

from allmrec.pipeline.stages import StageResult

__all__ = ["outcome"]


def outcome(result: StageResult) -> str:
    """The best validation figure, and what the prompt's budget had no room for; empty where there is neither."""
    return f"{_best(result)}{_given_way(result)}"


def _given_way(result: StageResult) -> str:
    """What the prompt's budget had no room for, in words."""
    budget = result.log.get("budget", {})
    parts = []
    if budget.get("cut_titles"):
        parts.append(f"{budget['cut_titles']:,} titles cut to {budget['title_tokens']} tokens")
    if budget.get("dropped_history"):
        parts.append(f"{budget['dropped_history']:,} history items dropped")
    return f"; prompts: {', '.join(parts)}" if parts else ""


def _best(result: StageResult) -> str:
    """The best validation figure of a stage, in words."""
    value, records = result.log.get("best_value"), result.log.get("records")
    if value is None or not records:
        return ""
    names = [name for name in records[-1] if name not in ("step", "epoch") and not name.startswith("loss/")]
    return (
        f", best {names[0].removeprefix('validation/')} {value:.4f} at step {result.log['best_step']}" if names else ""
    )
