"""A running archive that may be killed, records for it, and what it must hold of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer

from models.contract import KIND_HEADER, PARTITIONER, Topics
from models.records.codec import encode
from models.records.telemetry import KIND_OF, Batch, Sightings, Telemetry
from streams.archive import layout
from streams.archive.tables import ROLES
from streams.bounds import bounds
from tests.fixtures_kafka import TestKafka

DEADLINE_S = 60.0
PARTITIONS = 3
DIES = """
import os, signal, sys
from pathlib import Path
when, number = sys.argv[1], int(sys.argv[2])
renames, real = 0, os.rename
def rename(source, target, **given):
    global renames
    renames += Path(target).name.startswith("lot-")
    if renames == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target, **given)
    if renames == number and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename
from streams.cli import main
main(["archive"])
"""
"""``plimsoll archive`` that is killed at its n-th rename of a lot: just before or just after."""

LogRow = tuple[Any, ...]


def until(done: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < end_s, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.05)  # between two looks


@dataclass
class Deployment:
    """Topics of its own and an archive of them in a folder of its own."""

    kafka: TestKafka
    directory: Path
    topics: Topics = field(init=False)

    def __post_init__(self) -> None:
        self.topics = Topics(self.kafka.prefix())
        names = [f"{self.topics.prefix}{role}" for role in ROLES]
        # Times in tests are of no particular year: retention must not judge by them.
        self.kafka.create(dict.fromkeys(names, PARTITIONS), retention_ms="-1")
        self.producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "partitioner": PARTITIONER, "linger.ms": 5}
        )

    @property
    def root(self) -> Path:
        return self.directory / "archive"

    def send(
        self, role: str, value: bytes | None, *, kind: str = "", key: str = "", at_ms: int = 0,
        headers: Sequence[tuple[str, bytes]] = (), partition: int = -1,
    ) -> None:  # fmt: skip  # by subject
        given: Any = [(KIND_HEADER, kind.encode())] if kind else list(headers)
        self.producer.produce(
            self.topics.prefix + role, value, key.encode() or None, partition=partition,
            headers=given, timestamp=at_ms,
        )  # fmt: skip  # one thought

    def write(self, record: Telemetry, partition: int = -1) -> None:
        key = record.group if isinstance(record, Batch | Sightings) else ""
        self.send(
            "telemetry", encode(record), kind=KIND_OF[type(record)], key=key,
            at_ms=record.at_ns // 10**6, partition=partition,
        )  # fmt: skip  # one thought

    def flush(self) -> None:
        assert self.producer.flush(DEADLINE_S) == 0

    # ---- the archive's process --------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {
            "PLIMSOLL_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "PLIMSOLL_TOPIC_PREFIX": self.topics.prefix,
            "PLIMSOLL_DATA_DIR": str(self.directory),
            "PLIMSOLL_ARCHIVE__LOT_S": "1",
            "PLIMSOLL_ARCHIVE__KEEP_DAYS": "0",
            **more,
        }

    @contextmanager
    def archiving(self, *program: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        command = program or ("-m", "streams", "archive")
        with (self.directory / "archive.log").open("ab") as log:
            process = subprocess.Popen(
                (sys.executable, *command), env=self.environment(**environment),
                stdout=log, stderr=log,
            )  # fmt: skip  # one call
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def archived(self, *program: str, **environment: str) -> None:
        """Run the archive until it holds all that the log has, then end it with SIGTERM."""
        before = len(self.events())
        with self.archiving(*program, **environment) as process:
            until(lambda: len(self.events()) > before or process.poll() is not None, "its start")
            until(lambda: self.complete() or process.poll() is not None, "all of the log")
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0, self.said()

    def dying(self, when: str, number: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The archive, which kills itself ``before`` or ``after`` its n-th rename of a lot."""
        return self.archiving("-c", DIES, when, str(number))

    def said(self) -> str:
        return (self.directory / "archive.log").read_text(errors="replace")[-5000:]

    def events(self) -> list[dict[str, Any]]:
        """What it said, line by line."""
        log = self.directory / "archive.log"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        return [json.loads(one) for one in lines if one.startswith("{") and one.endswith("\n")]

    # ---- what it holds, and what it must hold -----------------------------------------------

    def complete(self) -> bool:
        newest = layout.newest(self.root) if self.root.is_dir() else None
        ends = self.ends()
        reached = {} if newest is None else newest.reached
        return all(reached.get(place, 0) == end for place, end in ends.items() if end)

    def ends(self) -> dict[layout.Place, int]:
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "none"})
        try:
            return {
                (topic, p): bounds(consumer, topic, p)[1]
                for topic in (self.topics.prefix + role for role in ROLES)
                for p in range(PARTITIONS)
            }
        finally:
            consumer.close()

    def table(self, name: str) -> list[dict[str, Any]]:
        """All rows of a table, read file by file without the code under test."""
        files = sorted(self.root.glob(f"day=*/lot-*/{name}.parquet"))
        tables = [pq.ParquetFile(path).read() for path in files]
        return pa.concat_tables(tables).to_pylist() if tables else []

    def places(self, *tables: str) -> Counter[tuple[int, int]]:
        """How many rows these tables hold of each partition and offset."""
        rows = [row for name in tables for row in self.table(name)]
        return Counter((row["log_partition"], row["log_offset"]) for row in rows)
