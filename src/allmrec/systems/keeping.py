"""Where a run keeps what an evaluation has found until its report is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from allmrec.core.artifacts import versions
from allmrec.evaluation import EvaluationProtocol
from allmrec.evaluation.order import shuffled_name
from allmrec.evaluation.partial import PartialResults
from allmrec.pipeline.run import Run
from allmrec.systems.kinds import System

__all__ = ["forget_results", "partial_results", "stage_keys"]

_FOLDER = ".evaluating"


def partial_results(
    run: Run, protocol: EvaluationProtocol, systems: Mapping[str, System], kind: str = "candidates"
) -> PartialResults:
    """What an evaluation of systems has found so far.

    It counts for just these users and candidates, this configuration, these stages, device and versions.

    Args:
        run: the run.
        protocol: who is evaluated on what.
        systems: by their names in the table of results.
        kind: what they are asked for, such as "candidates" or "catalogue".
    """
    config = run.config.model_dump(mode="json")
    # The protocol, how many ranks there are, and the name under which they are kept, say the same.
    for name in ("users", "title_users", "order_test"):
        config["evaluation"].pop(name, None)
    made_of: dict[str, str] = {}
    for name, system in systems.items():
        said = json.dumps([kind, stage_keys([system]), config, run.device, versions()], sort_keys=True)
        made_of |= {name: said, shuffled_name(name): said}
    whole = [name for name, system in systems.items() if callable(system.note)]
    return PartialResults(run.path / _FOLDER, protocol.hash, made_of, whole)


def forget_results(run: Run, protocol_hash: str) -> None:
    """Remove what was kept of evaluations on a protocol: the report is written."""
    PartialResults(run.path / _FOLDER, protocol_hash, {}).clear()


def stage_keys(systems: Iterable[System]) -> dict[str, str]:
    """What systems were made of: each stage's key."""
    return {stage.label: stage.key for system in systems for stage in system.stages}
