"""One trial: topics of its own, workers as processes, and the oracle that judges the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from confluent_kafka import Consumer, ConsumerGroupState, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from models.contract import PARTITIONER
from models.records.codec import decode
from models.records.rejected import DeadLetter
from streams.bounds import bounds
from streams.tables import Rows
from tests.fixtures_kafka import create_topics
from tests.kafka import worker

PARTITIONS = 4
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Verdict:
    """What the log says after a trial: all figures count input offsets."""

    made: int
    lost: int
    duplicates: int
    rejected: int
    state_equal: bool
    committed: bool


@dataclass
class Trial:
    """Use as a context manager: workers left over are killed at the end."""

    bootstrap: str
    prefix: str
    directory: Path
    options: dict[str, Any] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    made: list[tuple[int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [f"{self.prefix}{role}" for role in ("source", "outputs", "rejected")]
        if self.options.get("may_create_topics", True):
            create_topics(self.bootstrap, dict.fromkeys(names, PARTITIONS))
        self.source, self.outputs, self.dead = names
        self.group = f"{self.prefix}count"
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,
                "linger.ms": 5,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    # ---- doing ------------------------------------------------------------------------------

    def produce(self, count: int, value: bytes = b"fine", keys: int = 20) -> None:
        """Write so many records over ``keys`` keys, and wait until the broker has them."""

        def delivered(problem: Any, message: Any) -> None:
            assert problem is None, problem
            self.made.append((message.partition(), message.offset(), message.key().decode()))

        for number in range(count):
            key = f"g{(len(self.made) + number) % keys}"
            while True:
                with contextlib.suppress(BufferError):
                    self._producer.produce(self.source, value, key, on_delivery=delivered)
                    break
                self._producer.poll(0.1)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        job = {
            "bootstrap": self.bootstrap,
            "group": self.group,
            "source": self.source,
            "outputs": self.outputs,
            "rejected": self.dead,
            "partitions": PARTITIONS,
            **self.options,
        }
        said = (self.directory / f"worker-{len(self.workers)}.txt").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.worker"],
            cwd=ROOT,
            env={**os.environ, "JOB": json.dumps(job), **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        said.close()
        self.workers.append(process)
        return process

    def said(self) -> str:
        """What all workers wrote; the last of it."""
        texts = (path.read_text(errors="replace") for path in self.directory.glob("worker-*.txt"))
        return "\n".join(text[-20_000:] for text in texts)

    def until(self, reached: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached():
            assert time.monotonic() < deadline, f"{what}: not in {timeout_s} s\n{self.said()}"
            time.sleep(0.1)  # between two looks at the broker

    def until_outputs(self, least: int, timeout_s: float = 40.0) -> None:
        self.until(lambda: self._ends(self.outputs) >= least, f"{least} outputs", timeout_s)

    def until_committed(self, timeout_s: float = 60.0) -> None:
        self.until(self.committed_to_the_end, "all offsets committed", timeout_s)

    def until_joined(self, members: int, timeout_s: float = 60.0) -> None:
        """So many workers share the partitions, and no rebalance is under way."""
        self.until(lambda: self._shared_by() == members, f"{members} members", timeout_s)

    def until_ended(self, process: subprocess.Popen[bytes], timeout_s: float = 40.0) -> int:
        self.until(lambda: process.poll() is not None, "the worker's end", timeout_s)
        return int(process.returncode)

    # ---- judging ----------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """Every input offset in the outputs or the dead letters; the state as in a replay."""
        ended = Counter(tuple(map(int, m.value().split(b","))) for m in self._read(self.outputs))
        letters = [decode(DeadLetter, m.value()) for m in self._read(self.dead)]
        dead = Counter((letter.partition, letter.offset) for letter in letters)
        inputs = {(partition, offset) for partition, offset, _ in self.made}
        everything = ended + dead
        return Verdict(
            made=len(inputs),
            lost=len(inputs - everything.keys()),
            duplicates=sum(everything.values()) - len(everything),
            rejected=len(dead),
            state_equal=self.state() == self.replay(),
            committed=self.committed_to_the_end(),
        )

    def differences(self) -> dict[str, tuple[worker.State | None, worker.State]]:
        """By key, what the changelog says and what a replay says, where they differ."""
        kept, replayed = self.state(), self.replay()
        return {key: (kept.get(key), is_) for key, is_ in replayed.items() if kept.get(key) != is_}

    def replay(self) -> dict[str, worker.State]:
        state: dict[str, worker.State] = {}
        for _, offset, key in self.made:
            n, total = state.get(key, (0, 0))
            state[key] = (n + 1, total + offset)
        return state

    def state(self) -> dict[str, worker.State]:
        """What the changelog says, read back by Rows itself."""
        rows: dict[bytes, bytes] = {}
        partitions: dict[bytes, int] = {}
        for message in self._read(f"{self.group}-counts-changelog"):
            if message.value() is None:
                rows.pop(message.key(), None)
            else:
                rows[message.key()] = message.value()
                partitions[message.key()] = message.partition()
        table = SimpleNamespace(keeper=None, rows=rows, partition_by_key=partitions)
        kept = Rows(table, worker.pack, worker.unpack, [self.source])
        every = (group for partition in range(PARTITIONS) for group in kept.groups(partition))
        return {group: state for group in every if (state := kept.get(group)) is not None}

    def committed_to_the_end(self) -> bool:
        with self._reader() as reader:
            places = [TopicPartition(self.source, p) for p in range(PARTITIONS)]
            committed = {c.partition: c.offset for c in reader.committed(places, 10)}
            ends = Counter(partition for partition, _, _ in self.made)
            return all(committed[p] == end for p, end in ends.items())

    def _shared_by(self) -> int:
        """How many members the group has, 0 while it is rebalancing."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        group = admin.describe_consumer_groups([self.group])[self.group].result(10)
        return len(group.members) if group.state is ConsumerGroupState.STABLE else 0

    def _ends(self, topic: str) -> int:
        with self._reader() as reader:
            return sum(self._end(reader, topic, p) for p in range(PARTITIONS))

    def _end(self, reader: Any, topic: str, partition: int) -> int:
        return bounds(reader, topic, partition)[1]

    def _read(self, topic: str) -> Iterator[Any]:
        """The whole topic, oldest first in each partition."""
        with self._reader() as reader:
            ends = {p: self._end(reader, topic, p) for p in range(PARTITIONS)}
            reader.assign([TopicPartition(topic, p, 0) for p in ends])
            while any(ends.values()):
                place = reader.position([TopicPartition(topic, p) for p in ends])
                if all(max(tp.offset, 0) >= ends[tp.partition] for tp in place):
                    return
                for message in reader.consume(2000, 0.2):
                    assert message.error() is None, message.error()
                    yield message

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Any]:
        reader = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "enable.auto.commit": False,
            }
        )
        try:
            yield reader
        finally:
            reader.close()
