"""The only writer of frames to Kafka: in order, none lost while Kafka is away.

While Kafka takes what it is given, frames go straight to it. When one is not confirmed in
time, all that is unconfirmed goes to the spool, and so does everything that follows; once
Kafka is back the spool is sent first, at a bounded rate. A frame that was confirmed just as
we were killed is sent again: gather knows it by its sequence number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from models.contract import Topics
from models.records import encode
from models.records.frame import Frame
from producers.kafka import MOST_MESSAGE_BYTES, producer_settings
from producers.settings import Settings
from producers.spool import Spool, Spooled

NS: Final = 10**9
PATIENCE_NS: Final = 2 * NS
"""A frame that is unconfirmed for this long goes to disk; a healthy broker takes
milliseconds, an election of leaders a second or two."""
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

    def serve(self, port: int) -> None:
        """Prometheus' page on loopback; port 0 serves nothing."""
        if port:
            start_http_server(port, addr="127.0.0.1", registry=self.registry)


@dataclass(slots=True)
class Flying:
    """A frame that Kafka was given and has not confirmed."""

    frame: Spooled
    given_ns: int


class Publisher:
    """Never blocks and never raises for a Kafka that is away. ``clock`` is ns UTC."""

    def __init__(self, settings: Settings, clock: Callable[[], int], meters: PublishMeters) -> None:
        self._settings, self._clock, self._meters = settings, clock, meters
        self._topic = Topics(settings.topic_prefix).samples
        self._spool = Spool(settings.spool_file, settings.spool.most_bytes)
        self._flying: dict[int, Flying] = {}
        self._made = 0
        self._lost = 0
        self._away = bool(self._spool)
        self._sent_number = 0
        self._allowed, self._allowed_ns = 1.0, clock()
        self._told_ns = 0
        self._failed, self._retry_ns = "", 0
        self._producer = self._new_producer()
        if self._away:
            log.info("spool-found", frames=len(self._spool), age_s=self._age_s())

    def send(self, frame: Frame) -> None:
        """Hand over one frame; it is on its way or on disk when this returns."""
        lost, self._lost = self._lost, 0
        told = replace(frame, dropped=frame.dropped + lost) if lost else frame
        body = encode(told)
        if len(body) > MOST_MESSAGE_BYTES - 4_096:
            self._give_up(1 + told.dropped, "oversized", f"{len(body)} bytes")
            return
        spooled = Spooled(frame.at_ns, told.dropped, frame.host.encode(), body)
        if self._away or not self._give(spooled):
            self._to_disk()
            self._store([spooled])
        self.serve()

    def serve(self) -> None:
        """Take confirmations, notice that Kafka is away or back, send what waits on disk.
        Call it several times a second.
        """
        self._producer.poll(0)
        if self._failed:
            self._begin_anew()
        elif not self._away and self._overdue():
            self._to_disk()
        if self._away:
            self._drain()
        self._report()

    def flush(self, timeout_s: float) -> bool:
        """Wait until Kafka has everything; what it has not by then is on disk."""
        deadline_ns = self._clock() + round(timeout_s * NS)
        while self.waiting and self._clock() < deadline_ns:
            self._producer.poll(0.05)
            self.serve()
        if self._flying and not self._away:
            self._to_disk()
        return not self.waiting

    @property
    def waiting(self) -> int:
        """Frames that Kafka has not confirmed, on disk or on their way."""
        on_disk = sum(flying.frame.number > 0 for flying in self._flying.values())
        return len(self._spool) + len(self._flying) - on_disk

    @property
    def away(self) -> bool:
        """Whether frames go to disk, because Kafka is away or the disk is not empty yet."""
        return self._away

    def close(self, timeout_s: float = 5.0) -> None:
        self.flush(timeout_s)
        self._producer.purge()
        self._producer.poll(0)
        self._spool.close()

    # ---- to Kafka -------------------------------------------------------------------------

    def _new_producer(self) -> Producer:
        settings = producer_settings(self._settings.kafka, "collect")
        return Producer({**settings, "error_cb": self._heard})

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
                self._failed = str(problem)
            return False
        self._flying[number] = Flying(frame, self._clock())
        return True

    def _confirmed(self, number: int, error: Any) -> None:
        flying = self._flying.get(number)
        if flying is None:
            return  # of a producer that was given up
        if error is None:
            del self._flying[number]
            self._meters.sent.inc()
        elif error.code() in _NEVER:
            del self._flying[number]
            self._give_up(1 + flying.frame.lost, "refused", error.str())
        else:
            self._failed = error.str()
            return
        if flying.frame.number:
            self._spool.remove((flying.frame.number,))

    def _overdue(self) -> bool:
        first = next(iter(self._flying.values()), None)
        return first is not None and self._clock() - first.given_ns > PATIENCE_NS

    def _begin_anew(self) -> None:
        """A frame failed for good: those behind it must not overtake it. All of them go to
        disk, and from there to a fresh client, in order.
        """
        log.warning("kafka-refused", topic=self._topic, problem=self._failed)
        self._failed = ""
        self._to_disk()
        self._flying.clear()
        self._sent_number = 0
        self._producer.purge()
        self._producer = self._new_producer()
        self._retry_ns = self._clock() + RETRY_NS

    # ---- to disk --------------------------------------------------------------------------

    def _to_disk(self) -> None:
        """Kafka is away. What it was given stays with its client, which goes on trying; on
        disk it outlives us.
        """
        if not self._away:
            log.warning("kafka-away", waiting=len(self._flying),
                        meanwhile="frames go to the spool")  # fmt: skip  # two lines
        self._away = True
        fresh = [flying for flying in self._flying.values() if not flying.frame.number]
        if not fresh:
            return
        before = self._spool.last_number()
        self._store([flying.frame for flying in fresh], spared=_ALL)
        for flying, stored in zip(fresh, self._spool.after(before, len(fresh)), strict=False):
            flying.frame = replace(flying.frame, number=stored.number)
            self._sent_number = stored.number

    def _store(self, frames: list[Spooled], spared: int = 0) -> None:
        spared = max(spared, *(flying.frame.number for flying in self._flying.values()), 0)
        try:
            lost = self._spool.add(frames, spared)
        except sqlite3.Error as problem:
            self._give_up(sum(1 + one.lost for one in frames), "disk", str(problem))
            return
        if lost:
            self._give_up(lost, "spool-full", f"{self._spool.size_bytes} bytes are kept")

    def _give_up(self, count: int, reason: str, detail: str) -> None:
        """Frames are lost: the next one says so."""
        self._lost += count
        self._meters.lost.labels(reason).inc(count)
        log.error("frames-lost", frames=count, reason=reason, detail=detail)

    def _drain(self) -> None:
        """Send what is on disk, oldest first; with the last of it we are back to normal."""
        now_ns = self._clock()
        if self._overdue() or now_ns < self._retry_ns:
            return
        rate = self._settings.spool.drain_frames_per_s
        self._allowed += (now_ns - self._allowed_ns) / NS * rate
        self._allowed, self._allowed_ns = min(self._allowed, max(rate, 1.0)), now_ns
        for frame in self._spool.after(self._sent_number, min(int(self._allowed), MOST_AT_ONCE)):
            if not self._give(frame):
                return
            self._sent_number = frame.number
            self._allowed -= 1.0
        if not self._spool:
            self._away = False
            self._sent_number = 0
            log.info("kafka-up-to-date", detail="the spool is empty")

    # ---- told -----------------------------------------------------------------------------

    def _heard(self, error: KafkaError) -> None:
        """What the client says of its connections, which it repeats with every attempt."""
        log.debug("kafka-client", problem=error.str())

    def _report(self) -> None:
        self._meters.spooled.set(len(self._spool))
        self._meters.spooled_bytes.set(self._spool.size_bytes)
        if not self._spool:
            self._meters.spool_age_s.set(0.0)
            return
        now_ns = self._clock()
        if now_ns - self._told_ns >= TOLD_EVERY_NS:
            self._told_ns = now_ns
            self._meters.spool_age_s.set(self._age_s())
            log.warning("spool-waits", frames=len(self._spool), age_s=self._age_s(),
                        size_bytes=self._spool.size_bytes)  # fmt: skip  # two lines

    def _age_s(self) -> float:
        return round((self._clock() - self._spool.oldest_ns()) / NS, 1)
