"""The same measure on plain Faust: it loses messages, and hangs without patience."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from models.contract import PARTITIONER
from tests.fixtures_kafka import create_topics

PARTITIONS: Final = 4
PRELOAD: Final = 3_000
PER_S: Final = 120
KEYS: Final = 2_000
JOINS: Final = 3
JOINED_S: Final = 60.0
HELD_S: Final = 4.0
"""How long the second worker stays once it has partitions, and how long it stays away."""
STILL_S: Final = 20.0
"""Without a new message for so long nothing more is to come."""
HUNG_S: Final = 12
"""Seconds in recovery during which nothing is read back."""


@dataclass
class Control:
    """One group of plain workers, disturbed as ours are: a second one joins and leaves.

    ``calm``: nothing comes while it joins, so that the fetch under way is one that waits.
    """

    bootstrap: str
    directory: Path
    recovery: str
    widen_s: float = 0.0
    calm: bool = False
    made: dict[int, int] = field(default_factory=dict)
    """By partition, how many records were written."""

    def __post_init__(self) -> None:
        self.name = f"plain-{self.recovery}-{uuid.uuid4().hex[:6]}"
        self.log = self.directory / f"{self.name}.txt"
        self.source = f"{self.name}-source"
        create_topics(self.bootstrap, {self.source: PARTITIONS})
        config = {"bootstrap.servers": self.bootstrap, "partitioner": PARTITIONER}
        self._producer = Producer({**config, "enable.idempotence": True, "log_level": 0})
        self._workers: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._flows = threading.Event()
        self._flows.set()

    def run(self) -> dict[str, Any]:
        """What was made, and what became of it."""
        writing = threading.Thread(target=self._write)
        self._put(PRELOAD)
        try:
            self._start()
            self._until_seen(200)
            writing.start()
            for _ in range(JOINS):
                if self.calm:
                    self._flows.clear()
                    self._until_still()
                other = self._start()
                self._until_joined(other)
                self._flows.set()
                time.sleep(HELD_S)  # a worker comes and goes when it does
                self._end(other)
                time.sleep(HELD_S)  # as above
        finally:
            self._ended.set()
            if writing.ident:
                writing.join()
            self._producer.flush(30)
            self._until_still()
            for worker in self._workers:
                self._end(worker)
        return self.verdict()

    def verdict(self) -> dict[str, Any]:
        seen, committed = self.seen(), self._committed()
        missing = [
            (place, offset) for place, count in self.made.items()
            for offset in range(count) if (place, offset) not in seen
        ]  # fmt: skip  # one loop a word
        lost = sum(offset < committed[place] for place, offset in missing)
        return {
            "messages": sum(self.made.values()), "lost": lost, "unread": len(missing) - lost,
            "duplicates": sum(seen.values()) - len(seen), "hung": self.hung(),
        }  # fmt: skip  # a table

    def seen(self) -> Counter[tuple[int, int]]:
        lines = (line.split() for line in self._lines() if line.startswith("seen "))
        return Counter((int(place), int(offset)) for _, place, offset in lines)

    def hung(self) -> bool:
        """Whether a recovery stood still while records were left for it to read."""
        still: Counter[tuple[str, str]] = Counter()
        for line in self._lines():
            if line.startswith("recovery "):
                _, process, recovering, left = line.split()
                if recovering == "1" and left != "0":
                    still[process, left] += 1
        return max(still.values(), default=0) >= HUNG_S

    # ---- doing ------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        job = {
            "group": self.name, "bootstrap": self.bootstrap, "source": self.source,
            "partitions": PARTITIONS, "recovery": self.recovery, "widen_s": self.widen_s,
            "log": str(self.log), "directory": str(self.directory / f"{self.name}-data"),
        }  # fmt: skip  # a table
        with (self.directory / f"{self.name}.log").open("ab") as said:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.kafka.chaos.plain", "worker"],
                env=os.environ | {"JOB": json.dumps(job)}, stdout=said, stderr=said,
            )  # fmt: skip  # one call
        self._workers.append(started)
        return started

    def _end(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()

    def _put(self, count: int) -> None:
        def delivered(problem: Any, message: Any) -> None:
            assert problem is None, problem
            place = message.partition()
            self.made[place] = max(self.made.get(place, 0), message.offset() + 1)

        before = sum(self.made.values())
        for number in range(before, before + count):
            key = f"k{number % KEYS}".encode()
            self._producer.produce(self.source, b"%d" % number, key, on_delivery=delivered)
            self._producer.poll(0)
        assert self._producer.flush(30) == 0

    def _write(self) -> None:
        while not self._ended.wait(0.25):
            if self._flows.is_set():
                self._put(PER_S // 4)

    def _until_seen(self, least: int) -> None:
        deadline_s = time.monotonic() + 60
        while len(self.seen()) < least:
            assert time.monotonic() < deadline_s, (self.directory / f"{self.name}.log").read_text()
            time.sleep(0.3)  # between two looks

    def _until_joined(self, worker: subprocess.Popen[bytes]) -> None:
        """Until it runs and reads nothing back; one that never does is what is looked for."""
        ready, deadline_s = f"recovery {worker.pid} 0 ", time.monotonic() + JOINED_S
        while time.monotonic() < deadline_s:
            if any(line.startswith(ready) for line in self._lines()):
                return
            time.sleep(0.3)  # between two looks

    def _until_still(self) -> None:
        """Until all was seen, or nothing new is for a while."""
        before, since_s = -1, time.monotonic()
        while time.monotonic() - since_s < STILL_S:
            count = len(self.seen())
            if count >= sum(self.made.values()):
                return
            if count != before:
                before, since_s = count, time.monotonic()
            time.sleep(0.5)  # between two looks

    def _lines(self) -> list[str]:
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text().splitlines(keepends=True) if line[-1] == "\n"]

    def _committed(self) -> dict[int, int]:
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name})
        try:
            places = [TopicPartition(self.source, place) for place in range(PARTITIONS)]
            return {one.partition: one.offset for one in reader.committed(places, timeout=10)}
        except KafkaException as problem:
            raise AssertionError(f"no committed offsets: {problem}") from problem
        finally:
            reader.close()
