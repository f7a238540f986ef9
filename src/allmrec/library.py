"""The library's front door: a data set in, a trained run out, in one call each; knows no inside of any of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allmrec.core.devices import chosen_device
from allmrec.core.distributed import processes
from allmrec.core.log import logger
from allmrec.core.progress import progress_shown
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
    device: str = "auto",
    progress: bool | None = None,
) -> Run:
    """Train every stage that is not in `output` already.

    Args:
        dataset: who interacted with what.
        output: the run's folder; a second call with the same arguments does nothing more.
        recipe: a recipe's name, or a TOML file.
        llm, encoder, backbone: names in place of the recipe's.
        changes: single fields of the recipe, e.g. `{"tune.training.epochs": 3}`.
        device: where to train and rank: cpu, cuda, cuda:1, mps; auto: the GPU where there is one.
        progress: whether to show bars; None: unless the environment has ALLMREC_PROGRESS=0. What is done is logged by
            the logger `allmrec` in any case.

    Returns:
        The run; `run.recommender()` recommends.

    Raises:
        ConfigError: an unknown recipe, field or backbone, or `output` holds something else.
        ModelNotFoundError: a language model or encoder that is not to be had.
    """
    named = {"llm": llm, "encoder.name": encoder, "pretrain.backbone": backbone}
    fields = {name: value for name, value in named.items() if value is not None} | dict(changes or {})
    device = chosen_device(device)
    here = processes(device)
    run = Run.draft(Path(output), dataset, load_recipe(recipe, fields), here.device(device))
    run.check_models("tune")
    run.keep()
    with progress_shown(progress):
        run.train(logger.info if here.is_main else logger.debug)
    return run


def open_run(path: Path | str, device: str = "auto") -> Run:
    """Open a run that was trained before.

    Args:
        path: its folder.
        device: where to rank; auto: the GPU where there is one.

    Raises:
        ArtifactError: it is no run, or damaged.
    """
    return Run.open(Path(path), device)


def evaluate(run: Run, progress: bool | None = None) -> Report:
    """Rank the run's frozen users and candidates with every system of the run.

    Args:
        run: a trained run.
        progress: whether to show bars; None: unless the environment has ALLMREC_PROGRESS=0.
    """
    with progress_shown(progress):
        return evaluate_run(run)
