"""librdkafka's broker inside this process: 4 partitions a topic, nothing kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from confluent_kafka import Producer

PARTITIONS: Final = 4
_ASK_S: Final = 10.0


class EmbeddedBroker:
    """Listens on loopback for as long as this object lives. For showing and trying only: it
    keeps 5 MB a partition, and loses all of it with the process.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        # Its log is no news: it tells of features that it lacks.
        self._cluster = Producer(
            {"bootstrap.servers": "embedded", "test.mock.num.brokers": 1, "log_level": 0}
        )
        brokers = self._cluster.list_topics(timeout=_ASK_S).brokers
        self.bootstrap = ",".join(f"{one.host}:{one.port}" for one in brokers.values())
        for topic in topics:
            self._cluster.list_topics(topic, timeout=_ASK_S)  # being asked, it creates it
