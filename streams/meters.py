"""What is counted and how it is said: structlog lines, Prometheus counters, named once.

Log lines go to standard error, results to standard output. Every line has an ``event`` from
a fixed vocabulary (what docs/operations.md explains) and names the record, host or part
that it is about. Nothing is ever labelled by container: that number has no bound.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.typing import EventDict, Processor, WrappedLogger

from models.health import State
from models.settings import SECRET_NAMES
from streams.delivery.figures import Figures
from streams.serving import serve

MASKED: Final = "***"


def configure_logs(
    level: str = "info",
    form: Literal["auto", "json", "text"] = "auto",
    to: TextIO | None = None,
) -> None:
    """One line an event on standard error (or ``to``), ours and the libraries' alike."""
    target = to or sys.stderr
    text = form == "text" or (form == "auto" and target.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _renderer(text)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=to is None,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _renderer(text),
            ],
        )
    )
    # Our own lines never pass here. Faust's worker sets the root to debug, mode tells each
    # start and stop, aiokafka each request: of libraries, what matters is a warning at least.
    least = number if number == logging.DEBUG else max(number, logging.WARNING)
    logging.basicConfig(level=least, handlers=[handler], force=True)
    for name in ("aiokafka", "faust", "mode", "streams", "urllib3"):
        logging.getLogger(name).setLevel(least)
    # It warns of each commit that outlasts its interval, which under load most do.
    logging.getLogger("mode.timers").setLevel(max(least, logging.ERROR))


def mask_secrets(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """A secret that somebody logs by its name does not leave."""
    return {name: MASKED if name in SECRET_NAMES else value for name, value in line.items()}


def _renderer(text: bool) -> Processor:
    if text:
        return structlog.dev.ConsoleRenderer(timestamp_key="ts", colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(sort_keys=False)


class Meters:
    """Every counter of judge, governor and responder.

    In a registry of its own, so that two parts (or two tests) in one process never share.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.records = self._counter("records", "Records taken in, by kind", "kind")
        self.samples = self._counter("samples", "Samples judged")
        self.rejected = self._counter("rejected", "Dead letters, by fault", "fault")
        self.repeated = self._counter("repeated", "Records delivered again and passed over")
        self.gaps = self._counter("offset_gaps", "Offsets that Kafka never handed over")
        self.verdicts = self._counter("verdicts", "Verdicts above quiet, by level", "level")
        self.findings = self._counter("findings", "Level changes, by level", "level")
        self.late = self._counter("late_findings", "Findings too old to order anything")
        self.incidents = self._counter("incidents", "Incidents, by what happened", "change")
        self.orders = self._counter("orders", "Orders issued, by action", "action")
        self.refusals = self._counter("refusals", "Orders that a guard withheld, by guard", "guard")
        self.outcomes = self._counter("outcomes", "What became of orders", "action", "status")
        self.unverified = self._counter("unverified", "Acts that could not be verified", "action")
        self.groups = Gauge(
            "plimsoll_groups", "Lineages and roles held by this worker", registry=self.registry
        )
        self.lag = self._gauge("lag_records", "Records not acknowledged yet, by topic", "topic")
        self.commit_age_s = self._gauge(
            "commit_age_seconds", "How long acknowledged events have waited for a commit"
        )
        self.queued = self._gauge("queued_records", "Taken from the log, not acknowledged yet")
        self.owed = self._gauge("owed_records", "Sent, not confirmed by the broker yet")
        self.recovery_s = Histogram(
            "plimsoll_recovery_seconds",
            "From a start or rebalance until events are taken again, to the second",
            buckets=(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
            registry=self.registry,
        )
        self.judged_s = Histogram(
            "plimsoll_sample_to_verdict_seconds",
            "From a batch's newest sample until its verdicts are handed over",
            buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
            registry=self.registry,
        )
        self.answered_s = Histogram(
            "plimsoll_order_to_verified_seconds",
            "From an order's arrival at the responder to the end of its verification",
            buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
            registry=self.registry,
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"plimsoll_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"plimsoll_{name}", about, labels, registry=self.registry)

    def took(self, figures: Figures) -> None:
        """What an app says of itself, once a second."""
        for topic, behind in figures.lag.items():
            self.lag.labels(topic).set(behind)
        self.commit_age_s.set(figures.commit_age_s)
        self.queued.set(figures.queued)
        self.owed.set(figures.owed)

    def serve(self, port: int, state: Callable[[], State] = State) -> None:
        """Prometheus' page, /healthz and /readyz on loopback; port 0 serves nothing."""
        serve(port, self.registry, state)

    def read(self, name: str, **labels: str) -> float:
        """A counter's value now, 0 when it never moved; for tests and ``--json``."""
        return self.registry.get_sample_value(f"plimsoll_{name}_total", labels) or 0.0


class ArchiveMeters(Meters):
    """What the archive counts, beside what all parts do."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self.rows = self._counter("archive_rows", "Rows written, by table", "table")
        self.lots = self._counter("archive_lots", "Sets of files that became part of the archive")
        self.lag = Gauge(
            "plimsoll_archive_lag", "Records that wait to be archived, by topic", ("topic",),
            registry=self.registry,
        )  # fmt: skip  # one call, one thought


def bound(**fields: Any) -> None:
    """Name the part in every line that follows: ``bound(part="worker")``."""
    structlog.contextvars.bind_contextvars(**fields)
