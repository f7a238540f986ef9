"""What Prometheus reads.

Processes of one machine write to files that one of them adds up (PROMETHEUS_MULTIPROC_DIR). Replicas of a cluster have no files in
common: the one that is asked asks the others, and every line names its replica. Added up, a counter would fall when a replica goes, and
Prometheus takes that for a new start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one process.

    Attributes:
        replicas: asks every replica for its own lines, by the replica's name; None: there is this process alone.
    """

    def __init__(self) -> None:
        self.replicas: Callable[[], Mapping[str, str]] | None = None
        self.registry = CollectorRegistry()
        many = self.registry
        self.requests = Counter(
            "allmrec_requests_total", "Requests by route and status", ("route", "status"), registry=many
        )
        self.seconds = Histogram(
            "allmrec_request_seconds", "Latency by route", ("route",), buckets=_SECONDS, registry=many
        )
        self.answers = Histogram(
            "allmrec_answer_seconds",
            "Latency of a recommendation or a ranking by the part that answered",
            ("part",),
            buckets=_SECONDS,
            registry=many,
        )
        self.fallbacks = Counter(
            "allmrec_fallbacks_total",
            "Times that a cheaper system took over, by the one that did not and why",
            ("system", "reason"),
            registry=many,
        )
        self.batch = Histogram(
            "allmrec_batch_size",
            "Requests computed together",
            ("lane",),
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=many,
        )
        self.waiting = Gauge(
            "allmrec_queue_waiting", "Requests that wait", ("lane",), registry=many, multiprocess_mode="livesum"
        )
        self.reused = Counter(
            "allmrec_new_item_vectors_total",
            "Vectors of new items, encoded or taken from those kept",
            ("how",),
            registry=many,
        )
        self.read = Counter(
            "allmrec_llm_items_total",
            "Candidates that the language model read, or found among those it keeps",
            ("how",),
            registry=many,
        )
        for how in ("read", "kept"):
            self.read.labels(how)
        self.kept_bytes = Gauge(
            "allmrec_llm_kept_bytes",
            "Memory of what the language model keeps of candidates, by version's label",
            ("label",),
            registry=many,
            multiprocess_mode="livesum",
        )
        self.model = Gauge(
            "allmrec_model_loaded",
            "1 for each version that is served",
            ("label", "version"),
            registry=many,
            multiprocess_mode="livesum",
        )
        self.reloads = Counter(
            "allmrec_reloads_total", "Versions that took over or were refused", ("result",), registry=many
        )
        self.state_errors = Counter(
            "allmrec_state_errors_total", "Times that the database failed", ("what",), registry=many
        )

    def own(self) -> str:
        """Of this process, as Prometheus reads it."""
        return generate_latest(self.registry).decode()

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        if self.replicas is not None:
            return generate_latest(_by_replica(self.replicas()))
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # the package leaves it without annotations
            return generate_latest(together)
        return generate_latest(self.registry)


class _Families(Collector):
    """What was collected elsewhere."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        yield from self._families.values()


def _by_replica(texts: Mapping[str, str]) -> CollectorRegistry:
    """The lines of every replica, with its name among the labels."""
    families: dict[str, Metric] = {}
    for replica, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text):
            one = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            one.samples += [sample._replace(labels=sample.labels | {"replica": replica}) for sample in family.samples]
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return registry
