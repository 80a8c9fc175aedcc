"""The responder's process: orders in from Kafka, outcomes out, everything else in its store.

A plain consumer of all partitions with offsets of its own: ten thousand hosts need no group
to agree on anything. Without Kafka it goes on: what is in force ends in time, and outcomes
wait in the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from models.contract import READER, Topics
from models.errors import StoreFailed
from models.health import Pulse
from streams.meters import Meters
from streams.permitted import explained
from streams.responders.course import Course
from streams.responders.outbox import Outbox
from streams.responders.reception import Reception, Refusal, letter_of
from streams.responders.store import Case, ResponderStore, Step
from streams.trouble import Trouble

Clock = Callable[[], int]

POLL_S: Final = 0.1
STANDS_S: Final = 60.0
"""A round takes a moment; one that takes longer than this is stuck."""
LOOK_AROUND_S: Final = 60.0
"""How often the topic is asked for new partitions."""
ASK_S: Final = 1.0
"""How long Kafka may take to name partitions; what is due waits no longer than this."""
AGAIN_S: Final = 5.0
"""Pause before an end that did not succeed is tried again, or a position is noted."""
HANDS: Final = 8
"""Orders carried out at the same time; more wait their turn."""
REMEMBER_NS: Final = 30 * 86_400 * 10**9
"""Ended orders are forgotten after this; their deadline has long refused any replay."""

log = structlog.get_logger(__name__)


class Runner:
    """Runs until ``stopping`` is set; a second run goes on where the first one ended.

    Raises: StoreFailed. Nothing may be done that cannot be written, so whoever supervises
    the process starts it again, until that is mended.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        topics: Topics,
        *,
        reception: Reception,
        course: Course,
        store: ResponderStore,
        meters: Meters,
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        self._topics = topics
        self._reception = reception
        self._course = course
        self._store = store
        self._meters = meters
        self._clock = clock
        self._stopping = stopping
        self._orders = _Orders(kafka, topics.orders, store)
        self._outbox = Outbox(kafka, topics, store, meters)
        self._running: dict[str, Future[None]] = {}
        self._not_before: dict[str, float] = {}
        self._broken: StoreFailed | None = None
        self.pulse = Pulse(time.monotonic, STANDS_S)

    def run(self) -> None:
        self._store.forget(self._clock() - REMEMBER_NS)
        with ThreadPoolExecutor(HANDS, "respond") as hands, ThreadPoolExecutor(1, "slow") as slow:
            self._hands, self._slow = hands, slow
            try:
                self._resume()
                while not self._stopping.is_set():
                    self._once()
            finally:
                self._stopping.set()  # hands that wait for a silent engine let go
        if self._broken is not None:
            raise self._broken
        self._outbox.close()
        self._orders.close()

    def _once(self) -> None:
        message = self._orders.next(POLL_S)
        if message is not None:
            self._take(message)
        self._end_due()
        self._outbox.send()
        self._meters.owed.set(self._outbox.under_way)
        self._tidy()
        self._meters.queued.set(len(self._running))
        self.pulse.beat(self._orders.waits)

    def _resume(self) -> None:
        """A crash left these; nothing new is done before they are under way."""
        for case in self._store.unfinished():
            log.info("order resumed", order=case.uid, step=case.step, subject=case.order.subject)
            self._hand(case.uid, self._course.run)

    # ---- orders ---------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        place = _place(message)
        if not self._reception.addressed(_key(message)):
            self._meters.records.labels("order-elsewhere").inc()
            self._orders.passed(*place[1:])
            return
        found = self._reception.received(message.value(), self._store)
        if isinstance(found, Refusal):
            self._refuse(place, found, message)
            return
        order = found.order
        self._meters.records.labels("order").inc()
        self._store.receive(place, Case(order, found.sha256, self._clock()))
        log.info("order received", order=order.uid, action=order.action, subject=order.subject)
        self._hand(order.uid, self._course.run)

    def _refuse(self, place: tuple[str, int, int], refusal: Refusal, message: Message) -> None:
        topic, part, following = place
        order = refusal.order
        log.warning(
            "order refused", reason=refusal.why, why=refusal.detail,
            record=f"{topic}[{part}]@{following - 1}", payload_sha256=refusal.sha256,
            order=order.uid if order else "", subject=order.subject if order else "",
        )  # fmt: skip  # pairs in lines
        self._meters.rejected.labels(refusal.why).inc()
        outcome = refusal.outcome(self._clock())
        came_ns = message.timestamp()[1] * 10**6
        letter = letter_of(refusal, place, _key(message), message.value(), came_ns)
        self._store.receive(place, tell=() if outcome is None else (outcome,), letter=letter)

    def _end_due(self) -> None:
        now = time.monotonic()
        for case in self._store.due(self._clock()):
            if not self._busy(case.uid) and self._not_before.get(case.uid, 0.0) <= now:
                self._not_before[case.uid] = now + AGAIN_S
                self._hand(case.uid, self._course.end)

    def _hand(self, uid: str, work: Callable[[str], Case | None]) -> None:
        if not self._busy(uid):
            self._running[uid] = self._hands.submit(self._work, uid, work)

    def _busy(self, uid: str) -> bool:
        return uid in self._running and not self._running[uid].done()

    def _tidy(self) -> None:
        self._running = {uid: work for uid, work in self._running.items() if not work.done()}
        late = time.monotonic() - AGAIN_S
        self._not_before = {uid: at for uid, at in self._not_before.items() if at > late}

    def _work(self, uid: str, work: Callable[[str], Case | None]) -> None:
        try:
            case = work(uid)
            self._outbox.send()
            if case is not None and case.step is Step.TOLD:
                self._slow.submit(self._follow_up, uid)
        except StoreFailed as broken:
            self._stop_for(broken)
        except Exception:  # a fault of ours: said, and the case stays as it is
            log.exception("response interrupted", order=uid, todo="restart once it is mended")

    def _follow_up(self, uid: str) -> None:
        try:
            if not self._stopping.is_set():
                self._course.follow_up(uid)
        except StoreFailed as broken:
            self._stop_for(broken)
        except Exception:  # the isolation stands; only this evidence is late
            log.exception("slow evidence interrupted", order=uid, todo="restart to try again")

    def _stop_for(self, broken: StoreFailed) -> None:
        self._broken = broken
        self._stopping.set()


class _Orders:
    """All partitions of the orders topic, from where the store says."""

    def __init__(self, kafka: Mapping[str, str], topic: str, store: ResponderStore) -> None:
        self._kafka = kafka
        self._topic = topic
        self._store = store
        self._consumer = Consumer(
            {
                **kafka,
                "group.id": READER,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "error_cb": Trouble(),
            }
        )
        self._assigned: set[int] = set()
        self._reachable = True
        self._look_at = 0.0
        self._passed: dict[int, int] = {}
        self._note_at = time.monotonic() + AGAIN_S

    @property
    def waits(self) -> str:
        """Why no orders can come just now; empty when they can."""
        if not self._assigned:
            return "the orders topic is not there, or Kafka does not answer"
        return "" if self._reachable else "Kafka does not answer"

    def next(self, wait_s: float) -> Message | None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + (LOOK_AROUND_S if self._assign() else ASK_S)
        if now >= self._note_at:
            self._note()
        message = self._consumer.poll(wait_s)
        if message is None or message.error() is None:
            return message
        why = explained(message.error(), self._kafka, "Read", self._topic)
        log.warning("orders cannot be read", why=why, topic=self._topic)
        return None

    def passed(self, part: int, following: int) -> None:
        """Others' orders: noted now and then, for passing them again costs nothing."""
        self._passed[part] = following

    def close(self) -> None:
        self._note()
        self._consumer.close()

    def _assign(self) -> bool:
        """Take the partitions that are new; whether the topic could be asked."""
        try:
            found = self._consumer.list_topics(self._topic, ASK_S).topics[self._topic]
        except KafkaException as problem:
            self._reachable = False
            log.warning(
                "kafka unreachable", why=str(problem), topic=self._topic,
                todo="check the brokers; what is in force still ends in time",
            )  # fmt: skip  # pairs in lines
            return False
        self._reachable = True
        if found.error is not None:
            why = explained(found.error, self._kafka, "Read", self._topic)
            log.warning("no orders topic yet", why=why, topic=self._topic)
            return False
        new = sorted(set(found.partitions) - self._assigned)
        if new:
            known = self._store.offsets(self._topic)
            starts = [TopicPartition(self._topic, p, known.get(p, _BEGINNING)) for p in new]
            self._consumer.incremental_assign(starts)
            self._assigned.update(new)
            log.info("orders followed", topic=self._topic, partitions=len(self._assigned))
        return True

    def _note(self) -> None:
        self._note_at = time.monotonic() + AGAIN_S
        known = self._store.offsets(self._topic)
        for part, following in self._passed.items():
            if following > known.get(part, 0):
                self._store.receive((self._topic, part, following))
        self._passed.clear()


_BEGINNING: Final = -2  # OFFSET_BEGINNING, which confluent_kafka does not type


def _place(message: Message) -> tuple[str, int, int]:
    """Topic, partition and the offset that follows."""
    topic, part, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert part is not None
    assert offset is not None
    return topic, part, offset + 1


def _key(message: Message) -> bytes | None:
    key: Any = message.key()
    return key.encode() if isinstance(key, str) else key
