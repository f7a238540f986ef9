"""Asks systems about a protocol's users and reports the ranks of their targets."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int

from allmrec.core.artifacts import versions
from allmrec.core.checkout import code_commit
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.progress import progress_bar
from allmrec.data.splitting import Split
from allmrec.evaluation.metrics import target_ranks
from allmrec.evaluation.order import compare_order, shuffled_histories, shuffled_name
from allmrec.evaluation.partial import Found, PartialResults
from allmrec.evaluation.protocol import EvaluationProtocol
from allmrec.evaluation.report import Pair, Report, compare, compare_either, compare_pairs, summarise
from allmrec.ranking import Query, Ranker, Ranking

__all__ = ["Evaluator", "Note", "evaluate_rankers"]


Note = str | Callable[[], str]
ItemLists = Sequence[Int[np.ndarray, " _items"]]


@runtime_checkable
class Named(Protocol):
    """What every system has."""

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        ...


S = TypeVar("S", bound=Named)


class Evaluator(ABC, Generic[S]):
    """Asks systems and reports; a subclass says what they are asked.

    Attributes:
        doing: what a progress bar says before the system's name.
        batch_size: how many users a system is handed at a time unless it is said.
    """

    doing: ClassVar[str]
    batch_size: ClassVar[int]

    @abstractmethod
    def places(self, ks: Sequence[int]) -> int:
        """How many of the first places are looked at while a system answers."""

    @abstractmethod
    def setting(self, protocol: EvaluationProtocol, split: Split, k: int) -> tuple[str, int]:
        """For the report: the scenario, and how many items compete; `k` is what `places` says."""

    @abstractmethod
    def given(self, protocol: EvaluationProtocol, queries: Sequence[Query], start: int) -> ItemLists:
        """The items that each query is asked with; the first query is the protocol's user number `start`."""

    @abstractmethod
    def ask(self, system: S, queries: Sequence[Query], given: ItemLists, k: int) -> list[Ranking]:
        """Nothing but the question: this is what the system's seconds are taken of."""

    @abstractmethod
    def check(self, name: str, ranking: Ranking, given: Int[np.ndarray, " _items"], k: int) -> None:
        """Raise a DataError where an answer holds what it may not."""

    def evaluate(
        self,
        systems: Sequence[S],
        protocol: EvaluationProtocol,
        split: Split,
        users_limit: Mapping[str, int] | None = None,
        *,
        reference: str = "SASRec",
        pairs: Sequence[Pair] = (),
        either: Sequence[tuple[str, str]] = (),
        order_test: bool = False,
        notes: Mapping[str, Note] | None = None,
        kept: PartialResults | None = None,
        about: str = "",
        ks: Sequence[int] = (1, 5, 10),
        batch_size: int | None = None,
        device: str = "cpu",
        command: str | None = None,
    ) -> Report:
        """Rank the protocol with every system and report.

        With `kept` each system's ranks are on disk as soon as it is done, and once in a while before; what is there already
        is not asked again.

        Args:
            systems: what to compare; names must differ.
            protocol: whom to ask about what.
            split: gives the histories; must be of the protocol's data set.
            users_limit: for systems too slow for all users, how many of the protocol's first to ask about, by name.
            reference: the system that others are compared with, where it is among them.
            pairs: two systems at a time whose difference is wanted too.
            either: names of two systems at a time whose hits are wanted together.
            order_test: ask every system again with each history shuffled, which takes as long again.
            notes: what a reader must know of a system, by name; a function is asked after the system has ranked.
            kept: where what was found is kept until the report is written; none: nowhere.
            about: what a reader must know of the users and candidates, for the report.
            ks: the k of Hit@k and NDCG@k; 1 is among them.
            batch_size: how many users a system is handed at a time; none: `batch_size` of the class.
            device: what it ran on, for the report.
            command: how it was run, for the report.

        Raises:
            ArtifactError: `split` is of another data set than the protocol.
            ConfigError: names repeat, a limit, note or pair names no system, a limit is below 1, or `ks` lacks 1.
            DataError: a system's answer holds an item that it may not hold, or an item twice, or is missing.
        """
        limits, remarks = dict(users_limit or {}), dict(notes or {})
        asked_together = [*((pair.system, pair.against) for pair in pairs), *either]
        _check_wishes([system.name for system in systems], limits, remarks, asked_together, ks)
        queries = protocol.queries(split)
        shuffled = shuffled_histories(queries, protocol.seed) if order_test else []
        k, size = self.places(ks), self.batch_size if batch_size is None else batch_size
        results = []
        for number, system in enumerate(systems, start=1):
            name = system.name
            n = min(len(protocol), limits.get(name, len(protocol)))
            place = f"({number} of {len(systems)}, {protocol.part})"
            found = self._found(name, place, system, protocol, queries[:n], size, k, remarks.get(name, ""), kept)
            result = summarise(
                name,
                protocol.users[:n],
                found.ranks,
                protocol_hash=protocol.hash,
                seconds=found.seconds,
                ks=ks,
                note=found.note or "",
            )
            if order_test:
                # After the note is taken, which may count a system's answers.
                again = self._found(shuffled_name(name), place, system, protocol, shuffled[:n], size, k, "", kept)
                result = replace(result, order=compare_order(found.ranks, again.ranks, protocol.hash, ks))
            results.append(result)
        scenario, n_candidates = self.setting(protocol, split, k)
        return Report(
            systems=tuple(results),
            differences=compare(results, reference, protocol.hash, ks),
            reference=reference,
            ks=tuple(ks),
            scenario=f"{scenario}; {about}" if about else scenario,
            part=protocol.part,
            n_candidates=n_candidates,
            protocol_hash=protocol.hash,
            dataset_hash=protocol.dataset_hash,
            versions=versions(),
            device=device,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            git_commit=code_commit(),
            pairs=compare_pairs(results, pairs, protocol.hash, ks),
            either=compare_either(results, either, protocol.hash, ks),
        )

    def _found(
        self,
        name: str,
        place: str,
        system: S,
        protocol: EvaluationProtocol,
        queries: Sequence[Query],
        batch_size: int,
        k: int,
        note: Note,
        kept: PartialResults | None,
    ) -> Found:
        """A system's ranks, read where they are kept whole, else asked for.

        Args:
            name: under which they are kept, and what the progress bar says before `place`.
            note: a function is asked after the system has ranked.
        """
        found = None if kept is None else kept.read(name, len(queries))
        if found is None or found.note is None:
            found = self._ranks(name, place, system, protocol, queries, batch_size, k, found, kept)
            found = replace(found, note=note() if callable(note) else note)
            if kept is not None:
                kept.write(name, found)
        return found

    def _ranks(
        self,
        name: str,
        place: str,
        system: S,
        protocol: EvaluationProtocol,
        queries: Sequence[Query],
        batch_size: int,
        k: int,
        before: Found | None,
        kept: PartialResults | None,
    ) -> Found:
        """The target's rank for each query, infinity where it is missing, and the seconds that the system took.

        Args:
            name, place: see `_found`.
            before: the first queries' ranks, where they are known.
            kept: takes what is known when time is up, and when the work is cut off.
        """
        ranks = np.full(len(queries), np.inf)
        # Batches start where they would have started, so that a batch is read as it would have been.
        first = 0 if before is None else len(before.ranks) // batch_size * batch_size
        done, seconds = first, 0.0
        if before is not None and first:
            ranks[:first], seconds = before.ranks[:first], before.seconds * first / len(before.ranks)
        try:
            with progress_bar(f"{self.doing} {name} {place}", len(queries), first) as bar:
                for start in range(first, len(queries), batch_size):
                    batch = queries[start : start + batch_size]
                    given = self.given(protocol, batch, start)
                    begun = time.perf_counter()
                    rankings = self.ask(system, batch, given, k)
                    seconds += time.perf_counter() - begun
                    self._check_all(system.name, rankings, given, k)
                    stop = start + len(batch)
                    ranks[start:stop] = target_ranks(rankings, protocol.targets[start:stop])
                    done = stop
                    bar.advance(len(batch), f"Hit@{k} {float(np.mean(ranks[:done] <= k)):.3f}")
                    if kept is not None and kept.due():
                        kept.write(name, Found(ranks[:done], seconds))
        except KeyboardInterrupt:
            if kept is not None:
                kept.write(name, Found(ranks[:done], seconds))
            raise
        return Found(ranks, seconds)

    def _check_all(self, name: str, rankings: Sequence[Ranking], given: ItemLists, k: int) -> None:
        if len(rankings) != len(given):
            raise DataError(f"{name} gave {len(rankings)} rankings for {len(given)} queries; expected one each.")
        for ranking, items in zip(rankings, given, strict=True):
            self.check(name, ranking, items, k)


class CandidateEvaluator(Evaluator[Ranker]):
    """Hands each system the protocol's candidates.

    An answer may leave candidates out, which costs it the target; it may not add or repeat any.
    """

    doing = "Ranking with"
    batch_size = 64

    def places(self, ks: Sequence[int]) -> int:
        return 1

    def setting(self, protocol: EvaluationProtocol, split: Split, k: int) -> tuple[str, int]:
        return f"{len(protocol):,} users", protocol.candidates.shape[1]

    def given(self, protocol: EvaluationProtocol, queries: Sequence[Query], start: int) -> ItemLists:
        return list(protocol.candidates[start : start + len(queries)])

    def ask(self, system: Ranker, queries: Sequence[Query], given: ItemLists, k: int) -> list[Ranking]:
        return system.rank(queries, given)

    def check(self, name: str, ranking: Ranking, given: Int[np.ndarray, " _items"], k: int) -> None:
        strange = np.setdiff1d(ranking.items, given)
        if len(strange):
            raise DataError(f"{name} ranked item {strange[0]}, which was no candidate.")
        if len(np.unique(ranking.items)) < len(ranking.items):
            raise DataError(f"{name} ranked an item twice; an answer holds each candidate once at most.")


evaluate_rankers = CandidateEvaluator().evaluate


def _check_wishes(
    names: Sequence[str],
    limits: Mapping[str, int],
    remarks: Mapping[str, Note],
    together: Sequence[tuple[str, str]],
    ks: Sequence[int],
) -> None:
    """Refuse what cannot be evaluated, before anybody is asked."""
    if len(set(names)) < len(names):
        raise ConfigError(f"Systems share a name ({', '.join(names)}); give each its own.")
    for name in (*limits, *remarks):
        if name not in names:
            raise ConfigError(f"A limit or note is for {name!r}; expected one of {', '.join(names)}.")
    for two in together:
        for name in two:
            if name not in names:
                raise ConfigError(f"A pair of systems has {name!r}; expected one of {', '.join(names)}.")
    if 1 not in ks:
        raise ConfigError(f"Metrics at {list(ks)} were asked for; 1 must be among them, for the verdict is on Hit@1.")
    for name, limit in limits.items():
        if limit < 1:
            raise ConfigError(f"{name} is limited to {limit} users; expected at least one.")
