"""One place that makes a Faust app which loses nothing, and runs it until it ends."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import faust
from faust.sensors import Monitor

from models.errors import ConfigurationError
from models.health import State
from streams.delivery.agent import StrictAgent
from streams.delivery.consumer import LeanConsumer, LeanTransport
from streams.delivery.continuity import Continuity
from streams.delivery.figures import Figures, Looks
from streams.delivery.late import LateTable
from streams.delivery.outbox import Outbox
from streams.delivery.recovery import PatientTables
from streams.delivery.stream import LeanStream
from streams.delivery.watchdog import Sight, Watchdog, end_process, sight_of

MOST_RECORD_BYTES: Final = 4 << 20
"""The largest changelog record; a row holds two bodies."""

CHANGELOG: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",  # never delete: recovery hangs on an emptied partition
    "segment.bytes": str(16 << 20),  # at 1 GiB small changelogs are never compacted
    "segment.ms": str(60 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.2",
    "min.compaction.lag.ms": str(60 * 60 * 1000),  # a late writer's row must not win alone
    "max.message.bytes": str(MOST_RECORD_BYTES),
}
"""Settings of a changelog topic, whoever creates it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an app talks to Kafka. The defaults suit a real broker."""

    bootstrap: str
    """``host:port``, several separated by commas."""
    commit_interval_s: float = 0.5
    """What is read again after a kill; each commit costs one record a changed row."""
    session_timeout_s: float = 10.0
    """A killed worker's partitions stand still for so long; the broker's minimum is 6."""
    heartbeat_s: float = 2.0
    fetch_wait_ms: int = 20
    """How long the broker may hold a fetch without news; a quiet partition holds up others."""
    most_polled: int = 500
    buffered_events: int = 4096
    linger_s: float = 0.02
    request_timeout_s: float = 90.0
    """After this a request to the broker has failed; also bounds a step of recovery."""
    instance_id: str | None = None
    """Static membership: a quick restart keeps its partitions, at the price that those of a
    worker that stays away wait out the session."""
    replication: int = 1
    may_create_topics: bool = True
    """Creates changelogs. False on librdkafka's mock broker and on locked-down clusters."""
    credentials: Any = None
    """``faust.SASLCredentials``, ``faust.SSLCredentials`` or None for plain text."""


class DisklessApp(faust.App):
    """Tables lie in memory and in Kafka; stock leaves empty folders wherever it is started."""

    def _create_directories(self) -> None: ...


def make_app(name: str, delivery: Delivery) -> faust.App:
    """An app of this consumer group, not started.

    One agent a topic, with raw values, that takes ``stream.batches()``; tables through
    ``make_table``; what agents send through ``outbox_of(app)``.

    Raises: ConfigurationError when the times cannot work together.
    """
    _check(delivery)
    app = DisklessApp(
        name, broker=_broker(delivery), broker_credentials=delivery.credentials,
        Agent=StrictAgent, Stream=LeanStream, Table=LateTable, TableManager=PatientTables,
        Monitor=_quiet_monitor(), store="memory://", datadir=None, web_enabled=False,
        key_serializer="raw", value_serializer="raw",
        processing_guarantee="at_least_once", stream_wait_empty=True,
        stream_buffer_maxsize=delivery.buffered_events,
        broker_commit_interval=delivery.commit_interval_s,
        broker_session_timeout=delivery.session_timeout_s,
        broker_heartbeat_interval=delivery.heartbeat_s,
        broker_request_timeout=delivery.request_timeout_s,
        broker_max_poll_records=delivery.most_polled,
        consumer_group_instance_id=delivery.instance_id,
        consumer_auto_offset_reset="earliest", consumer_max_fetch_size=MOST_RECORD_BYTES,
        producer_linger=delivery.linger_s, producer_acks=-1,
        producer_max_batch_size=512 * 1024, producer_max_request_size=MOST_RECORD_BYTES,
        topic_replication_factor=delivery.replication,
        topic_allow_declare=delivery.may_create_topics, topic_disable_leader=True,
        table_standby_replicas=0,
    )  # fmt: skip  # grouped by subject
    outbox, continuity = Outbox(app), Continuity()
    app.transport = LeanTransport(
        app.conf.broker_consumer, app,
        outbox=outbox, continuity=continuity, fetch_wait_ms=delivery.fetch_wait_ms,
    )  # fmt: skip  # two lines say as much
    return app


def make_table(app: faust.App, name: str, partitions: int) -> LateTable:
    """A table of raw bytes with a compacted changelog, for ``streams.tables.Rows``.

    Its partitions are those of the source topic: a row lies where its events do.
    """
    table = app.Table(
        name, partitions=partitions, key_type=bytes, value_type=bytes, default=None,
        extra_topic_configs=dict(CHANGELOG),
    )  # fmt: skip  # two lines say as much
    return cast("LateTable", table)


def outbox_of(app: faust.App) -> Outbox:
    return cast("LeanTransport", app.transport).outbox


def continuity_of(app: faust.App) -> Continuity:
    return cast("LeanTransport", app.transport).continuity


@dataclass(slots=True)
class Vital:
    """What others may know of a running app: whether it moves and is ready, and its figures."""

    told: Callable[[Figures], None] = lambda _figures: None
    recovered: Callable[[float], None] = lambda _seconds: None
    _app: Any = None
    _watchdog: Watchdog | None = None

    def state(self) -> State:
        """Callable from any thread."""
        if self._watchdog is not None:
            return self._watchdog.state()
        # Faust starts no task of ours, so no watchdog, before it has read tables back once.
        back = self._app is not None and self._app.in_recovery
        return State(waits="its tables are read back" if back else "it is starting")

    def begins(self, app: faust.App) -> None:
        self._app = app

    def follows(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog


def guard(
    app: faust.App, patience_s: float, *, vital: Vital | None = None, end: Any = end_process
) -> Watchdog:
    """A watchdog over a started app; call from inside of its loop."""
    vital = vital or Vital()
    looks = Looks(app, vital.told, vital.recovered)

    def see() -> Sight:
        sight = sight_of(app)
        looks.look(unready=bool(sight.unready))
        return sight

    watchdog = Watchdog(see, app.loop.call_soon_threadsafe, patience_s=patience_s, end=end)
    watchdog.start()
    vital.follows(watchdog)
    return watchdog


_SELDOM: Final = 50_000, 25, 25
"""What a worker makes is freed by its counts. To look for circles at the usual pace took a
twentieth of its time, and longer at once the more it knows.
"""


def run(
    app: faust.App, *, patience_s: float = 120.0, loglevel: str = "WARNING",
    vital: Vital | None = None,
) -> NoReturn:  # fmt: skip  # two lines say as much
    """Run until SIGTERM or SIGINT (exit code 0) or a failure (not 0), watched over."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    gc.set_threshold(*_SELDOM)

    vital = vital or Vital()
    vital.begins(app)

    async def watched() -> None:
        guard(app, patience_s, vital=vital)

    app.task(watched)
    worker = faust.Worker(
        app, loglevel=loglevel, quiet=True, redirect_stdouts=False, override_logging=False
    )
    worker.execute_from_commandline()


def _broker(delivery: Delivery) -> str:
    return ";".join(f"kafka://{address.strip()}" for address in delivery.bootstrap.split(","))


def _check(delivery: Delivery) -> None:
    if not delivery.heartbeat_s * 2 < delivery.session_timeout_s <= delivery.request_timeout_s:
        raise ConfigurationError(
            f"heartbeat_s {delivery.heartbeat_s}, session_timeout_s {delivery.session_timeout_s}, "
            f"request_timeout_s {delivery.request_timeout_s}: the session must be longer than two "
            "heartbeats and no longer than the request timeout"
        )


_PER_MESSAGE: Final = (
    "on_message_in", "on_message_out", "on_stream_event_in", "on_stream_event_out",
    "on_table_get", "on_table_set", "on_table_del", "on_send_initiated", "on_send_completed",
    "on_topic_buffer_full",
)  # fmt: skip  # a list to read across


def _quiet_monitor() -> type[Monitor]:
    """A monitor whose callbacks for each message do nothing; our meters count for us."""

    def nothing(*_args: Any, **_kwargs: Any) -> None: ...

    return type("QuietMonitor", (Monitor,), dict.fromkeys(_PER_MESSAGE, nothing))


__all__ = [
    "CHANGELOG", "Delivery", "LeanConsumer", "Vital", "continuity_of", "guard", "make_app",
    "make_table", "outbox_of", "run",
]  # fmt: skip  # a list to read across
