"""A consumed message, as the rest of gather sees it."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import Message


@dataclass(frozen=True, slots=True)
class Incoming:
    """One record of the log; ``arrived_ns`` is the log's time of it."""

    topic: str
    partition: int
    offset: int
    arrived_ns: int
    key: bytes | None
    value: bytes | None

    @classmethod
    def of(cls, message: Message[bytes, bytes]) -> Incoming:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None, "only errors have none"
        assert partition is not None, "only errors have none"
        assert offset is not None, "only errors have none"
        arrived_ns = message.timestamp()[1] * 1_000_000
        return cls(topic, partition, offset, arrived_ns, message.key(), message.value())

    @property
    def place(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"
