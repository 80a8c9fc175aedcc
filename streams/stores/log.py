"""Bounded reading of a topic: up to the end as it was when reading began.

Without a consumer group, so that a reader leaves no trace on the broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from models.contract import READER, partition_of
from models.errors import BrokerUnreachable
from models.settings import Kafka
from streams.bounds import bounds
from streams.permitted import heed

_ASK_S: Final = 15.0
_STILL_S: Final = 20.0
"""Without a record for this long the broker is taken for silent."""


class LogReader:
    """Raises BrokerUnreachable when Kafka does not answer, or has no such topic.

    ``by_time``: whether the broker can tell an offset by time. librdkafka's embedded one
    answers that there is none; topics are read from their beginning then.
    """

    def __init__(self, kafka: Kafka, *, by_time: bool = True) -> None:
        self._by_time = by_time
        self._config = {**kafka.librdkafka(), "group.id": READER,
                        "enable.auto.commit": False, "log_level": 0}  # fmt: skip  # one thought
        self._bootstrap = kafka.bootstrap

    def scan(self, topic: str, *, key: str = "", since_ms: int = 0) -> Iterator[Message]:
        """Every record up to the present end; with a key only its partition."""
        consumer = Consumer(self._config)
        try:
            ends = self._ends(consumer, topic, key)
            begins = [TopicPartition(topic, p, since_ms) for p in ends]
            if since_ms and begins and self._by_time:
                begins = consumer.offsets_for_times(begins, timeout=_ASK_S)
            else:
                begins = [TopicPartition(topic, p, low) for p, (low, _) in ends.items()]
            left = {
                one.partition: ends[one.partition][1] for one in begins
                if 0 <= one.offset < ends[one.partition][1]
            }  # fmt: skip  # one condition
            consumer.assign([one for one in begins if one.partition in left])
            yield from self._until(consumer, left)
        except KafkaException as problem:
            heed(problem.args[0], self._config, "Read", topic)
            raise BrokerUnreachable(self._silent(topic, problem.args[0].str())) from problem
        finally:
            consumer.close()

    def _ends(self, consumer: Consumer, topic: str, key: str) -> dict[int, tuple[int, int]]:
        found = consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
        heed(found.error, self._config, "Read", topic)
        if found.error is not None:
            why = f"{found.error.str()}; run `plimsoll topics create` first"
            raise BrokerUnreachable(f"topic {topic}: {why}")
        partitions = sorted(found.partitions)
        if key:
            partitions = [partition_of(key.encode(), len(partitions))]
        return {p: bounds(consumer, topic, p) for p in partitions}

    def _until(self, consumer: Consumer, left: dict[int, int]) -> Iterator[Message]:
        heard_s = time.monotonic()
        while left:
            for message in consumer.consume(500, 0.2):
                if message.error() is not None:
                    raise KafkaException(message.error())
                heard_s = time.monotonic()
                partition, offset = message.partition() or 0, message.offset() or 0
                if offset < left.get(partition, 0):
                    yield message
            for one in consumer.position(consumer.assignment()):
                if one.partition in left and one.offset >= left[one.partition]:
                    del left[one.partition]
            if left and time.monotonic() - heard_s > _STILL_S:
                raise BrokerUnreachable(self._silent("records", f"none came for {_STILL_S:.0f} s"))

    def _silent(self, what: str, why: str) -> str:
        return f"Kafka at {self._bootstrap}, {what}: {why}; is it up (plimsoll config show)?"
