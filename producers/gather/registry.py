"""The inventory topic, read whole and then followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from models.contract import READER
from models.errors import MalformedRecord
from models.records import decode
from models.records.inventory import InventoryEntry
from producers.gather.incoming import Incoming
from producers.kafka import consumer_settings, heed
from producers.settings import Settings

AT_ONCE: Final = 1_000
log = structlog.get_logger("gather")

Refuse = Callable[[Incoming, MalformedRecord], None]


class Registry:
    """A plain consumer of every partition of the inventory topic, with no group."""

    def __init__(self, settings: Settings, topic: str, partitions: int, refuse: Refuse) -> None:
        self._refuse, self._kafka = refuse, settings.kafka
        self._consumer = Consumer(consumer_settings(settings.kafka, "gather-inventory", READER))
        self._parts = [TopicPartition(topic, at, OFFSET_BEGINNING) for at in range(partitions)]
        self._consumer.assign(self._parts)

    def whole(self, stopped: Callable[[], bool]) -> Iterator[InventoryEntry | str]:
        """All that the topic holds by now; see :meth:`news`."""
        ends = {
            part.partition: self._consumer.get_watermark_offsets(part, timeout=10)
            for part in self._parts
        }
        behind = {at for at, (low, high) in ends.items() if high > low}
        while behind and not stopped():
            yield from self.news(0.2)
            for now in self._consumer.position(self._parts):
                if now.offset >= ends[now.partition][1]:
                    behind.discard(now.partition)

    def news(self, seconds: float = 0.0) -> Iterator[InventoryEntry | str]:
        """What was written since: entries, and the subjects of deleted ones."""
        for message in self._consumer.consume(AT_ONCE, seconds):
            if (problem := message.error()) is not None:
                heed(problem, self._kafka, "Read", message.topic() or "")
                log.warning("inventory-unread", problem=problem.str())
            else:
                yield from self._read(Incoming.of(message))

    def _read(self, message: Incoming) -> Iterator[InventoryEntry | str]:
        if message.value is None:
            yield (message.key or b"").decode(errors="replace")
            return
        try:
            yield decode(InventoryEntry, message.value)
        except MalformedRecord as problem:
            self._refuse(message, problem)

    def close(self) -> None:
        self._consumer.close()
