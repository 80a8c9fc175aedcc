"""What gather counts, named once; served as Prometheus' page.

Nothing is labelled by host or container: those numbers have no bound. What concerns one
is in a log line or in a record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from models.health import State
from producers.serving import serve

PREFIX: Final = "plimsoll_gather"


class GatherMeters:
    """In a registry of its own, so that two in one process never share."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames = self._counter("frames", "Frames taken in")
        self.samples = self._counter("samples", "Samples taken in")
        self.made = self._counter("records", "Records made, by kind", "kind")
        self.rejected = self._counter("rejected", "Dead letters, by fault", "fault")
        self.repeated = self._counter("repeated_frames", "Frames that came twice, dropped")
        self.missing = self._counter("missing_frames", "Frames that never came")
        self.unknown = self._counter("unknown_containers", "Containers without inventory")
        self.paused = self._counter("pauses", "Times that reading stopped: Kafka took nothing")
        self.silent = self._gauge("silent_hosts", "Hosts without a frame for too long")
        self.held = self._gauge("held_records", "Samples and observations awaiting inventory")
        self.undelivered = self._gauge("undelivered_bytes", "Made, not yet confirmed by Kafka")
        self.lag = self._gauge("lag_records", "Frames in our partitions, not read yet")
        self.commit_age_s = self._gauge(
            "commit_age_seconds", "Since the last commit, while what was read waits for one"
        )
        self.taken_s = Histogram(
            f"{PREFIX}_sample_to_gather_seconds", "From a frame's time until it is taken in",
            buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
            registry=self.registry,
        )  # fmt: skip  # by subject

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", about, registry=self.registry)

    def serve(self, port: int, state: Callable[[], State] = State) -> None:
        """Prometheus' page, /healthz and /readyz on loopback; port 0 serves nothing."""
        serve(port, self.registry, state)

    def read(self, name: str, **labels: str) -> float:
        """A counter's value now; 0 when it never moved."""
        return self.registry.get_sample_value(f"{PREFIX}_{name}_total", labels) or 0.0
