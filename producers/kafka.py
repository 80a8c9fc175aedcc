"""How this side's Kafka clients are set up."""

from __future__ import annotations

from typing import Final

from models.contract import PARTITIONER
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
