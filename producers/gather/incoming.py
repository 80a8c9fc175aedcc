"""A consumed message, as the rest of gather sees it."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import Message

from models.contract import KIND_HEADER, PROBE


@dataclass(frozen=True, slots=True)
class Incoming:
    """One record of the log; ``arrived_ns`` is the log's time of it."""

    topic: str
    partition: int
    offset: int
    arrived_ns: int
    key: bytes | None
    value: bytes | None
    probe: bool = False
    """Written to learn how the log dates it; it says nothing."""

    @classmethod
    def of(cls, message: Message[bytes, bytes]) -> Incoming:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None, "only errors have none"
        assert partition is not None, "only errors have none"
        assert offset is not None, "only errors have none"
        arrived_ns = message.timestamp()[1] * 1_000_000
        value = message.value()
        probe = value is None and (KIND_HEADER, PROBE.encode()) in (message.headers() or ())
        return cls(topic, partition, offset, arrived_ns, message.key(), value, probe)

    @property
    def place(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"
