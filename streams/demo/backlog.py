"""How far the demo's readers are behind.

The embedded broker keeps 5 MB a partition and drops what is older, read or not: whoever
writes has to wait for the slowest reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from streams.bounds import bounds

_ASK_S: Final = 10.0


class Backlog:
    """Of one topic, as one consumer group has committed it."""

    def __init__(self, kafka: Mapping[str, Any], group: str, topic: str) -> None:
        self._consumer = Consumer({**kafka, "group.id": group, "enable.auto.commit": False})
        found = self._consumer.list_topics(topic, timeout=_ASK_S).topics[topic].partitions
        self._parts = [TopicPartition(topic, partition) for partition in found]

    def close(self) -> None:
        self._consumer.close()

    def records(self) -> int:
        """Unread records of the partition that has most of them."""
        read = self._consumer.committed(self._parts, timeout=_ASK_S)
        unread: int = max(self._end(part) - max(part.offset, 0) for part in read)
        return unread

    def _end(self, part: TopicPartition) -> int:
        return bounds(self._consumer, part.topic, part.partition)[1]
