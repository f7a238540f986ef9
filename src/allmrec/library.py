"""The library's front door: a data set in, a trained run out, in one call each; knows no inside of any of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation import Report
from allmrec.pipeline.config import load_recipe
from allmrec.pipeline.judgement import evaluate_run
from allmrec.pipeline.run import Run

__all__ = ["evaluate", "open_run", "train"]


def train(
    dataset: InteractionDataset,
    output: Path | str,
    recipe: str = "paper",
    *,
    llm: str | None = None,
    encoder: str | None = None,
    backbone: str | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Run:
    """Train every stage that is not in `output` already.

    Args:
        dataset: who interacted with what.
        output: the run's folder; a second call with the same arguments does nothing more.
        recipe: a recipe's name, or a TOML file.
        llm, encoder, backbone: names in place of the recipe's.
        changes: single fields of the recipe, e.g. `{"tune.training.epochs": 3}`.
        device: where to train and rank.

    Returns:
        The run; `run.recommender()` recommends.

    Raises:
        ConfigError: an unknown recipe, field or backbone, or `output` holds something else.
        ModelNotFoundError: a language model or encoder that is not to be had.
    """
    named = {"llm": llm, "encoder.name": encoder, "pretrain.backbone": backbone}
    fields = {name: value for name, value in named.items() if value is not None} | dict(changes or {})
    run = Run.draft(Path(output), dataset, load_recipe(recipe, fields), device)
    run.check_models("tune")
    run.keep()
    run.train()
    return run


def open_run(path: Path | str, device: str = "cpu") -> Run:
    """Open a run that was trained before.

    Raises:
        ArtifactError: it is no run, or damaged.
    """
    return Run.open(Path(path), device)


def evaluate(run: Run) -> Report:
    """Rank the run's frozen users and candidates with every system of the run."""
    return evaluate_run(run)
