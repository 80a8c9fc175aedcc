"""The log as the archive reads it: every partition from where the archive ends, no group.

What Kafka no longer has, or hands over in another order than it did, is told as a gap; it is
never passed over in silence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from models.contract import READER
from models.errors import BrokerUnreachable, ConfigurationError
from models.settings import Kafka
from streams.archive.layout import Place
from streams.archive.tables import Entry
from streams.bounds import bounds
from streams.permitted import heed
from streams.topics import COMPACTED
from streams.trouble import Trouble

AT_ONCE: Final = 500
LOOK_AROUND_S: Final = 60.0
"""How often the topics are asked for new partitions."""
ASK_S: Final = 10.0
_NOT_THERE: Final = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)  # noqa: SLF001  # spelt so by librdkafka
AGAIN_S: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Missing:
    """Offsets from ``first`` to the record that came instead are not in the log."""

    first: int
    because: str


class LogReader:
    """Records of ``roles``' topics, from ``reached`` on, in order within each partition.

    ``roles`` names each topic's role. Kafka being away raises nothing once reading has
    begun; that it does not let us read raises NotPermitted.
    """

    def __init__(
        self, kafka: Kafka, roles: Mapping[str, str], reached: Mapping[Place, int]
    ) -> None:
        self._kafka, self._roles = kafka, roles
        self._next = dict(reached)
        self._astray: set[Place] = set()
        self._lost: dict[Place, str] = {}
        self._assigned: set[Place] = set()
        self._look_at_s = 0.0
        self._reachable = True
        self._consumer = Consumer(
            {
                **kafka.librdkafka(),
                "client.id": "plimsoll-archive",
                "group.id": READER,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # ours to decide, and to tell
                "queued.max.messages.kbytes": 16_384,
                "log_level": 2,
                "error_cb": Trouble(),
            }
        )

    def begin(self, stop: threading.Event) -> str:
        """Find the topics, however long Kafka takes, and take their partitions; the cluster.

        Raises: ConfigurationError when one is missing, BrokerUnreachable when stopped first.
        """
        found = self._found(stop)
        absent = [topic for topic in self._roles if found.topics.get(topic) is None]
        if absent:
            names = ", ".join(absent)
            raise ConfigurationError(
                f"topic {names} does not exist: create all with `plimsoll topics create`"
            )
        self._assign(found)
        return str(found.cluster_id or "")

    def take(self, wait_s: float) -> Iterator[tuple[Entry, Missing | None]]:
        """What has come, each record with the gap before it, if there is one."""
        self._look_around()
        self._astray = {place for place in self._astray if not self._went_on(*place)}
        for message in self._consumer.consume(AT_ONCE, wait_s):
            problem = message.error()
            if problem is None:
                entry = self._entry(message)
                yield entry, self._missing(entry)
            else:
                self._unread(message, problem)

    def lag(self) -> dict[str, int]:
        """Records of each topic that are in the log and were not taken yet, as far as known."""
        behind = dict.fromkeys(self._roles, 0)
        for topic, partition in self._assigned:
            part = TopicPartition(topic, partition)
            low, high = self._consumer.get_watermark_offsets(part, cached=True)
            behind[topic] += max(high - self._next.get((topic, partition), max(low, 0)), 0)
        return behind

    @property
    def waits(self) -> str:
        """Why nothing can be read just now; empty when it can."""
        return "" if self._reachable else "Kafka does not answer"

    def close(self) -> None:
        self._consumer.close()

    # ---- records ---------------------------------------------------------------------------

    def _entry(self, message: Message) -> Entry:
        topic, partition, offset = _place(message)
        headers: Any = message.headers() or ()
        key: Any = message.key()
        return Entry(
            self._roles[topic], topic, partition, offset, max(message.timestamp()[1], 0),
            key, message.value(), {name: body or b"" for name, body in headers},
        )  # fmt: skip  # as the fields lie

    def _missing(self, entry: Entry) -> Missing | None:
        """What should have come before this record. Compaction leaves holes on purpose."""
        place = (entry.topic, entry.partition)
        due, self._next[place] = self._next.get(place), entry.offset + 1
        because = self._lost.pop(place, "")
        if due is None or entry.offset == due or (entry.role in COMPACTED and not because):
            return None
        log.error(
            "records are missing from the archive", topic=entry.topic, partition=entry.partition,
            first=due, next=entry.offset, why=because or "Kafka did not hand them over",
            todo="they stand in the table gaps; see that the archive keeps up with the retention",
        )  # fmt: skip  # by subject
        return Missing(due, because or "skipped")

    def _unread(self, message: Message, problem: KafkaError) -> None:
        code = problem.code()
        if code in _NOT_THERE:
            self._astray.add(_place(message)[:2])
            return
        heed(problem, self._kafka.librdkafka(), "Read", message.topic() or "")
        log.warning("records cannot be read", topic=message.topic(), why=problem.str())

    def _went_on(self, topic: str, partition: int) -> bool:
        """The log does not have the offset that we are at: retention went past it, or the topic
        was made anew. Read on from what it has; False while Kafka does not say what that is.
        """
        try:
            low, high = bounds(self._consumer, topic, partition)
            self._consumer.incremental_unassign([TopicPartition(topic, partition)])
            self._consumer.incremental_assign([TopicPartition(topic, partition, low)])
        except KafkaException as problem:
            log.warning("kafka unreachable", why=str(problem), todo="check the brokers")
            return False
        ours = self._next.get((topic, partition), 0)
        self._lost[topic, partition] = "retention" if ours <= low else "the topic was made anew"
        log.warning(
            "the log has not what comes next", topic=topic, partition=partition, next=ours,
            begins=low, ends=high, todo="reading goes on where it begins",
        )  # fmt: skip  # by subject
        return True

    # ---- partitions ------------------------------------------------------------------------

    def _look_around(self) -> None:
        if time.monotonic() < self._look_at_s:
            return
        try:
            self._assign(self._consumer.list_topics(timeout=ASK_S))
            self._reachable = True
        except KafkaException as problem:
            self._reachable = False
            log.warning("kafka unreachable", why=str(problem), todo="check the brokers")
            self._look_at_s = time.monotonic() + AGAIN_S

    def _assign(self, found: Any) -> None:
        self._look_at_s = time.monotonic() + LOOK_AROUND_S
        there = {
            (topic, partition)
            for topic in self._roles if topic in found.topics
            for partition in found.topics[topic].partitions
        }  # fmt: skip  # one thought
        new = sorted(there - self._assigned)
        if new:
            self._consumer.incremental_assign(
                [TopicPartition(*place, self._next.get(place, OFFSET_BEGINNING)) for place in new]
            )
            self._assigned |= set(new)
            log.info("topics followed", partitions=len(self._assigned), new=len(new))

    def _found(self, stop: threading.Event) -> Any:
        while True:
            try:
                return self._consumer.list_topics(timeout=ASK_S)
            except KafkaException as problem:
                log.warning(
                    "kafka unreachable", bootstrap=self._kafka.bootstrap, why=str(problem),
                    todo="is it running and reachable from here? asked again until it answers",
                )  # fmt: skip  # by subject
                if stop.wait(AGAIN_S):
                    raise BrokerUnreachable(f"{self._kafka.bootstrap}: {problem}") from problem


def _place(message: Message) -> tuple[str, int, int]:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return topic, partition, offset
