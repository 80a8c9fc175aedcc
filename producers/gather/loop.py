"""Gather: read frames, regroup them, send, and commit what Kafka has confirmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from models.contract import ONLY_PARTITION, Topics, partition_of
from models.errors import BrokerUnreachable, ConfigurationError, MalformedRecord
from models.health import Pulse
from models.permissions import Operation
from models.records import encode
from models.records.facts import Coverage
from models.records.rejected import dead_letter
from models.records.telemetry import Tick, written
from producers.gather.clock import Clock, LogClock
from producers.gather.incoming import Incoming
from producers.gather.intake import read_frame
from producers.gather.inventory import Inventory
from producers.gather.ledger import Ledger, Lot
from producers.gather.outbox import Outbox, fits
from producers.gather.patience import patiently
from producers.gather.places import Places
from producers.gather.registry import Registry
from producers.gather.regroup import Made, Regrouper, halved
from producers.gather.ticker import Ticker
from producers.gather.watch import Watch, about_host
from producers.kafka import absent, consumer_settings, heed, partitions_of
from producers.meters import GatherMeters
from producers.settings import Settings

T = TypeVar("T")
NS: Final = 10**9
FRAMES_AT_ONCE: Final = 500
IDLE_S: Final = 0.05
COMMIT_S: Final = 0.5
FLUSH_S: Final = 10.0
STANDS_S: Final = 60.0
"""A round takes a moment; one that takes longer than this is stuck."""
ALONE_S: Final = 120.0
"""A group shares out its partitions in seconds; who has none for so long asks whether Kafka
answers others."""
log = structlog.get_logger("gather")


class Gather:
    """One member of the group of gathers.

    ``clock`` tells the time that records are dated and judged by; how long a batch waits
    for its siblings is always measured by this machine's monotonic clock.
    """

    def __init__(self, settings: Settings, clock: Clock, meters: GatherMeters) -> None:
        limits = settings.gather
        self.topics = Topics(settings.topic_prefix)
        self.meters = meters
        self._settings, self._limits, self._clock = settings, limits, clock
        self._future_ns = round(limits.future_s * NS)
        self._outbox = Outbox(settings, clock, meters)
        self._inventory = Inventory()
        self._regroup = Regrouper(
            self._inventory, limits.batch_samples, round(limits.unknown_wait_s * NS),
            Places(limits.places).of,
        )  # fmt: skip  # short enough
        self._watch = Watch(round(limits.silence_s * NS))
        self._ticker = Ticker(round(limits.tick_s * NS))
        self._ledger = Ledger()
        self._partitions: dict[str, int] = {}
        self.owned: set[int] = set()
        """Partitions of samples that are ours just now."""
        self.ended = False
        self._heard_ns: dict[int, int] = {}
        self._departed: set[str] = set()
        self._paused = False
        self._waiting_since_s: float | None = None
        self._hosts_before = 0
        self._committed_s = self._advanced_s = time.monotonic()
        self._joined = False
        self._alone_since_s = time.monotonic()
        self.pulse = Pulse(time.monotonic, STANDS_S)
        self._stop = threading.Event()
        self._consumer: Consumer
        self._registry: Registry

    # ---- from start to end ------------------------------------------------------------

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Until ``stop`` is set; what was read and confirmed is committed then.

        Raises: ConfigurationError when a topic is missing, NotPermitted when we may not use
        one, BrokerUnreachable when Kafka refuses a message for good, or answers others and
        gives us no partitions. Kafka being away raises nothing: it is waited for.
        """
        self._stop = stop
        kafka, needed = self._settings.kafka, self._needed()
        self._partitions = self._patiently(partial(partitions_of, kafka, needed))
        if stop.is_set():
            return
        self._registry = Registry(
            self._settings,
            self.topics.inventory,
            self._partitions[self.topics.inventory],
            self._refuse,
        )
        config = consumer_settings(self._settings.kafka, "gather", self._limits.group)
        self._consumer = Consumer(config)
        try:
            self._patiently(self._read_inventory)
            self._consumer.subscribe(
                [self.topics.samples],
                on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost,
            )  # fmt: skip  # the three belong together
            ready()
            while not stop.is_set():
                self.round()
            self._settle()
        finally:
            self.ended = True
            self._consumer.close()
            self._registry.close()

    def round(self) -> None:
        """Take in what has arrived, send what is complete or has waited, commit."""
        started_ns = self._clock()
        messages = self._consume()
        for message in messages:
            self._take(message)
        self._follow_inventory()
        now_ns = self._clock()
        if not messages:
            self._notice_silence(started_ns or now_ns)
        self._give_up(now_ns)
        if self._is_time():
            self._send_all()
        if self._ticker.due(self._horizon_ns(now_ns)):
            self._tick(self._horizon_ns(now_ns))
        self._outbox.poll()
        self._ease()
        self._commit()
        self._insist()
        self.pulse.beat(self._waits())

    def _insist(self) -> None:
        """Nobody restarts a process that only waits: a client that has gone deaf ends it.

        Raises: BrokerUnreachable when our group has given us nothing for long, although Kafka
        answers a client that asks for the first time.
        """
        now_s = time.monotonic()
        if self._joined or now_s - self._alone_since_s < ALONE_S:
            return
        self._alone_since_s = now_s
        try:
            partitions_of(self._settings.kafka, self._needed())
        except KafkaException:
            return  # it is away, and waited for
        raise BrokerUnreachable(
            f"{self._settings.kafka.bootstrap} answers, but group {self._limits.group} has given "
            f"this gather no partitions for {ALONE_S:.0f} s: what was read is committed or "
            "is read again; start it anew, and see who else is in the group"
        )

    def _waits(self) -> str:
        """Why nothing is regrouped just now; empty where work is done, if there is any."""
        if self._outbox.silent:
            return "Kafka is away"
        return "" if self._joined else "its group shares out the partitions"

    # ---- taking in --------------------------------------------------------------------

    def _consume(self) -> list[Incoming]:
        """What is there; waits a moment for the first one, never for more."""
        first = self._consumer.consume(1, IDLE_S)
        more = self._consumer.consume(FRAMES_AT_ONCE - 1, 0) if first else []
        found = []
        for message in (*first, *more):
            if (problem := message.error()) is None:
                found.append(Incoming.of(message))
            elif problem.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise ConfigurationError(absent(self.topics.samples))
            else:
                heed(problem, self._settings.kafka, "Read", self.topics.samples, self._limits.group)
                log.warning("frames-unread", problem=problem.str())
        return found

    def _take(self, message: Incoming) -> None:
        if isinstance(self._clock, LogClock):
            self._clock.hear(message.arrived_ns)
        self._heard_ns[message.partition] = message.arrived_ns
        try:
            if not message.probe:
                self._take_frame(message)
        except MalformedRecord as problem:
            self._refuse(message, problem)
        # After the work: what went out before this frame must not vouch for it.
        self._ledger.current.took(message.topic, message.partition, message.offset)

    def _take_frame(self, message: Incoming) -> None:
        frame = read_frame(message, self._future_ns)
        now_ns = self._clock()
        heard = self._watch.frame(frame, now_ns)
        if heard.repeated:
            self.meters.repeated.inc()
            return
        if self._regroup.clashes(frame):
            self._send_all()
        lot = self._ledger.current
        for entry in frame.inventory:
            if self._regroup.learn(entry):
                key = entry.subject.encode()
                self._outbox.send(self.topics.inventory, key, encode(entry), lot=lot)
        self._regroup.add(frame, now_ns, lot)
        for fact in heard.facts:
            self._report(frame.scope, frame.host, frame.pool, now_ns, fact)
        self.meters.taken_s.observe(max(now_ns - frame.at_ns, 0) / NS)
        self.meters.frames.inc()
        self.meters.samples.inc(len(frame.samples))
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()

    def _report(self, scope: str, host: str, pool: str, now_ns: int, fact: Coverage) -> None:
        """A fact about a host's collector, to the judge and to the person on call."""
        self.meters.missing.inc(fact.missing)
        self._regroup.observe(scope, host, pool, about_host(host, now_ns, fact))
        told = {"scope": scope, "host": host, "detail": fact.detail, "missing": fact.missing}
        log.warning("coverage", problem=fact.problem, **told)

    def _refuse(self, message: Incoming, problem: MalformedRecord) -> None:
        """One dead letter, in the current lot: the source is committed after it."""
        letter = dead_letter(
            message.topic, message.partition, message.offset, message.key, message.value,
            fault=problem.fault, reason=problem.problem, place=problem.place,
            rejected_by="gather", at_ns=self._clock(),
        )  # fmt: skip  # as the record orders it
        self.meters.rejected.labels(problem.fault).inc()
        log.warning(
            "rejected", record=message.place, fault=problem.fault, reason=str(problem)[:500]
        )
        lot = self._ledger.current if message.topic != self.topics.inventory else None
        self._outbox.send(self.topics.rejected, letter.key or None, encode(letter), lot=lot)

    def _follow_inventory(self) -> None:
        for news in self._registry.news():
            if isinstance(news, str):
                self._departed.add(news)
            else:
                self._departed.discard(news.subject)
                self._regroup.learn(news)

    def _notice_silence(self, now_ns: int) -> None:
        """Only when nothing waits to be read, so that our own delay is nobody's silence."""
        for scope, host, pool, fact in self._watch.fall_silent(now_ns):
            self._report(scope, host, pool, now_ns, fact)
        self.meters.silent.set(self._watch.silent())

    def _give_up(self, now_ns: int) -> None:
        for subject in self._regroup.give_up(now_ns):
            self.meters.unknown.inc()
            log.warning(
                "unknown-container", container=subject,
                todo="is its host's collector running, and the inventory topic compacted?",
            )  # fmt: skip  # one line a thought
        self.meters.held.set(self._regroup.held)

    # ---- sending ----------------------------------------------------------------------

    def _is_time(self) -> bool:
        """Full, waited for long enough, or nobody is missing who could still come."""
        if not self._regroup.pending:  # refused or repeated frames are done with, too
            return bool(self._ledger.current.next_offsets)
        if self._regroup.full:
            return True
        waited_s = time.monotonic() - (self._waiting_since_s or 0.0)
        hosts = self._watch.speaking()
        # With a new host there may be more of them: this once, wait.
        everybody = self._regroup.spoken >= hosts == self._hosts_before
        return everybody or waited_s * 1_000 >= self._limits.batch_wait_ms

    def _send_all(self) -> None:
        """All that is pending goes out, and its lot is complete."""
        made, waited = self._regroup.flush()
        lot = self._ledger.current
        lot.behind += waited
        for record in made:
            self._send(record, lot)
        self._ledger.open()
        self._waiting_since_s = None
        self._hosts_before = self._watch.speaking()
        self._clear_out()

    def _send(self, made: Made, lot: Lot) -> None:
        value = written(made.record, self._limits.encoding)
        if not fits(value):
            parts = halved(made)
            for part in parts:
                self._send(part, lot)
            if not parts:
                self._refuse_made(made, value)
            return
        self.meters.made.labels(made.kind).inc()
        key = made.key.encode()
        self._outbox.send(self.topics.telemetry, key, value, kind=made.kind, lot=lot)

    def _refuse_made(self, made: Made, value: bytes) -> None:
        """What Kafka cannot hold once we have added who it is about."""
        place = (self.topics.telemetry, -1, -1, self._clock())
        problem = MalformedRecord("oversized", f"{len(value)} bytes of one {made.kind} alone")
        self._refuse(Incoming(*place, made.key.encode(), value), problem)

    def _clear_out(self) -> None:
        """Forget who is gone; nothing of theirs is pending just now."""
        self._inventory.forget_deleted(self._departed)
        self._departed.clear()
        self._regroup.forget_strangers()
        for subject in self._inventory.outlived(self._clock()):
            self._outbox.send(self.topics.inventory, subject.encode(), None)

    def _horizon_ns(self, now_ns: int) -> int:
        """Up to when we have read everything: now, or the oldest backlog's newest record."""
        horizon_ns = now_ns
        for partition in self.owned:
            part = TopicPartition(self.topics.samples, partition)
            _, end = self._consumer.get_watermark_offsets(part, cached=True)
            if self._consumer.position([part])[0].offset < end:
                horizon_ns = min(horizon_ns, self._heard_ns.get(partition, now_ns))
        return horizon_ns

    def _behind(self) -> int:
        """Frames of our partitions that we have not read."""
        parts = [TopicPartition(self.topics.samples, at) for at in self.owned]
        ends = (self._consumer.get_watermark_offsets(part, cached=True)[1] for part in parts)
        positions = self._consumer.position(parts) if parts else []
        behind = (
            end - at.offset for end, at in zip(ends, positions, strict=True) if at.offset >= 0
        )
        return sum(max(one, 0) for one in behind)

    def _tick(self, at_ns: int) -> None:
        self._send_all()
        value = encode(Tick(at_ns))
        places = [(self.topics.findings, ONLY_PARTITION)]
        places += [(self.topics.telemetry, at) for at in range(self._telemetry_partitions())]
        for topic, partition in places:
            self._outbox.send(topic, None, value, kind="tick", partition=partition)
        self.meters.made.labels("tick").inc(len(places))

    def _telemetry_partitions(self) -> int:
        return self._partitions[self.topics.telemetry]

    # ---- committing -------------------------------------------------------------------

    def _commit(self, *, wait: bool = False) -> None:
        now_s = time.monotonic()
        if not wait and now_s - self._committed_s < COMMIT_S:
            return
        self._committed_s = now_s
        offsets = [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in self._ledger.advance().items()
            if partition in self.owned
        ]
        if offsets or not self._ledger.waiting():
            self._advanced_s = now_s
        self.meters.commit_age_s.set(now_s - self._advanced_s)
        self.meters.lag.set(self._behind())
        if not offsets:
            return
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets)
        except KafkaException as problem:  # read again by whoever comes next: nothing is lost
            log.warning("uncommitted", problem=str(problem))

    def _settle(self) -> None:
        """Send and confirm all we can, then commit it."""
        self._send_all()
        if not self._outbox.flush(FLUSH_S):
            log.warning("unconfirmed", lots=self._ledger.waiting(), todo="they are made again")
        self._commit(wait=True)

    def _ease(self) -> None:
        """Read no more than Kafka takes: memory stays bounded while it is away."""
        if not self._paused and self._outbox.congested:
            self._paused = True
            self.meters.paused.inc()
            self._consumer.pause(self._consumer.assignment())
            log.warning(
                "reading-paused", undelivered_bytes=self._outbox.undelivered_bytes,
                todo="Kafka takes nothing: look after the brokers; reading goes on by itself",
            )  # fmt: skip  # one line a thought
        elif self._paused and self._outbox.relieved:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())
            log.info("reading-resumed")

    # ---- partitions come and go -------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = True
        self.owned |= {part.partition for part in partitions}
        self._ticker.on_duty = ONLY_PARTITION in self.owned
        now_ns = self._clock()
        for entry in self._inventory.hosts():
            if self._partition(entry.host) in self.owned:
                pool = entry.lineage.partition("/")[2] or "default"
                self._watch.expect(entry.scope, entry.host, pool, now_ns)
        if self._paused:
            consumer.pause(partitions)
        log.info("assigned", partitions=sorted(self.owned))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        self._on_lost(consumer, partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another has them already: what is pending goes out twice, which the judge drops."""
        self._joined, self._alone_since_s = False, time.monotonic()
        self.owned -= {part.partition for part in partitions}
        self._ticker.on_duty = ONLY_PARTITION in self.owned
        self._ledger.forget({(part.topic, part.partition) for part in partitions})
        foreign = {key for key in self._watch.hosts() if self._partition(key[1]) not in self.owned}
        self._watch.forget(foreign)
        log.info("revoked", partitions=sorted(part.partition for part in partitions))

    def _partition(self, host: str) -> int:
        return partition_of(host.encode(), self._partitions[self.topics.samples])

    # ---- starting ---------------------------------------------------------------------

    def _needed(self) -> dict[str, Operation]:
        topics = self.topics
        written = (topics.telemetry, topics.inventory, topics.findings, topics.rejected)
        return {topics.samples: "Read", **dict.fromkeys(written, "Write")}

    def _read_inventory(self) -> None:
        for found in self._registry.whole(self._stop.is_set):
            if isinstance(found, str):
                self._departed.add(found)
            else:
                self._departed.discard(found.subject)
                self._inventory.learn(found)
        self._inventory.forget_deleted(self._departed)
        self._departed.clear()
        log.info("inventory-read", containers=len(self._inventory.subjects))

    def _patiently(self, ask: Callable[[], T]) -> T:
        return patiently(ask, self._settings.kafka.bootstrap, self._stop)
