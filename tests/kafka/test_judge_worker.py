"""`plimsoll worker` itself: killed and started again, it ends where a replay of the log ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from models.contract import KIND_HEADER, PARTITIONER, Topics
from models.pipeline import Arrival, Core, judge
from models.records.codec import decode, encode
from models.records.rejected import DeadLetter
from models.records.samples import Samples
from models.records.telemetry import KIND_OF, KINDS, Batch, Member, Telemetry, Tick
from models.state import LineageState, pack, unpack
from streams import keys
from streams.bounds import bounds
from streams.settings import load
from streams.tables import Rows
from tests.fixtures_kafka import TestKafka
from tests.wiring.test_tables import Memory

PARTITIONS = 4
GROUPS = 12
MEMBERS = 3
SECOND_NS = 10**9
START_NS = (int(time.time()) - 3600) * SECOND_NS
DEADLINE_S = 60


@dataclass
class Deployment:
    """Topics of its own, and workers of one group on them."""

    kafka: TestKafka
    directory: Path
    topics: Topics = field(init=False)

    def __post_init__(self) -> None:
        self.topics = self.kafka.topics(
            telemetry=PARTITIONS, verdicts=PARTITIONS, findings=1, models=1, rejected=1
        )
        keys.ensure(self.directory / "keys", START_NS)
        self.producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "partitioner": PARTITIONER, "linger.ms": 5}
        )

    @property
    def group(self) -> str:
        return f"{self.topics.prefix}judge"

    def write(self, record: Telemetry, partition: int = -1, value: bytes | None = None) -> None:
        key = None if isinstance(record, Tick) else record.group.encode()
        self.producer.produce(
            self.topics.telemetry, encode(record) if value is None else value, key,
            partition=partition, timestamp=record.at_ns // 1_000_000,
            headers=[(KIND_HEADER, KIND_OF[type(record)].encode())],
        )  # fmt: skip  # one thought a line

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        environment = os.environ | {
            "PLIMSOLL_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "PLIMSOLL_TOPIC_PREFIX": self.topics.prefix,
            "PLIMSOLL_DATA_DIR": str(self.directory),
            "PLIMSOLL_WORKER__GROUP": self.group,
            "PLIMSOLL_WORKER__SESSION_TIMEOUT_S": "6",
            "PLIMSOLL_WORKER__COMMIT_INTERVAL_S": "0.1",
        }
        with (self.directory / "worker.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "streams", "worker"], env=environment, stdout=log, stderr=log
            )
        try:
            yield started
        finally:
            if started.poll() is None:
                started.terminate()
            started.wait(30)

    def committed(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group})
        places = [TopicPartition(self.topics.telemetry, one) for one in range(PARTITIONS)]
        try:
            return sum(max(0, one.offset) for one in consumer.committed(places, timeout=10))
        except KafkaException:  # the coordinator is still being found
            return 0
        finally:
            consumer.close()

    def until_committed(self, count: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.committed() < count:
            if time.monotonic() > deadline:
                words = (self.directory / "worker.log").read_text()[-2000:]
                pytest.fail(f"{self.committed()} of {count} committed; the worker said: {words}")
            time.sleep(0.05)

    def read(self, topic: str) -> list[Any]:
        """Everything that a topic holds now, each partition in its order."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "reader"})
        found = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        messages: list[Any] = []
        for partition in found:
            low, end = bounds(consumer, topic, partition)
            consumer.assign([TopicPartition(topic, partition, low)])
            while low < end:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                low = (message.offset() or 0) + 1
                messages.append(message)
        consumer.close()
        return messages

    def state(self) -> Rows[LineageState]:
        """The table as a new worker would recover it."""
        memory = Memory()
        for message in self.read(f"{self.group}-baselines-changelog"):
            if message.value() is None:
                memory.rows.pop(message.key(), None)
                memory.partition_by_key.pop(message.key(), None)
            else:
                memory.rows[message.key()] = message.value()
                memory.partition_by_key[message.key()] = message.partition()
        return Rows(memory, pack, unpack, [self.topics.telemetry])

    def replay(self) -> dict[str, LineageState]:
        """The log judged by one thread, a record at a time."""
        core = Core(detection=load().worker.detection)
        states: dict[str, LineageState] = {}
        of_partition: dict[int, set[str]] = {}
        for message in self.read(self.topics.telemetry):
            record = decode(KINDS[dict(message.headers())[KIND_HEADER].decode()], message.value())
            arrived_ns = message.timestamp()[1] * 1_000_000
            here = of_partition.setdefault(message.partition(), set())
            if not isinstance(record, Tick):
                here.add(record.group)
            due = sorted(here) if isinstance(record, Tick) else [record.group]
            arrivals = [Arrival(group, record, arrived_ns) for group in due]
            states.update(judge(states, arrivals, core).states)
        return states


def batch(rng: np.random.Generator, image: int, turn: int) -> Batch:
    lineage, rows = f"shop/part-{image}", np.arange(MEMBERS)
    members = tuple(
        Member(f"{image:032x}{one:032x}", f"node-{one}", f"{lineage}@sha256:1") for one in rows
    )
    table = Samples(
        ("cpu_cores", "network_transmit_bytes_per_s"), tuple(one.subject for one in members),
        rows, np.full(MEMBERS, START_NS + turn * SECOND_NS), rng.lognormal(0, 0.3, (2, MEMBERS)),
    )  # fmt: skip  # one thought a line
    return Batch("default", lineage, "", members, table, 1.0)


def fill(deployment: Deployment, turns: int) -> int:
    """So many seconds of every group, with ticks; how many records that is."""
    rng = np.random.default_rng(3)
    for turn in range(turns):
        for image in range(GROUPS):
            deployment.write(batch(rng, image, turn))
        if turn % 5 == 4:
            for partition in range(PARTITIONS):
                deployment.write(Tick(START_NS + turn * SECOND_NS), partition)
    deployment.producer.flush()
    return turns * GROUPS + turns // 5 * PARTITIONS


def test_killed_twice_the_state_equals_a_replay(kafka: TestKafka, tmp_path: Path) -> None:
    """A baseline that counts a batch twice, or not at all, draws the line in another place."""
    deployment = Deployment(kafka, tmp_path)
    total = fill(deployment, 200)

    for share in (0.2, 0.5):
        with deployment.worker() as worker:
            deployment.until_committed(int(total * share))
            worker.kill()
    with deployment.worker():
        deployment.until_committed(total)

    rows, replay = deployment.state(), deployment.replay()
    assert len(replay) == GROUPS
    for group, state in replay.items():
        kept = rows.get(group)
        assert kept is not None
        assert pack(kept) == pack(state)


def test_junk_between_batches_costs_one_dead_letter_each(kafka: TestKafka, tmp_path: Path) -> None:
    """The neighbours' state is that of a log without the junk."""
    deployment = Deployment(kafka, tmp_path)
    rng, junk = np.random.default_rng(5), [b"", b"{", b"[]", b'{"v":9}', b"\xff" * 70_000]
    for turn, bad in enumerate(junk):
        deployment.write(batch(rng, 0, turn))
        deployment.write(batch(rng, 0, turn), value=bad)
    deployment.producer.flush()

    with deployment.worker():
        deployment.until_committed(2 * len(junk))

    letters = [
        decode(DeadLetter, one.value()) for one in deployment.read(deployment.topics.rejected)
    ]
    assert [one.length_bytes for one in letters] == [len(bad) for bad in junk]
    assert {one.fault for one in letters} == {"undecodable", "unknown-schema"}
    assert max(len(one.kept) for one in letters) == 65_536
    state = deployment.state().get(batch(rng, 0, 0).group)
    assert state is not None
