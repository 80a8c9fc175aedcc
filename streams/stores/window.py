"""Windows of a topic, read back: bounded, without a consumer group, partition by partition.

One partition after the other, so that the same window gives the same records in the same
order, however the broker answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from models.admission import Opened, admitted, nobody
from models.contract import KIND_HEADER, READER
from models.errors import BrokerUnreachable, MalformedRecord
from models.replay import Recorded
from streams.bounds import bounds
from streams.permitted import heed

_ASK_S: Final = 15.0
_STILL_S: Final = 20.0
"""Without a record for this long the broker is taken for silent."""
_POLL_S: Final = 0.2
_AT_ONCE: Final = 1000
_MS: Final = 10**6


class TopicLog:
    """One topic as it is now. Raises BrokerUnreachable when Kafka does not answer."""

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        # What retention removes while we read is passed over, not the rest with it.
        self._config = {**kafka, "group.id": READER, "enable.auto.commit": False,
                        "auto.offset.reset": "earliest", "log_level": 0}  # fmt: skip  # one thought
        self._topic = topic
        self.offsets: dict[str, tuple[int, ...]] = {}
        """By partition, first and end of what was read so far."""

    def messages(
        self, from_ns: int = 0, until_ns: int = 0, partitions: Sequence[int] = ()
    ) -> Iterator[tuple[Message, int, float]]:
        """What arrived in the window (until 0: up to the present end), how many partitions
        the topic has, and the share of the reading that is done.
        """
        with _reader(self._config, self._topic) as consumer:
            count = self._partitions(consumer)
            spans = self._bounds(consumer, partitions or range(count), from_ns, until_ns)
            for place, (first, end) in spans.items():
                before = self.offsets.get(str(place), (first, end))
                self.offsets[str(place)] = (min(before[0], first), max(before[1], end))
            total, done = max(sum(end - first for first, end in spans.values()), 1), 0
            for place, (first, end) in spans.items():
                for message in self._one(consumer, place, first, end):
                    seen = done + (message.offset() or 0) + 1 - first
                    yield message, count, seen / total
                done += end - first

    def span(self) -> tuple[int, int]:
        """Arrival of the oldest record and just past the newest, ns; (0, 0): it is empty."""
        found: list[int] = []
        with _reader(self._config, self._topic) as consumer:
            count = self._partitions(consumer)
            for place, (first, end) in self._bounds(consumer, range(count), 0, 0).items():
                for at in {first, end - 1} if first < end else ():
                    message = next(self._one(consumer, place, at, at + 1), None)
                    found += [message.timestamp()[1] * _MS] if message is not None else []
        return (min(found), max(found) + _MS) if found else (0, 0)

    def partitions(self) -> int:
        """How many the topic has."""
        with _reader(self._config, self._topic) as consumer:
            return self._partitions(consumer)

    def _partitions(self, consumer: Consumer) -> int:
        found = consumer.list_topics(self._topic, timeout=_ASK_S).topics[self._topic]
        heed(found.error, self._config, "Read", self._topic)
        if found.error is not None:
            why = f"{found.error.str()}; run `plimsoll topics create` first"
            raise BrokerUnreachable(f"topic {self._topic}: {why}")
        return len(found.partitions)

    def _bounds(
        self, consumer: Consumer, partitions: Sequence[int], from_ns: int, until_ns: int
    ) -> dict[int, tuple[int, int]]:
        found = {}
        for place in partitions:
            low, end = bounds(consumer, self._topic, place)
            first = self._offset_at(consumer, place, from_ns, low, end) if from_ns else low
            last = self._offset_at(consumer, place, until_ns, low, end) if until_ns else end
            found[place] = (first, max(first, last))
        return found

    def _offset_at(self, consumer: Consumer, place: int, at_ns: int, low: int, end: int) -> int:
        """The first record that arrived at that time or later; the end when none did."""
        asked = TopicPartition(self._topic, place, -(-at_ns // _MS))
        (found,) = consumer.offsets_for_times([asked], timeout=_ASK_S)
        offset: int = found.offset
        return end if offset < 0 or offset == OFFSET_END else min(max(offset, low), end)

    def _one(self, consumer: Consumer, place: int, first: int, end: int) -> Iterator[Message]:
        if first >= end:
            return
        consumer.assign([TopicPartition(self._topic, place, first)])
        heard_s = time.monotonic()
        while True:
            for message in consumer.consume(_AT_ONCE, _POLL_S):
                if message.error() is not None:
                    raise KafkaException(message.error())
                heard_s = time.monotonic()
                if (message.offset() or 0) < end:
                    yield message
            # The position tells more than the last record: a compacted topic has holes.
            (now,) = consumer.position([TopicPartition(self._topic, place)])
            if now.offset >= end:
                return
            if time.monotonic() - heard_s > _STILL_S:
                raise BrokerUnreachable(f"topic {self._topic}: nothing came for {_STILL_S:.0f} s")


class TelemetryLog(TopicLog):
    """The telemetry topic as a source of records for training and replay; ``opened`` knows
    whose lessons count.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str,
        progress: Callable[[float], None] = lambda _share: None, opened: Opened = nobody,
    ) -> None:  # fmt: skip  # two lines read better than five
        super().__init__(kafka, topic)
        self._progress, self._opened = progress, opened
        self.refused = 0
        """Records that the judge keeps as dead letters, and that we pass over."""

    def records(
        self, from_ns: int, until_ns: int, partitions: Sequence[int] = ()
    ) -> Iterator[Recorded]:
        for message, count, share in self.messages(from_ns, until_ns, partitions):
            self._progress(share)
            place, arrived_ns = message.partition() or 0, message.timestamp()[1] * _MS
            try:
                record = admitted(
                    kind_of(message), message.key(), message.value(), partition=place,
                    partitions=count, arrived_ns=arrived_ns, opened=self._opened,
                )  # fmt: skip  # one line a thought
            except MalformedRecord:
                self.refused += 1
                continue
            yield Recorded(place, message.offset() or 0, record, arrived_ns, share)


def kind_of(message: Message) -> str:
    """What the header names; empty when it names nothing."""
    headers: Any = dict(message.headers() or ())
    return (headers.get(KIND_HEADER) or b"").decode(errors="replace")


@contextmanager
def _reader(config: Mapping[str, Any], topic: str) -> Iterator[Consumer]:
    """A consumer that is closed in the end; Kafka's own errors as ours, with the topic."""
    consumer = Consumer(dict(config))
    try:
        yield consumer
    except KafkaException as problem:
        heed(problem.args[0], config, "Read", topic)
        raise BrokerUnreachable(
            f"Kafka, topic {topic}: {problem.args[0].str()}; is it up (plimsoll config show)?"
        ) from problem
    finally:
        consumer.close()
