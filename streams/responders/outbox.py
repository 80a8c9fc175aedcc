"""Outcomes and dead letters on their way from the store to the broker.

Each is gone from the store once the broker has it. One that the broker does not take waits
there, and holds up nothing of the other kind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.contract import ONLY_PARTITION, PARTITIONER, Topics
from models.records.codec import decode
from models.records.order import Outcome
from models.records.rejected import DeadLetter
from streams.meters import Meters
from streams.permitted import explained
from streams.responders.store import ResponderStore
from streams.trouble import Trouble

AGAIN_S: Final = 5.0
"""Pause before what the broker did not take is handed over again."""

log = structlog.get_logger(__name__)


class Outbox:
    """May be used from any thread; never waits for the broker."""

    def __init__(
        self, kafka: Mapping[str, str], topics: Topics, store: ResponderStore, meters: Meters
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._store = store
        self._meters = meters
        self._lock = threading.Lock()
        self._outcomes, self._letters = _Queue(), _Queue()
        self._producer = self._new_producer()

    @property
    def under_way(self) -> int:
        """What was handed over and the broker has not confirmed."""
        return len(self._outcomes.under_way) + len(self._letters.under_way)

    def send(self) -> None:
        """Hand over what is new; never waits. Delivery is noted whenever this is called."""
        with self._lock:
            try:
                if self._outcomes.open:
                    for number, body in self._outcomes.new(self._store.untold()):
                        self._outcome(number, body)
                if self._letters.open:
                    for number, body in self._letters.new(self._store.letters()):
                        self._letter(number, body)
                self._producer.poll(0)
            except KafkaException as problem:
                self._begin_anew(problem)

    def close(self) -> None:
        self.send()
        self._producer.flush(5.0)

    def _new_producer(self) -> Producer:
        return Producer(
            {
                **self._kafka,
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "linger.ms": 0,
                "message.timeout.ms": 30_000,
                "error_cb": Trouble(),
            }
        )

    def _begin_anew(self, problem: KafkaException) -> None:
        """The client is of no use any more; what it had is in the store."""
        why = explained(problem.args[0], self._kafka, "Write", self._topics.outcomes)
        log.warning("outcomes wait in the store", why=why, topic=self._topics.outcomes)
        self._outcomes.give_up()
        self._letters.give_up()
        self._producer = self._new_producer()

    def _outcome(self, number: int, body: bytes) -> None:
        outcome = decode(Outcome, body)

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._outcomes.under_way.discard(number)
                self._store.told(number)
                self._count(outcome)
            else:
                self._outcomes.waits(number)
                why = explained(error, self._kafka, "Write", self._topics.outcomes)
                log.warning("outcome waits in the store", order=outcome.order, why=why)

        self._produce(
            self._outcomes, number, delivered, topic=self._topics.outcomes, value=body,
            key=outcome.incident.encode(), partition=ONLY_PARTITION,
            timestamp=outcome.at_ns // 10**6,
        )  # fmt: skip  # by subject

    def _letter(self, number: int, body: bytes) -> None:
        letter = decode(DeadLetter, body)

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._letters.under_way.discard(number)
                self._store.posted(number)
            else:
                self._letters.waits(number)
                source = f"{letter.topic}[{letter.partition}]@{letter.offset}"
                why = explained(error, self._kafka, "Write", self._topics.rejected)
                log.warning("dead letter waits in the store", source=source, why=why)

        self._produce(
            self._letters, number, delivered, topic=self._topics.rejected, value=body,
            key=letter.key,
        )  # fmt: skip  # by subject

    def _produce(
        self, queue: _Queue, number: int, delivered: Callable[..., None], **record: Any
    ) -> None:
        try:
            self._producer.produce(**record, on_delivery=delivered)
        except BufferError:
            return  # full: the next call hands it over
        queue.under_way.add(number)

    def _count(self, outcome: Outcome) -> None:
        self._meters.outcomes.labels(outcome.action, outcome.status).inc()
        if outcome.verified is False:
            self._meters.unverified.labels(outcome.action).inc()
        elif outcome.verified and not outcome.uid.endswith("/evidence"):
            self._meters.answered_s.observe(outcome.took_s)


class _Queue:
    """Records of one kind that were handed over, by their numbers in the store."""

    def __init__(self) -> None:
        self.under_way: set[int] = set()
        self._not_before_s = 0.0

    @property
    def open(self) -> bool:
        """Whether the broker may be tried, or tried again."""
        return time.monotonic() >= self._not_before_s

    def new(self, stored: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        return [(number, body) for number, body in stored if number not in self.under_way]

    def waits(self, number: int) -> None:
        """The broker did not take that one."""
        self.under_way.discard(number)
        self._not_before_s = time.monotonic() + AGAIN_S

    def give_up(self) -> None:
        self.under_way.clear()
        self._not_before_s = time.monotonic() + AGAIN_S
