"""What Prometheus reads. With several processes each writes to files that one of them adds up (PROMETHEUS_MULTIPROC_DIR)."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
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
            "Latency of a recommendation by the part that answered",
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

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # the package leaves it without annotations
            return generate_latest(together)
        return generate_latest(self.registry)
