"""Evaluating a run: its frozen users and candidates, its systems on them, and what changed since the last time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from allmrec.cf.registry import backbone_kind
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.log import logger
from allmrec.evaluation import (
    EvaluationProtocol,
    Pair,
    Report,
    draw_protocol,
    evaluate_rankers,
    evaluate_recommenders,
)
from allmrec.evaluation.evaluator import Note
from allmrec.pipeline.run import Log, Run
from allmrec.store.stages import stage_record
from allmrec.systems.keeping import forget_results, partial_results, stage_keys
from allmrec.systems.kinds import System
from allmrec.systems.recommending import Opened, catalogue_systems, open_recommender, retrieve_by_towers
from allmrec.systems.registry import open_systems, system_kind
from allmrec.systems.towers import TEXT_TOWER_TITLE, TOWERS_TITLE

__all__ = [
    "earlier_report",
    "evaluate_catalogue",
    "evaluate_run",
    "evaluate_systems",
    "keep_report",
    "run_protocol",
    "training_costs",
]


def evaluate_catalogue(
    run: Run,
    systems: Sequence[str] | None = None,
    command: str | None = None,
    log: Log = logger.info,
) -> Report:
    """Hit@k and NDCG@k over the whole catalogue, as each system recommends from it.

    Args:
        run: a trained run.
        systems: names of SYSTEMS; none: `catalogue_systems`.
        command: how it was run, for the report.
        log: takes a line where another system retrieves than might be expected.

    Raises:
        ConfigError: an unknown system, or one that this run cannot have.
        ArtifactError: a stage is missing, of other inputs, or damaged.
    """
    names = catalogue_systems(run, log) if systems is None else systems
    protocol, evaluation = run_protocol(run), run.config.evaluation
    about = _left_out(run, protocol)
    if evaluation.users is not None:
        protocol = protocol.first(evaluation.users)
    opened = [open_recommender(run, name, log) for name in dict.fromkeys(names)]
    limits: dict[str, int] = {}
    notes: dict[str, Note] = {}
    for one in opened:
        name, own = one.recommender.name, _limit(run, one.system, protocol)
        if own is not None:
            limits[name] = own
        retrieved = (
            f"ranks {run.config.answer.retrieve.items} retrieved items" if system_kind(one.name).prompted else ""
        )
        notes[name] = partial(_note, one.system, retrieved, _limited(own))
    by_name = {one.recommender.name: one.system for one in opened}
    report = evaluate_recommenders(
        [one.recommender for one in opened],
        protocol,
        run.split,
        limits,
        pairs=_against_retrievers(run, opened),
        either=_either(run, by_name),
        order_test=evaluation.order_test,
        notes=notes,
        kept=partial_results(run, protocol, by_name, "catalogue"),
        about=about,
        reference=_reference(run),
        device=run.device,
        command=command,
    )
    return _with_costs(run, report, {one.name: one.system for one in opened})


def _reference(run: Run) -> str:
    return backbone_kind(run.config.pretrain.backbone).title


def _against_retrievers(run: Run, opened: Sequence[Opened]) -> list[Pair]:
    """What each system that ranks retrieved items adds to their order, where what retrieves for it is in the table too."""
    retriever = TOWERS_TITLE if retrieve_by_towers(run) else _reference(run)
    if retriever not in [one.recommender.name for one in opened]:
        return []
    asked = [one.recommender.name for one in opened if system_kind(one.name).prompted]
    return [Pair(f"What {name} adds to the order in which its items are retrieved", name, retriever) for name in asked]


def _either(run: Run, by_name: Mapping[str, System]) -> list[tuple[str, str]]:
    """The CF model and the text tower, where both are there."""
    two = (_reference(run), TEXT_TOWER_TITLE)
    return [two] if all(name in by_name for name in two) else []


def run_protocol(run: Run) -> EvaluationProtocol:
    """The run's frozen users and candidates: drawn once, then read from `protocol.json`."""
    path = run.path / "protocol.json"
    wanted = run.config.evaluation
    drawn = draw_protocol(run.split, "test", None, wanted.candidates, run.config.seed)
    if not path.is_file():
        drawn.save(path)
    protocol = EvaluationProtocol.load(path, run.dataset.content_hash)
    protocol.check_fits(run.split, str(path))
    found, now = protocol.candidates.shape[1], drawn.candidates.shape[1]
    if found != now:
        raise ConfigError(
            f"{path} has {found} candidates a user and the run now wants {now}. Remove {path} to draw again; figures from "
            "before will not compare."
        )
    return protocol


def _fewer_candidates(run: Run, protocol: EvaluationProtocol) -> str:
    """That the catalogue has no more candidates, in words."""
    wanted, found = run.config.evaluation.candidates, protocol.candidates.shape[1]
    return (
        f"{wanted} candidates were asked for, the catalogue has {run.dataset.n_items} items" if found < wanted else ""
    )


def _left_out(run: Run, protocol: EvaluationProtocol) -> str:
    """How many users the whole protocol leaves out, in words."""
    missing = int((run.split.test != 0).sum()) - len(protocol)
    who = "1 user who leaves" if missing == 1 else f"{missing:,} users who leave"
    return f"without {who} too few negatives" if missing > 0 else ""


def _note(system: System, *more: str) -> str:
    own = system.note() if callable(system.note) else system.note
    return "; ".join(part for part in (own, *more) if part)


def _limit(run: Run, system: System, protocol: EvaluationProtocol) -> int | None:
    """How many users a system is asked about where that is fewer than all."""
    limit = run.config.evaluation.title_users
    return limit if system.titles and limit is not None and limit < len(protocol) else None


def _limited(limit: int | None) -> str:
    return "" if limit is None else f"reads titles: the first {limit} users"


def evaluate_run(
    run: Run,
    systems: Sequence[str] | None = None,
    command: str | None = None,
    log: Log = logger.info,
) -> Report:
    """Rank the run's protocol with its systems.

    Args:
        run: a trained run.
        systems: names of SYSTEMS; none: all that the run has.
        command: how it was run, for the report.
        log: takes a line about systems that are left out because they were trained on other inputs.

    Raises:
        ConfigError: an unknown system, or one that this run cannot have.
        ArtifactError: a stage that a system needs is missing, of other inputs, or damaged.
    """
    protocol, wanted = run_protocol(run), run.config.evaluation.users
    about = "; ".join(part for part in (_fewer_candidates(run, protocol), _left_out(run, protocol)) if part)
    if wanted is not None:
        protocol = protocol.first(wanted)
    return evaluate_systems(run, open_systems(run, systems, log), protocol, command, about)


def evaluate_systems(
    run: Run,
    systems: Mapping[str, System],
    protocol: EvaluationProtocol,
    command: str | None = None,
    about: str = "",
) -> Report:
    """Evaluate systems that are ready on a protocol; see `evaluate_run` and `open_systems`.

    What is found is kept in the run's folder until `keep_report` writes the report, so that an evaluation that was killed
    goes on where it stood.
    """
    limits: dict[str, int] = {}
    notes: dict[str, Note] = {}
    for system in systems.values():
        name, limit = system.ranker.name, _limit(run, system, protocol)
        if limit is not None:
            limits[name] = limit
        notes[name] = partial(_note, system, _limited(limit))
    by_name = {system.ranker.name: system for system in systems.values()}
    report = evaluate_rankers(
        [system.ranker for system in systems.values()],
        protocol,
        run.split,
        limits,
        reference=_reference(run),
        pairs=_pairs(run, systems),
        either=_either(run, by_name),
        order_test=run.config.evaluation.order_test,
        notes=notes,
        kept=partial_results(run, protocol, by_name),
        about=about,
        device=run.device,
        command=command,
    )
    return _with_costs(run, report, systems)


def _with_costs(run: Run, report: Report, systems: Mapping[str, System]) -> Report:
    """The report with each system's name for commands, what its training took, and what all were made of."""
    results = [
        replace(result, key=key, costs=training_costs(run, system))
        for result, (key, system) in zip(report.systems, systems.items(), strict=True)
    ]
    return replace(report, systems=tuple(results), made_of=stage_keys(systems.values()))


def _pairs(run: Run, systems: Mapping[str, System]) -> list[Pair]:
    """What the language model adds, where late fusion is there with its score and without."""
    system, against = systems.get("late-fusion-llm"), systems.get("late-fusion")
    if system is None or against is None:
        return []
    title = "What the language model adds"
    if run.method == "select" and run.config.tune.prompt.pointer.layers == 0:
        title = "What the pointer head adds, no layer of the language model run"
    return [Pair(title, system.ranker.name, against.ranker.name)]


def training_costs(run: Run, system: System) -> dict[str, float]:
    """What was spent on all that a system is made of; what the run does not know is left out."""
    records = [stage_record(run.path, stage) for stage in system.stages]
    found: dict[str, float] = {}
    for name, total in (("seconds", sum), ("trained_parameters", sum), ("peak_memory", max)):
        values = [record[name] for record in records if record.get(name) is not None]
        if values:
            found[f"train_{name}" if name == "seconds" else name] = float(total(values))
    return found


def earlier_report(run: Run, report: Report, name: str) -> Report | None:
    """The report from before the last change, to compare with; read before `keep_report` writes the new one.

    Args:
        run: the run.
        report: what was found now.
        name: of the file, without its ending.

    Returns:
        The one that stands there, if it was made of other stages, say of another CF model; else the one that was kept as
        what was before. None where that is none, or of other users or candidates.
    """
    old = _readable(run.path / f"{name}.json")
    if old is None or not _replaced(old, report):
        old = _readable(run.path / f"{name}-before.json")
    return old if old is not None and old.protocol_hash == report.protocol_hash else None


def keep_report(run: Run, report: Report, name: str) -> None:
    """Write a report into the run's folder; one that was made of other stages is kept as what was before.

    What was kept of the evaluation while it was not finished is removed.
    """
    path = run.path / f"{name}.json"
    old = _readable(path)
    if old is not None and _replaced(old, report):
        old.save(run.path / f"{name}-before.json")
    report.save(path)
    forget_results(run, report.protocol_hash)


def _replaced(old: Report, new: Report) -> bool:
    """Whether a stage that both know is another one now."""
    return any(new.made_of.get(stage, key) != key for stage, key in old.made_of.items())


def _readable(path: Path) -> Report | None:
    """A report, if there is one that can be read; a damaged one is about to be written over."""
    try:
        return Report.load(path)
    except ArtifactError:
        return None
