"""What an evaluation found, with all that is needed to compare and repeat it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int64
from pydantic import TypeAdapter, ValidationError

from allmrec.core.artifacts import atomic_write, read_json
from allmrec.core.errors import ArtifactError, DataError
from allmrec.core.hashing import content_hash
from allmrec.evaluation.either import Either, hits_of_either
from allmrec.evaluation.files import readable_json
from allmrec.evaluation.intervals import Estimate, bootstrap_generator, bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import metric_values
from allmrec.evaluation.order import OrderTest

__all__ = [
    "Pair",
    "PairedDifference",
    "Report",
    "SystemResult",
    "compare",
    "compare_either",
    "compare_pairs",
    "summarise",
]

# Format 1 had no hash.
_KIND, _FORMAT = "allmrec report", 2


@dataclass(frozen=True)
class SystemResult:
    """One system's figures.

    Attributes:
        name: as it stands in tables.
        users: whom it was asked about, by number.
        ranks: the target's rank for each of them, None for a miss.
        metrics: mean over these users with its interval, by name.
        seconds: how long it ranked.
        note: what a reader must know, such as why there are few users.
        key: the name that commands know it by; empty where it has none.
        costs: what its training took: `train_seconds`, `trained_parameters`, `peak_memory` (bytes), where they are known.
        order: what it finds when histories are shuffled, where that was asked.
    """

    name: str
    users: tuple[int, ...]
    ranks: tuple[int | None, ...]
    metrics: dict[str, Estimate]
    seconds: float
    note: str = ""
    key: str = ""
    costs: dict[str, float] = field(default_factory=dict)
    order: OrderTest | None = None

    @property
    def n_users(self) -> int:
        """How many users the figures are means over."""
        return len(self.users)

    @property
    def users_per_second(self) -> float:
        """Speed, warm-up included."""
        return self.n_users / self.seconds if self.seconds > 0 else np.inf

    def user_array(self) -> Int64[np.ndarray, " users"]:
        """The users as an array."""
        return np.array(self.users, dtype=np.int64)

    def rank_array(self) -> Float64[np.ndarray, " users"]:
        """The ranks as an array, infinity for a miss."""
        return np.array([np.inf if rank is None else rank for rank in self.ranks], dtype=np.float64)


@dataclass(frozen=True)
class PairedDifference:
    """`system` less `reference` in one metric, over the users that both were asked about."""

    system: str
    reference: str
    metric: str
    n_users: int
    estimate: Estimate


@dataclass(frozen=True)
class Pair:
    """Two systems whose difference answers a question of its own, say what one part adds to all others.

    Attributes:
        title: the question.
        system, against: names of the system that has the part and of the one that has all others.
        differences: `system` less `against`, per metric; empty as long as it is a question.
    """

    title: str
    system: str
    against: str
    differences: tuple[PairedDifference, ...] = ()


@dataclass(frozen=True)
class Report:
    """The figures of several systems on one protocol.

    Attributes:
        systems: in the order in which they were given.
        differences: each system against the reference, per metric; empty where the reference was not measured.
        reference: name of the system that others are compared with.
        ks: the k of Hit@k and NDCG@k.
        scenario: which of the protocol's users count.
        part, n_candidates, protocol_hash, dataset_hash: what was asked.
        versions, device, command, git_commit: how it was run; the last two may be unknown.
        date: when, ISO 8601, UTC.
        made_of: what the systems were trained to, as keys of stages by name: reports of equal keys are of equal models.
        pairs: further differences of two systems that were asked for, answered.
        either: what two systems hit together, of those that were asked for.
    """

    systems: tuple[SystemResult, ...]
    differences: tuple[PairedDifference, ...]
    reference: str
    ks: tuple[int, ...]
    scenario: str
    part: str
    n_candidates: int
    protocol_hash: str
    dataset_hash: str
    versions: dict[str, str]
    device: str
    date: str
    command: str | None = None
    git_commit: str | None = None
    made_of: dict[str, str] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    either: tuple[Either, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, SystemResult]:
        """Systems by name."""
        return {system.name: system for system in self.systems}

    def difference(self, system: str, metric: str = "Hit@1") -> PairedDifference | None:
        """A system against the reference, or None where there is no comparison."""
        wanted = (d for d in self.differences if d.system == system and d.metric == metric)
        return next(wanted, None)

    def to_json(self) -> str:
        """As readable JSON; each user's rank is in it, so that later systems can be compared pair by pair."""
        value = asdict(self)
        for system, result in zip(value["systems"], self.systems, strict=True):
            system["n_users"] = result.n_users
        value = {"kind": _KIND, "format": _FORMAT, **value}
        return readable_json(value | {"hash": _content(value)})

    def save(self, path: Path | str) -> None:
        """Write it as JSON, whole or not at all."""
        atomic_write(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Report:
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing, something else, or damaged.
        """
        return _parse(read_json(path), str(path))


def summarise(
    name: str,
    users: Int[np.ndarray, " users"],
    ranks: Float64[np.ndarray, " users"],
    *,
    protocol_hash: str,
    seconds: float,
    ks: Sequence[int] = (1, 5, 10),
    note: str = "",
    key: str = "",
    costs: dict[str, float] | None = None,
) -> SystemResult:
    """Figures and intervals from ranks. Resampling is seeded by the protocol's hash, so it repeats exactly.

    Raises:
        DataError: there are no users.
    """
    metrics = {
        metric: bootstrap_mean(values, bootstrap_generator(protocol_hash, metric))
        for metric, values in metric_values(ranks, ks).items()
    }
    listed = tuple(int(rank) if np.isfinite(rank) else None for rank in ranks)
    return SystemResult(name, tuple(users.tolist()), listed, metrics, seconds, note, key, costs or {})


def compare(
    systems: Sequence[SystemResult], reference: str, protocol_hash: str, ks: Sequence[int] = (1, 5, 10)
) -> tuple[PairedDifference, ...]:
    """Each system against the reference on the users that both were asked about; systems without any are left out."""
    against = next((system for system in systems if system.name == reference), None)
    if against is None:
        return ()
    others = [system for system in systems if system is not against]
    return tuple(found for system in others for found in _paired(system, against, protocol_hash, ks))


def compare_pairs(
    systems: Sequence[SystemResult], pairs: Sequence[Pair], protocol_hash: str, ks: Sequence[int] = (1, 5, 10)
) -> tuple[Pair, ...]:
    """Each pair with its differences, on the users that both were asked about; pairs without any are left out."""
    by_name = {system.name: system for system in systems}
    answered = [
        replace(pair, differences=_paired(by_name[pair.system], by_name[pair.against], protocol_hash, ks))
        for pair in pairs
        if pair.system in by_name and pair.against in by_name
    ]
    return tuple(pair for pair in answered if pair.differences)


def compare_either(
    systems: Sequence[SystemResult],
    wanted: Sequence[tuple[str, str]],
    protocol_hash: str,
    ks: Sequence[int] = (1, 5, 10),
) -> tuple[Either, ...]:
    """What two systems hit together, on the users that both were asked about; two that share none are left out."""
    by_name = {system.name: system for system in systems}
    found = []
    for names in wanted:
        first, second = (by_name[name] for name in names)
        common, mine, theirs = np.intersect1d(first.user_array(), second.user_array(), True, True)
        if len(common):
            ranks = first.rank_array()[mine], second.rank_array()[theirs]
            found.append(hits_of_either(names, *ranks, protocol_hash, ks))
    return tuple(found)


def _paired(
    system: SystemResult, against: SystemResult, protocol_hash: str, ks: Sequence[int]
) -> tuple[PairedDifference, ...]:
    """One system less another in every metric; nothing where no user was asked of both."""
    common, mine, theirs = np.intersect1d(system.user_array(), against.user_array(), True, True)
    if len(common) == 0:
        return ()
    theirs_by_metric = metric_values(against.rank_array()[theirs], ks)
    return tuple(
        PairedDifference(
            system.name,
            against.name,
            metric,
            len(common),
            paired_difference(values, theirs_by_metric[metric], bootstrap_generator(protocol_hash, metric)),
        )
        for metric, values in metric_values(system.rank_array()[mine], ks).items()
    )


def _content(value: dict[str, Any]) -> str:
    """Over everything but the hash itself, as it is when read back."""
    return content_hash(json.dumps(json.loads(json.dumps(value)), sort_keys=True))


def _check(report: Report) -> None:
    """Refuse figures that nobody could have measured; whoever shows a report need not look.

    Raises:
        DataError: says what is wrong.
    """
    if not report.systems or 1 not in report.ks or min(report.ks) < 1:
        raise DataError(f"it has {len(report.systems)} systems and figures at {list(report.ks)}")
    names = set(metric_values(np.ones(1), report.ks))
    for system in report.systems:
        _check_system(system, names)
    if len(report.by_name) < len(report.systems):
        raise DataError("two of its systems share a name")
    found = [*report.differences, *(difference for pair in report.pairs for difference in pair.differences)]
    if not _finite([d.estimate for d in found]) or any(d.metric not in names for d in found):
        raise DataError("it has a difference that is no finite number, or of no metric of its own")
    if any("Hit@1" not in {difference.metric for difference in pair.differences} for pair in report.pairs):
        raise DataError("a pair of systems has no difference in Hit@1")
    wanted = {f"Hit@{k}" for k in report.ks}
    for either in report.either:
        figures = [*either.hits.values(), *either.gains.values()]
        if set(either.hits) != wanted or set(either.gains) != wanted or not _finite(figures):
            raise DataError(f"what {' or '.join(either.systems)} hit together is no finite {', '.join(sorted(wanted))}")


def _check_system(system: SystemResult, names: set[str]) -> None:
    """The same for one system; `names` are those of the report's metrics."""
    if len(system.ranks) != len(system.users) or not system.users:
        raise DataError(f"{system.name} has {len(system.ranks)} ranks for {system.n_users} users")
    if len(set(system.users)) < len(system.users) or min(system.users) < 0:
        raise DataError(f"{system.name} ranked a user twice, or one without a number")
    if any(rank is not None and rank < 1 for rank in system.ranks) or set(system.metrics) != names:
        raise DataError(f"{system.name} has a rank below 1, or other metrics than {', '.join(sorted(names))}")
    if not np.isfinite([*system.costs.values(), system.seconds]).all() or not _finite([*system.metrics.values()]):
        raise DataError(f"{system.name} has a figure that is no finite number")
    order = system.order
    if order is not None and (
        len(order.ranks) != len(system.users)
        or any(rank is not None and rank < 1 for rank in order.ranks)
        or set(order.differences) != names
        or not _finite([*order.differences.values()])
    ):
        raise DataError(f"{system.name} has an order test that is of other users or metrics, or no finite number")


def _finite(estimates: Sequence[Estimate]) -> bool:
    return bool(np.isfinite([(one.value, one.low, one.high) for one in estimates]).all())


def _parse(value: Any, where: str) -> Report:
    """A report from JSON values, checked field by field."""
    if not isinstance(value, dict) or value.get("kind") != _KIND or value.get("format") not in (1, _FORMAT):
        raise ArtifactError(f"{where} is no report of format {_FORMAT}; expected a file that `allmrec evaluate` wrote.")
    found = value.pop("hash", None)
    if found != (_content(value) if value["format"] != 1 else None):
        raise ArtifactError(f"{where} is not what was written: its hash does not fit. Evaluate again or restore it.")
    try:
        report = TypeAdapter(Report).validate_python(value)
        _check(report)
    except (ValidationError, DataError) as error:
        raise ArtifactError(f"{where} is damaged ({error}); evaluate again or restore it.") from error
    return report
