"""A plain subscriber of the alerts topic: no group, no trace, as many as there are readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from models.contract import READER
from models.errors import BrokerUnreachable, MalformedRecord
from models.settings import Kafka
from streams.alerts import unwrapped
from streams.bounds import bounds
from streams.permitted import heed

log = structlog.get_logger(__name__)

_ASK_S: Final = 15.0


def follow(
    kafka: Kafka, topic: str, *, from_beginning: bool = False, until_end: bool = False
) -> Iterator[dict[str, Any]]:
    """Every alert as it comes; with ``until_end`` up to where the topic ends now. What the
    topic holds already comes in the order of time, whatever partition it lies in.

    Raises: BrokerUnreachable, when Kafka does not answer at the start.
    """
    consumer = Consumer(
        {**kafka.librdkafka(), "group.id": READER, "enable.auto.commit": False,
         "log_level": 0}
    )  # fmt: skip  # one thought
    try:
        ends = _ends(consumer, kafka, topic)
        left = {p for p, (low, high) in ends.items() if from_beginning and high > low}
        consumer.assign([
            TopicPartition(topic, p, OFFSET_BEGINNING if from_beginning else high)
            for p, (_, high) in ends.items()
        ])  # fmt: skip  # one thought
        held: list[dict[str, Any]] = []
        while left:
            held += _alerts(consumer, kafka, topic)
            for one in consumer.position(consumer.assignment()):
                if one.offset >= ends[one.partition][1]:
                    left.discard(one.partition)
        yield from sorted(held, key=lambda body: int(body["time"]))
        while not until_end:
            yield from _alerts(consumer, kafka, topic)
    finally:
        consumer.close()


def _alerts(consumer: Consumer, kafka: Kafka, topic: str) -> Iterator[dict[str, Any]]:
    """What came within a moment."""
    for message in consumer.consume(100, 0.2):
        problem = message.error()
        heed(problem, kafka.librdkafka(), "Read", topic)
        if problem is not None:
            log.warning("the broker says", why=problem.str(), topic=topic)
            continue
        try:
            yield unwrapped(message.key(), message.value(), message.headers() or [])
        except MalformedRecord as fault:
            log.warning("not an alert", offset=message.offset(), why=str(fault))


def _ends(consumer: Consumer, kafka: Kafka, topic: str) -> dict[int, tuple[int, int]]:
    try:
        found = consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
        heed(found.error, kafka.librdkafka(), "Read", topic)
        if found.error is not None:
            why = f"{found.error.str()}; run `plimsoll topics create` first"
            raise BrokerUnreachable(f"topic {topic}: {why}")
        return {p: bounds(consumer, topic, p) for p in found.partitions}
    except KafkaException as problem:
        raise BrokerUnreachable(
            f"Kafka at {kafka.bootstrap}: {problem.args[0].str()}; is it up (plimsoll config show)?"
        ) from problem
