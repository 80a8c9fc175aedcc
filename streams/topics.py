"""How the topics are laid out: partitions, retention, compaction, times; made and compared.

Arrival time is the log's (LogAppendTime), so that no producer's clock can date a record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from models.contract import SINGLE_PARTITION, Topics
from models.errors import BrokerUnreachable
from models.permissions import Operation
from models.settings import ANONYMOUS, Kafka
from streams.permitted import heed
from streams.settings import TopicPlan

COMPACTED: Final = ("inventory", "control-state", "models")
"""Roles whose topic keeps the newest record of each key, for ever."""
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Planned:
    """One topic as it should be; ``replication`` -1 is the broker's default."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """One topic as it is."""

    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """``what`` is ``topic`` (missing), ``partitions`` or the name of a config entry."""

    topic: str
    what: str
    planned: str
    found: str


def plan(topics: Topics, settings: TopicPlan) -> tuple[Planned, ...]:
    """Every topic as it should be."""
    return tuple(_planned(name, topics.prefix, settings) for name in topics.all())


def _planned(name: str, prefix: str, settings: TopicPlan) -> Planned:
    role = name.removeprefix(prefix)
    config = {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(settings.most_bytes),
    }
    if role in COMPACTED:
        config |= {"cleanup.policy": "compact"}
    else:
        days = _days(role, settings)
        config |= {"cleanup.policy": "delete", "retention.ms": str(int(days * _DAY_MS))}
    if settings.replication >= 3:
        config |= {"min.insync.replicas": "2"}
    partitions = 1 if role in SINGLE_PARTITION else settings.partitions
    return Planned(name, partitions, settings.replication or -1, config)


def _days(role: str, settings: TopicPlan) -> float:
    if role in ("samples", "telemetry"):
        return settings.telemetry_days
    return settings.evidence_days if role == "evidence" else settings.findings_days


def compare(planned: tuple[Planned, ...], found: Mapping[str, Found]) -> tuple[Difference, ...]:
    """Where what is departs from what should be, topic by topic."""
    return tuple(
        difference for topic in planned for difference in _compared(topic, found.get(topic.name))
    )


def _compared(planned: Planned, found: Found | None) -> Iterator[Difference]:
    if found is None:
        yield Difference(planned.name, "topic", f"{planned.partitions} partitions", "missing")
        return
    if found.partitions != planned.partitions:
        yield Difference(planned.name, "partitions", str(planned.partitions), str(found.partitions))
    for entry, value in planned.config.items():
        if found.config.get(entry) != value:
            yield Difference(planned.name, entry, value, found.config.get(entry, "unset"))


class Cluster:
    """The few questions and requests that topics need of a broker."""

    def __init__(self, kafka: Kafka, timeout_s: float = 8.0) -> None:
        self._kafka, self._timeout_s = kafka, timeout_s
        quiet: dict[str, Any] = {"log_level": 2, "socket.timeout.ms": int(timeout_s * 1000)}
        self._admin = AdminClient({**kafka.librdkafka(), **quiet})

    def find(self, planned: tuple[Planned, ...]) -> dict[str, Found]:
        """Those of the planned topics that exist. Raises: BrokerUnreachable."""
        listed = self._listed()
        self._not_hidden([one.name for one in planned if one.name not in listed])
        known = {
            topic.name: len(listed[topic.name].partitions)
            for topic in planned
            if topic.name in listed
        }
        return {name: Found(count, self._config(name)) for name, count in known.items()}

    def create(self, planned: Planned) -> None:
        """Make one topic, and return once it is to be seen. Raises: BrokerUnreachable, when
        refused as well.
        """
        wanted = NewTopic(
            planned.name, planned.partitions, planned.replication, config=dict(planned.config)
        )
        self._result(self._admin.create_topics([wanted]), "Create", planned.name)
        ends_s = time.monotonic() + self._timeout_s
        while planned.name not in self._listed() and time.monotonic() < ends_s:
            time.sleep(0.05)  # the controller has it; the broker we ask learns of it

    def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Set these entries of one topic, leave the others. Raises: BrokerUnreachable."""
        entries = [
            ConfigEntry(entry, value, incremental_operation=AlterConfigOpType.SET)
            for entry, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        asked = self._admin.incremental_alter_configs([resource])
        self._result(asked, "AlterConfigs", name)

    def _listed(self) -> dict[str, Any]:
        found = self._asked(lambda: self._admin.list_topics(timeout=self._timeout_s))
        topics: dict[str, Any] = found.topics
        return topics

    def _config(self, name: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        entries = self._result(self._admin.describe_configs([resource]), "DescribeConfigs", name)
        return {entry.name: entry.value for entry in entries.values()}

    def _not_hidden(self, names: Sequence[str]) -> None:
        """Topics that we may not see are not listed, as if they were not there."""
        if self._kafka.principal == ANONYMOUS or not names:
            return
        for name, future in self._admin.describe_topics(TopicCollection(list(names))).items():
            try:
                future.result(self._timeout_s)
            except KafkaException as problem:
                heed(problem.args[0], self._kafka.librdkafka(), "Describe", name)

    def _result(self, futures: Mapping[Any, Any], operation: Operation, name: str) -> Any:
        (future,) = futures.values()
        try:
            return self._asked(lambda: future.result(self._timeout_s))
        except BrokerUnreachable as problem:
            if isinstance(cause := problem.__cause__, KafkaException):
                heed(cause.args[0], self._kafka.librdkafka(), operation, name)
            raise

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (KafkaException, TimeoutError) as problem:
            raise BrokerUnreachable(
                f"Kafka at {self._kafka.bootstrap}: {problem}; see that it runs, that "
                "kafka.bootstrap names it and that this principal may manage topics"
            ) from problem
