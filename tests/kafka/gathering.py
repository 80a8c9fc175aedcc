"""A running gather, frames for it, and what it made of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from models.contract import KIND_HEADER, PARTITIONER, Topics
from models.records import decode, encode
from models.records.frame import Frame
from models.records.rejected import DeadLetter
from models.records.telemetry import KINDS, Batch, Sightings, Tick
from producers.gather.loop import Gather
from producers.meters import GatherMeters
from producers.settings import Settings, load
from tests.telemetry.builders import NS, START_NS, entry, frame

DEADLINE_S = 40.0
PROGRAM = "import typer; from producers.commands.gather import command; typer.run(command)"

Row = tuple[str, int]
"""Subject and time."""


def until(done: Callable[[], bool], what: str) -> None:
    """Wait for an effect."""
    end_s = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < end_s, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.02)


def settings_for(bootstrap: str, topics: Topics, **gather: object) -> Settings:
    limits = {"group": f"{topics.prefix}gather", **gather}
    return load(topic_prefix=topics.prefix, kafka={"bootstrap": bootstrap}, gather=limits)


@contextmanager
def gathering(
    bootstrap: str, topics: Topics, clock: Callable[[], int] = time.time_ns, **gather: object
) -> Iterator[Gather]:
    """A gather in a thread of its own; what it raises is raised here at the end."""
    running = Gather(settings_for(bootstrap, topics, **gather), clock, GatherMeters())
    stop, ready, problems = threading.Event(), threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            running.run(stop, ready.set)
        except BaseException as problem:  # noqa: BLE001  # told to the test below
            problems.append(problem)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        yield running
    finally:
        stop.set()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


@contextmanager
def gather_process(bootstrap: str, topics: Topics) -> Iterator[subprocess.Popen[bytes]]:
    """``plimsoll gather`` as a process that can be killed."""
    environment = os.environ | {
        "PLIMSOLL_KAFKA__BOOTSTRAP": bootstrap,
        "PLIMSOLL_TOPIC_PREFIX": topics.prefix,
        "PLIMSOLL_GATHER__GROUP": f"{topics.prefix}gather",
    }
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class Fleet:
    """Hosts that write frames, a second apart, of three images."""

    bootstrap: str
    topics: Topics
    hosts: int = 3
    each: int = 6
    written: int = 0
    rows: set[Row] = field(default_factory=set)

    def __post_init__(self) -> None:
        config = {"bootstrap.servers": self.bootstrap, "partitioner": PARTITIONER}
        self.producer = Producer(config)

    def subjects(self, host: int) -> list[str]:
        return [f"h{host}-c{number}" for number in range(self.each)]

    def write(self, intervals: int, now_ns: int = START_NS) -> None:
        """So many frames of every host, dated from ``now_ns`` on."""
        for _ in range(intervals):
            at_s = (now_ns - START_NS) / NS + self.written
            for host in range(self.hosts):
                self._write_frame(host, at_s)
            self.written += 1
        assert self.producer.flush(DEADLINE_S) == 0

    def _write_frame(self, host: int, at_s: float) -> None:
        subjects = self.subjects(host)
        known = [
            entry(name, f"shop/{at % 3}", f"host{host}")
            for at, name in enumerate(subjects)
            if not self.written
        ]
        made = frame(
            subjects, host=f"host{host}", at_s=at_s, sequence=self.written, inventory=known
        )
        self.rows |= {(name, made.at_ns) for name in subjects}
        self.send(made)

    def send(self, made: Frame) -> None:
        self.raw(encode(made), made.host.encode(), made.at_ns)

    def raw(self, value: bytes, key: bytes, at_ns: int = START_NS) -> None:
        stamp = at_ns // 1_000_000
        self.producer.produce(self.topics.samples, value, key, timestamp=stamp)


class Made:
    """All that gather wrote so far; :meth:`look` reads on."""

    def __init__(self, bootstrap: str, topics: Topics, telemetry: int = 4) -> None:
        self.topics = topics
        self.batches: list[Batch] = []
        self.values: list[bytes] = []
        self.sightings: list[Sightings] = []
        self.ticks: Counter[tuple[str, int]] = Counter()
        self.tick_times: dict[int, list[int]] = defaultdict(list)
        self.keys: set[tuple[bytes, int]] = set()
        self.letters: list[DeadLetter] = []
        self.order: dict[str, list[int]] = defaultdict(list)
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
        )
        places = [(topics.telemetry, at) for at in range(telemetry)]
        places += [(topics.findings, 0), (topics.rejected, 0)]
        self._consumer.assign([TopicPartition(topic, at, 0) for topic, at in places])

    def look(self) -> None:
        for message in self._consumer.consume(500, 0.1):
            assert message.error() is None
            topic, partition, value = message.topic(), message.partition() or 0, message.value()
            if topic == self.topics.rejected:
                self.letters.append(decode(DeadLetter, value))
                continue
            headers: dict[str, Any] = dict(message.headers() or [])
            record = decode(KINDS[str(headers[KIND_HEADER], "ascii")], value)
            if isinstance(record, Batch):
                self.values.append(value or b"")
            self._note(record, str(topic), partition, message.key())

    def _note(
        self, record: Batch | Sightings | Tick, topic: str, partition: int, key: bytes | None
    ) -> None:
        if isinstance(record, Tick):
            self.ticks[topic, partition] += 1
            self.tick_times[partition].append(record.at_ns)
            return
        assert key == record.group.encode()
        self.keys.add((key, partition))
        if isinstance(record, Batch):
            self.batches.append(record)
            for subject, at_ns in rows_of(record):
                self.order[subject].append(at_ns)
        else:
            self.sightings.append(record)

    def rows(self) -> Counter[Row]:
        return Counter(row for batch in self.batches for row in rows_of(batch))

    def until(self, done: Callable[[], bool], what: str) -> None:
        def looked() -> bool:
            self.look()
            return done()

        until(looked, what)

    def close(self) -> None:
        self._consumer.close()


def rows_of(batch: Batch) -> list[Row]:
    samples = batch.samples
    subjects = [samples.subjects[at] for at in samples.index.tolist()]
    return list(zip(subjects, samples.times_ns.tolist(), strict=True))


def committed(bootstrap: str, topics: Topics, partitions: int) -> int:
    """Source records that the group has done with."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{topics.prefix}gather"})
    try:
        places = [TopicPartition(topics.samples, at) for at in range(partitions)]
        return sum(max(one.offset, 0) for one in consumer.committed(places, timeout=10))
    finally:
        consumer.close()
