"""The ``kafka`` fixture: one real broker for the whole test run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from infra.kafka import KafkaServer, KafkaUnavailable
from models.contract import Topics
from streams.bounds import bounds


@dataclass(frozen=True)
class TestKafka:
    """Where the broker is, and topics that no other test shares."""

    __test__ = False  # pytest would take it for a class of tests

    bootstrap: str

    def topics(self, **partitions: int) -> Topics:
        """Create topics under a prefix of their own: ``topics(telemetry=4, findings=1)``.

        An underscore in a name stands for a dash. Other names work too: they lie at
        ``topics.prefix + name``.
        """
        made = Topics(self.prefix())
        self.create({f"{made.prefix}{role.replace('_', '-')}": n for role, n in partitions.items()})
        return made

    def prefix(self) -> str:
        return f"t{uuid.uuid4().hex[:10]}."

    def create(self, partitions: dict[str, int], **config: str) -> None:
        create_topics(self.bootstrap, partitions, **config)


def create_topics(bootstrap: str, partitions: dict[str, int], **config: str) -> None:
    """Create topics and wait until their partitions answer; dashes are dots in ``config``.

    A topic that is created has no leader yet: who asks at once is told so, and fails.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    settings = {name.replace("_", "."): value for name, value in config.items()}
    wanted = [NewTopic(name, n, 1, config=settings) for name, n in partitions.items()]
    for future in admin.create_topics(wanted).values():
        future.result(20)
    asking = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "log_level": 0})
    try:
        for name, count in partitions.items():
            for partition in range(count):
                _until_it_answers(asking, name, partition)
    finally:
        asking.close()


@retry(
    retry=retry_if_exception_type(KafkaException), stop=stop_after_delay(20),
    wait=wait_fixed(0.05), reraise=True,
)  # fmt: skip  # one thought
def _until_it_answers(asking: Consumer, topic: str, partition: int) -> None:
    bounds(asking, topic, partition)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestKafka]:
    running = os.environ.get("PLIMSOLL_TEST_BROKER")
    if running:
        yield TestKafka(running)
        return
    with broker_or_skip(tmp_path_factory.mktemp("kafka")) as server:
        yield TestKafka(server.bootstrap)


def broker_or_skip(directory: object, **options: object) -> KafkaServer:
    """A started broker of the test's own; skips where none can be had, under CI fails."""
    server = KafkaServer(str(directory), **options)  # type: ignore[arg-type]  # passed through
    start_or_skip(server)
    return server


def start_or_skip(server: KafkaServer) -> None:
    try:
        server.start()
    except KafkaUnavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no Kafka: {reason}")
        pytest.skip(f"no Kafka: {reason}")
