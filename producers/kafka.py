"""How this side's Kafka clients are set up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException

from models.contract import PARTITIONER, READER
from models.errors import ConfigurationError
from models.permissions import Operation, refused
from models.settings import Kafka

ClientSettings = dict[str, str | int | float | bool]

MOST_MESSAGE_BYTES: Final = 1_000_000
"""Kafka's own default limit; nothing we send is larger."""


def producer_settings(kafka: Kafka, client: str) -> ClientSettings:
    """Durable, in order, each key where Java's and Faust's clients look for it."""
    return {
        **kafka.librdkafka(),
        "client.id": f"plimsoll-{client}",
        "partitioner": PARTITIONER,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "message.timeout.ms": 0,  # Kafka may stay away for long: we wait, nothing expires
        "message.max.bytes": MOST_MESSAGE_BYTES,
        "log_level": 2,  # what goes wrong reaches error_cb, once
    }


def consumer_settings(kafka: Kafka, client: str, group: str) -> ClientSettings:
    """Offsets are committed by hand; what is fetched ahead is bounded."""
    return {
        **kafka.librdkafka(),
        "client.id": f"plimsoll-{client}",
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6_000,  # heartbeats are librdkafka's own thread: never late
        "queued.max.messages.kbytes": 16_384,
        "fetch.wait.max.ms": 50,
        "log_level": 2,
    }


def partitions_of(kafka: Kafka, needed: Mapping[str, Operation]) -> dict[str, int]:
    """How many partitions each of these topics has.

    Raises: ConfigurationError when one is missing, NotPermitted when we may not use one,
    KafkaException when Kafka does not answer.
    """
    # By a consumer, and by name: a producer may create a topic by asking for it, and asked for
    # all, a broker leaves out what we may not see.
    consumer = Consumer(consumer_settings(kafka, "metadata", READER))
    counts = {}
    try:
        for topic, operation in needed.items():
            found = consumer.list_topics(topic, timeout=5.0).topics[topic]
            if found.error is not None:
                heed(found.error, kafka, operation, topic)
                if found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise KafkaException(found.error)
                raise ConfigurationError(absent(topic))
            counts[topic] = len(found.partitions)
    finally:
        consumer.close()
    return counts


def heed(
    problem: KafkaError, kafka: Kafka, operation: Operation, topic: str, group: str = READER
) -> None:
    """Raises: NotPermitted, where the error tells that we may not do that."""
    refusal = refused(problem.code(), kafka.principal, operation, topic, group)
    if refusal is not None:
        raise refusal


def absent(topic: str) -> str:
    """What to say of a topic that is not there."""
    return f"topic {topic} does not exist: create all with `plimsoll topics create`"
