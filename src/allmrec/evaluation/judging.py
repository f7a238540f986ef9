"""Puts systems to a protocol and writes down what they answer; knows of them only how to ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import numpy as np
from jaxtyping import Float64

from allmrec.core.artifacts import versions
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.progress import progress_bar
from allmrec.data.splitting import Split
from allmrec.evaluation.metrics import target_ranks
from allmrec.evaluation.protocol import EvaluationProtocol
from allmrec.evaluation.report import Report, compare, summarise
from allmrec.ranking import Query, Ranking, Recommender

__all__ = ["Note", "assemble", "judge"]


Note = str | Callable[[], str]
Ask = Callable[[EvaluationProtocol, Sequence[Query], int], tuple[Float64[np.ndarray, " users"], float]]


def judge(
    systems: Sequence[Recommender],
    protocol: EvaluationProtocol,
    split: Split,
    users_limit: Mapping[str, int] | None = None,
    *,
    reference: str = "SASRec",
    notes: Mapping[str, Note] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    batch_size: int = 64,
    device: str = "cpu",
    command: str | None = None,
    git_commit: str | None = None,
) -> Report:
    """Rank the protocol with every system and report.

    Args:
        systems: what to compare; names must differ.
        protocol: whom to ask about what.
        split: gives the histories; must be of the protocol's data set.
        users_limit: for systems too slow for all users, how many of the protocol's first to ask about, by name.
        reference: the system that others are compared with, where it is among them.
        notes: what a reader must know of a system, by name; a function is asked after the system has ranked.
        ks: the k of Hit@k and NDCG@k; 1 is among them.
        batch_size: how many users a system is handed at a time.
        device: what it ran on, for the report.
        command: how it was run, for the report.
        git_commit: the commit it was run on, for the report.

    Raises:
        ArtifactError: `split` is of another data set than the protocol.
        ConfigError: names repeat, a limit or note names no system, a limit is below 1, or `ks` lacks 1.
        DataError: a system's answer holds an item that was no candidate, or an item twice, or is missing.
    """
    return assemble(
        {system.name: partial(_ask, system) for system in systems},
        [system.name for system in systems],
        protocol,
        split,
        users_limit,
        reference=reference,
        notes=notes,
        ks=ks,
        batch_size=batch_size,
        device=device,
        command=command,
        git_commit=git_commit,
    )


def assemble(
    asks: Mapping[str, Ask],
    names: Sequence[str],
    protocol: EvaluationProtocol,
    split: Split,
    users_limit: Mapping[str, int] | None = None,
    *,
    reference: str,
    notes: Mapping[str, Note] | None,
    ks: Sequence[int],
    batch_size: int,
    device: str,
    command: str | None,
    git_commit: str | None,
    n_candidates: int | None = None,
    scenario: str | None = None,
) -> Report:
    """Ask each system in its own way and report; `judge` and `judge_catalogue` differ in the asking alone.

    Args:
        asks: gives a system's target ranks and seconds, by name.
        names: in the order of the table.
        n_candidates, scenario: for the report; none: the protocol's.

    The other arguments and the errors are those of `judge`.
    """
    limits, remarks = dict(users_limit or {}), dict(notes or {})
    if len(set(names)) < len(names):
        raise ConfigError(f"Systems share a name ({', '.join(names)}); give each its own.")
    for name in (*limits, *remarks):
        if name not in names:
            raise ConfigError(f"A limit or note is for {name!r}; expected one of {', '.join(names)}.")
    if 1 not in ks:
        raise ConfigError(f"Metrics at {list(ks)} were asked for; 1 must be among them, for the verdict is on Hit@1.")
    for name, limit in limits.items():
        if limit < 1:
            raise ConfigError(f"{name} is limited to {limit} users; expected at least one.")
    queries = protocol.queries(split)
    results = []
    for name in names:
        n = min(len(protocol), limits.get(name, len(protocol)))
        ranks, seconds = asks[name](protocol, queries[:n], batch_size)
        results.append(
            summarise(
                name,
                protocol.users[:n],
                ranks,
                protocol_hash=protocol.hash,
                seconds=seconds,
                ks=ks,
                note=note() if callable(note := remarks.get(name, "")) else note,
            )
        )
    return Report(
        systems=tuple(results),
        differences=compare(results, reference, protocol.hash, ks),
        reference=reference,
        ks=tuple(ks),
        scenario=scenario or f"{len(protocol):,} users",
        part=protocol.part,
        n_candidates=n_candidates or protocol.candidates.shape[1],
        protocol_hash=protocol.hash,
        dataset_hash=protocol.dataset_hash,
        versions=versions(),
        device=device,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        git_commit=git_commit,
    )


def _ask(
    system: Recommender, protocol: EvaluationProtocol, queries: Sequence[Query], batch_size: int
) -> tuple[Float64[np.ndarray, " users"], float]:
    """The target's rank for each query, and the seconds that the system itself took."""
    ranks = np.full(len(queries), np.inf)
    seconds = 0.0
    with progress_bar(f"Ranking with {system.name}", len(queries)) as bar:
        for start in range(0, len(queries), batch_size):
            rows = slice(start, start + batch_size)
            batch = queries[rows]
            candidates = list(protocol.candidates[start : start + len(batch)])
            begun = time.perf_counter()
            rankings = system.rank(batch, candidates)
            seconds += time.perf_counter() - begun
            _check_answers(system.name, rankings, candidates)
            ranks[rows] = target_ranks(rankings, protocol.targets[start : start + len(batch)])
            done = start + len(batch)
            bar.advance(len(batch), f"Hit@1 {float(np.mean(ranks[:done] == 1)):.3f}")
    return ranks, seconds


def _check_answers(name: str, rankings: Sequence[Ranking], candidates: Sequence[np.ndarray]) -> None:
    """An answer may leave candidates out, which costs it the target; it may not add or repeat any."""
    if len(rankings) != len(candidates):
        raise DataError(f"{name} gave {len(rankings)} rankings for {len(candidates)} queries; expected one each.")
    for ranking, allowed in zip(rankings, candidates, strict=True):
        strange = np.setdiff1d(ranking.items, allowed)
        if len(strange):
            raise DataError(f"{name} ranked item {strange[0]}, which was no candidate.")
        if len(np.unique(ranking.items)) < len(ranking.items):
            raise DataError(f"{name} ranked an item twice; an answer holds each candidate once at most.")
