"""The only writer of frames to Kafka: in order, none lost while Kafka is away.

While Kafka takes what it is given, frames go straight to it. When one is not confirmed in
time, all that is unconfirmed goes to the spool, and so does everything that follows; once
Kafka is back the spool is sent first, at a bounded rate. A frame that was confirmed just as
we were killed is sent again: gather knows it by its sequence number.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from models.contract import Topics
from models.health import State
from models.permissions import refused
from models.records import encode
from models.records.frame import Frame
from producers.kafka import MOST_MESSAGE_BYTES, producer_settings
from producers.pace import Every
from producers.serving import serve
from producers.spool import Spool, Spooled

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from producers.settings import Settings

NS: Final = 10**9
PATIENCE_NS: Final = 2 * NS
"""A frame that is unconfirmed for this long goes to disk; a healthy broker takes
milliseconds, an election of leaders a second or two."""
MOST_AHEAD_BYTES: Final = 32 << 20
"""What waits in memory for Kafka's confirmation at most; the rest goes to disk at once."""
MOST_AT_ONCE: Final = 500
RETRY_NS: Final = 5 * NS
_ALL: Final = 2**62
TOLD_EVERY_NS: Final = 30 * NS
_NEVER: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG})
"""What Kafka will not take at any later time either."""

log = structlog.get_logger("collect")


class PublishMeters:
    """In a registry of its own, so that two in one process never share."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sent = Counter("plimsoll_collect_frames", "Frames that Kafka confirmed",
                            registry=self.registry)  # fmt: skip  # two lines
        self.lost = Counter("plimsoll_collect_lost_frames", "Frames that were given up, by reason",
                            ("reason",), registry=self.registry)  # fmt: skip  # two lines
        self.spooled = Gauge("plimsoll_collect_spooled_frames", "Frames on disk",
                             registry=self.registry)  # fmt: skip  # two lines
        self.spooled_bytes = Gauge("plimsoll_collect_spooled_bytes", "Bytes of frames on disk",
                                   registry=self.registry)  # fmt: skip  # two lines
        self.spool_age_s = Gauge("plimsoll_collect_spool_age_seconds", "Age of the oldest one",
                                 registry=self.registry)  # fmt: skip  # two lines

        self.waiting = Gauge("plimsoll_collect_waiting_frames", "Not confirmed by Kafka yet",
                             registry=self.registry)  # fmt: skip  # two lines
        self.confirmed_s = Histogram(
            "plimsoll_collect_confirmed_seconds", "From handing a frame over until Kafka has it",
            buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0), registry=self.registry,
        )  # fmt: skip  # by subject

    def serve(self, port: int, state: Callable[[], State] = State) -> None:
        """Prometheus' page, /healthz and /readyz on loopback; port 0 serves nothing."""
        serve(port, self.registry, state)


@dataclass(slots=True)
class Flying:
    """A frame that Kafka was given and has not confirmed."""

    frame: Spooled
    given_ns: int


class Publisher:
    """Never blocks and never raises for a Kafka that is away, or a disk that fails.

    ``clock`` (ns UTC) tells how old a frame is; how long Kafka takes is measured by a steady
    one, which nobody sets back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], int], meters: PublishMeters) -> None:
        self._settings, self._clock, self._meters = settings, clock, meters
        self._topic = Topics(settings.topic_prefix).samples
        self._principal = settings.kafka.principal
        self._spool = Spool(settings.spool_file, settings.spool.most_bytes)
        self._flying: dict[int, Flying] = {}
        self._made = 0
        self._lost = 0
        self._away = bool(self._spool)
        self._sent_number = 0
        self._delivered: set[int] = set()
        self._allowed, self._allowed_ns = 1.0, time.monotonic_ns()
        self._failed, self._retry_ns = "", 0
        self._problem = ""
        self._lost_untold = 0
        self._waits_told, self._disk_told = Every(TOLD_EVERY_NS), Every(TOLD_EVERY_NS)
        self._lost_told = Every(TOLD_EVERY_NS)
        self._producer = self._new_producer()
        if self._away:
            log.info("spool-found", frames=len(self._spool), age_s=self._age_s())

    def send(self, frame: Frame) -> None:
        """Hand over one frame; it is on its way or on disk when this returns."""
        lost, self._lost = self._lost, 0
        told = replace(frame, dropped=frame.dropped + lost) if lost else frame
        body = encode(told)
        if len(body) > MOST_MESSAGE_BYTES - 4_096:
            self._give_up([told.dropped], "oversized", f"{len(body)} bytes")
            return
        spooled = Spooled(frame.at_ns, told.dropped, frame.host.encode(), body)
        if self._away or not self._give(spooled):
            self._to_disk()
            self._store(spooled)
        self.serve()

    def serve(self) -> None:
        """Take confirmations, notice that Kafka is away or back, send what waits on disk.
        Call it several times a second.
        """
        self._poll()
        self._forget_delivered()
        if self._failed:
            self._begin_anew()
        elif not self._away and self._overdue():
            self._to_disk()
        if self._away:
            self._drain()
        self._report()

    def flush(self, timeout_s: float) -> bool:
        """Wait until Kafka has everything; what it has not by then is on disk."""
        ends_s = time.monotonic() + timeout_s
        while self.waiting and time.monotonic() < ends_s:
            self._poll(0.05)
            self.serve()
        if self._flying and not self._away:
            self._to_disk()
        return not self.waiting

    @property
    def waiting(self) -> int:
        """Frames that Kafka has not confirmed, on disk or on their way."""
        on_disk = sum(flying.frame.number > 0 for flying in self._flying.values())
        return self._spooled + len(self._flying) - on_disk

    @property
    def _spooled(self) -> int:
        return len(self._spool) - len(self._delivered)

    @property
    def waits(self) -> str:
        """Why frames do not get to Kafka just now; empty when they do."""
        return f"Kafka is away, {self._spooled} frames wait on disk" if self._away else ""

    @property
    def away(self) -> bool:
        """Whether frames go to disk, because Kafka is away or the disk is not empty yet."""
        return self._away

    def close(self, timeout_s: float = 5.0) -> None:
        self.flush(timeout_s)
        self._producer.purge()
        self._poll()
        self._spool.close()

    # ---- to Kafka -------------------------------------------------------------------------

    def _new_producer(self) -> Producer:
        settings = producer_settings(self._settings.kafka, "collect")
        bound = {"queue.buffering.max.kbytes": MOST_AHEAD_BYTES >> 10}
        return Producer({**settings, **bound, "error_cb": self._heard})

    def _give(self, frame: Spooled) -> bool:
        """To Kafka's client; False when its queue is full."""
        self._made += 1
        number = self._made

        def confirmed(error: KafkaError | None, _message: Message[bytes, bytes]) -> None:
            self._confirmed(number, error)

        try:
            self._producer.produce(self._topic, frame.body, frame.key, on_delivery=confirmed)
        except (BufferError, KafkaException) as problem:
            if not isinstance(problem, BufferError):
                self._failed = self._told(problem.args[0])
            return False
        self._flying[number] = Flying(frame, time.monotonic_ns())
        return True

    def _poll(self, seconds: float = 0.0) -> None:
        try:
            self._producer.poll(seconds)
        except KafkaException as problem:  # this client is of no use any more
            self._failed = self._told(problem.args[0])

    def _told(self, error: Any) -> str:
        refusal = refused(error.code(), self._principal, "Write", self._topic)
        return str(error.str()) if refusal is None else str(refusal)

    def _confirmed(self, number: int, error: Any) -> None:
        flying = self._flying.get(number)
        if flying is None:
            return  # of a producer that was given up
        if error is None:
            del self._flying[number]
            self._meters.sent.inc()
            self._meters.confirmed_s.observe((time.monotonic_ns() - flying.given_ns) / NS)
        elif error.code() in _NEVER:
            del self._flying[number]
            self._give_up([flying.frame.lost], "refused", error.str())
        else:
            self._failed = self._told(error)
            return
        if flying.frame.number:
            self._delivered.add(flying.frame.number)

    def _forget_delivered(self) -> None:
        """From disk; where that fails it is tried again, and at worst they are sent twice."""
        if self._delivered:
            try:
                self._spool.remove(self._delivered)
            except sqlite3.Error as problem:
                self._disk_failed(problem)
            else:
                self._delivered.clear()

    def _overdue(self) -> bool:
        first = next(iter(self._flying.values()), None)
        return first is not None and time.monotonic_ns() - first.given_ns > PATIENCE_NS

    def _begin_anew(self) -> None:
        """A frame failed for good: those behind it must not overtake it. All of them go to
        disk, and from there to a fresh client, in order.
        """
        log.warning("kafka-refused", topic=self._topic, problem=self._failed)
        self._failed = ""
        self._to_disk()
        lost = [one.frame.lost for one in self._flying.values() if not one.frame.number]
        self._give_up(lost, "disk", "refused, and not on disk")
        self._flying.clear()
        self._sent_number = 0
        self._producer.purge()
        self._producer = self._new_producer()
        self._retry_ns = time.monotonic_ns() + RETRY_NS

    # ---- to disk --------------------------------------------------------------------------

    def _to_disk(self) -> None:
        """Kafka is away. What it was given stays with its client, which goes on trying; on
        disk it outlives us.
        """
        if not self._away:
            log.warning("kafka-away", waiting=len(self._flying), **self._why(),
                        meanwhile="frames go to the spool")  # fmt: skip  # two lines
        self._away = True
        fresh = [flying for flying in self._flying.values() if not flying.frame.number]
        if not fresh:
            return
        try:
            before = self._spool.last_number()
            self._spool.add([flying.frame for flying in fresh], spared=_ALL)
            stored = self._spool.after(before, len(fresh))
        except sqlite3.Error as problem:
            self._disk_failed(problem)
            return
        for flying, kept in zip(fresh, stored, strict=True):
            flying.frame = kept
            self._sent_number = kept.number

    def _store(self, frame: Spooled) -> None:
        under_way = max((flying.frame.number for flying in self._flying.values()), default=0)
        try:
            lost = self._spool.add([frame], under_way)
        except sqlite3.Error as problem:
            self._disk_failed(problem)
            self._give_up([frame.lost], "disk", str(problem))
            return
        self._give_up(lost, "spool-full", f"{self._spool.size_bytes} bytes are kept")

    def _disk_failed(self, problem: sqlite3.Error) -> None:
        if self._disk_told.due(time.monotonic_ns()):
            log.error(
                "spool-failed", file=str(self._settings.spool_file), problem=str(problem),
                todo="make room on that disk: frames are lost while it fails",
            )  # fmt: skip  # one line a thought

    def _give_up(self, lost: Sequence[int], reason: str, detail: str) -> None:
        """So many frames, each of which told of so many before it: the next one tells of all."""
        if not lost:
            return
        self._lost += sum(lost) + len(lost)
        self._meters.lost.labels(reason).inc(len(lost))
        self._lost_untold += len(lost)
        if self._lost_told.due(time.monotonic_ns()):
            untold, self._lost_untold = self._lost_untold, 0
            log.error("frames-lost", frames=untold, reason=reason, detail=detail)

    def _lost_meanwhile(self) -> dict[str, int]:
        """What no line has told yet."""
        untold, self._lost_untold = self._lost_untold, 0
        return {"more_frames_lost": untold} if untold else {}

    def _drain(self) -> None:
        """Send what is on disk, oldest first; with the last of it we are back to normal."""
        now_ns = time.monotonic_ns()
        if self._overdue() or now_ns < self._retry_ns:
            return
        rate = self._settings.spool.drain_frames_per_s
        self._allowed += (now_ns - self._allowed_ns) / NS * rate
        self._allowed, self._allowed_ns = min(self._allowed, max(rate, 1.0)), now_ns
        for frame in self._next(min(int(self._allowed), MOST_AT_ONCE)):
            if frame.number not in self._delivered:  # which only a failing disk keeps
                if not self._give(frame):
                    return
                self._allowed -= 1.0
            self._sent_number = frame.number
        if not self._spooled:
            self._away = False
            self._problem = ""
            log.info("kafka-up-to-date", detail="the spool is empty", **self._lost_meanwhile())

    def _next(self, most: int) -> list[Spooled]:
        try:
            return self._spool.after(self._sent_number, most)
        except sqlite3.Error as problem:
            self._disk_failed(problem)
            return []

    # ---- told -----------------------------------------------------------------------------

    def _heard(self, error: KafkaError) -> None:
        """What the client says of its connections, which it repeats with every attempt."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._problem = error.str()
        log.debug("kafka-client", problem=error.str())

    def _why(self) -> dict[str, str]:
        """What whoever is on call needs to begin with."""
        return {"bootstrap": self._settings.kafka.bootstrap, "problem": self._problem or "silence"}

    def _report(self) -> None:
        self._meters.waiting.set(self.waiting)
        self._meters.spooled.set(self._spooled)
        self._meters.spooled_bytes.set(self._spool.size_bytes)
        age_s = self._age_s() if self._spooled else 0.0
        self._meters.spool_age_s.set(age_s)
        if self._spooled and self._waits_told.due(time.monotonic_ns()):
            log.warning("spool-waits", frames=self._spooled, age_s=age_s, **self._why(),
                        size_bytes=self._spool.size_bytes)  # fmt: skip  # two lines

    def _age_s(self) -> float:
        return round((self._clock() - self._spool.oldest_ns()) / NS, 1)
