"""Parts of Plimsoll as processes of their own, and what they take of the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from models.contract import Topics
from streams.bounds import bounds

PLIMSOLL: Final = (sys.executable, "-m", "streams")
STOP_S: Final = 30.0
_TICK_HZ: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def stoppable() -> None:
    """Let SIGTERM end a benchmark as an error would: what it started is taken down."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def part(
    name: str, settings: Mapping[str, Any], log: Path, *flags: str
) -> Iterator[subprocess.Popen[bytes]]:
    """``plimsoll NAME`` with these settings (``KAFKA__BOOTSTRAP`` …), ended afterwards."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PLIMSOLL_")}
    environment = kept | {f"PLIMSOLL_{key}": str(value) for key, value in settings.items()}
    with log.open("ab") as said:
        process = subprocess.Popen(
            (*PLIMSOLL, name, *flags), env=environment, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """User and system time of a process, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK_HZ


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def proportional_bytes(pid: int) -> int:
    """As resident, but pages that processes share are split among them (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def pause(process: subprocess.Popen[bytes]) -> None:
    """Stop it where it stands (SIGSTOP), no longer than its session lasts."""
    process.send_signal(signal.SIGSTOP)


def resume(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)


def create_topics(bootstrap: str, topics: Topics, partitions: int) -> None:
    """All of ours; those that are split, into so many partitions."""
    split = {topics.samples, topics.telemetry, topics.verdicts, topics.inventory, topics.alerts}
    wanted = [NewTopic(name, partitions if name in split else 1, 1) for name in topics.all()]
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its end would end what it was asked
    for future in admin.create_topics(wanted).values():
        future.result(30)


def create_topic(bootstrap: str, name: str, partitions: int, settings: Mapping[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(name, partitions, 1, config=dict(settings))])
    made[name].result(30)


def joined(bootstrap: str, group: str, members: int, patience_s: float) -> None:
    """Wait until so many share the partitions, and nothing moves any more."""
    admin, ends_s = AdminClient({"bootstrap.servers": bootstrap}), time.monotonic() + patience_s
    while time.monotonic() < ends_s:
        with contextlib.suppress(KafkaException):  # nobody knows the group yet
            found = admin.describe_consumer_groups([group])[group].result(10)
            if found.state is ConsumerGroupState.STABLE and len(found.members) == members:
                return
        time.sleep(0.2)
    raise RuntimeError(f"group {group} did not come to have {members} members")


@dataclass(frozen=True, slots=True)
class Begun:
    at_s: float
    records: int
    cpu_s: float


class Behind:
    """How far a consumer group has come in one topic."""

    def __init__(self, bootstrap: str, group: str, topic: str, partitions: int) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
        self._places = [TopicPartition(topic, one) for one in range(partitions)]

    def committed(self) -> int:
        """Records behind the group; 0 while the group is still being made."""
        try:
            places = self._consumer.committed(self._places, timeout=10)
        except KafkaException:
            return 0
        return sum(max(place.offset, 0) for place in places)

    def end(self) -> int:
        return sum(bounds(self._consumer, one.topic, one.partition)[1] for one in self._places)

    def awaited(self, target: int, patience_s: float, alive: subprocess.Popen[bytes]) -> float:
        """Return when so many records are committed: the monotonic time of it."""
        ends_s = time.monotonic() + patience_s
        while self.committed() < target:
            if time.monotonic() > ends_s or alive.poll() is not None:
                raise RuntimeError(f"{self.committed()} of {target} records were judged")
            time.sleep(0.02)
        return time.monotonic()

    def begun(self, patience_s: float, alive: subprocess.Popen[bytes]) -> Begun:
        """Wait for the first commit: the start of the process is not what is measured."""
        at_s = self.awaited(1, patience_s, alive)
        return Begun(at_s, self.committed(), cpu_s(alive.pid))

    def close(self) -> None:
        self._consumer.close()


def percentiles(values: Any, *at: float) -> dict[str, float]:
    return {f"p{one:g}": round(float(np.percentile(values, one)), 4) for one in at}
