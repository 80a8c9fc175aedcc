"""A fleet whose frames go out on time, and what comes of them at the other end.

Open loop: when a frame is due is settled beforehand, and its latency counts from then, however
late it could be sent; so a line that stalls is not spared what would have come meanwhile.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.bench import parts
from infra.bench.feed import publish_forest
from models.contract import KIND_HEADER, PARTITIONER, Topics
from models.features import MEASURED
from models.records.codec import decode, encode
from models.records.facts import Connection, Direction, Observation, Program
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.samples import Samples
from models.records.telemetry import Batch
from models.records.verdict import Verdict
from streams.bounds import bounds

CONTAINERS: Final = 30
IMAGES: Final = 20
TALKING: Final = 10
"""Containers of a host that show a connection in each frame."""
PARTITIONS: Final = 4
FEATURES: Final = tuple(feature.name for feature in MEASURED)
_USUAL: Final = np.array([max(feature.floor, 0.01) * 5 for feature in MEASURED])[:, None]


class Host:
    """One collector's frames: thirty containers of twenty images, a sample a second each."""

    def __init__(self, number: int, rng: np.random.Generator) -> None:
        self.name = f"host-{number}"
        self._rng, self._sequence = rng, 0
        self.subjects = tuple(f"{number:032x}{one:032x}" for one in range(CONTAINERS))
        self._images = [(number * 7 + one) % IMAGES for one in range(CONTAINERS)]

    def frame(self, at_ns: int, strange: int | None = None) -> bytes:
        """The next one, as its collector writes it."""
        return encode(self.next(at_ns, strange))

    def next(self, at_ns: int, strange: int | None = None) -> Frame:
        """``strange`` names a container that runs what is not in its image."""
        noise = self._rng.lognormal(0.0, 0.1, (len(MEASURED), CONTAINERS))
        samples = Samples(
            FEATURES, self.subjects, np.arange(CONTAINERS),
            np.full(CONTAINERS, at_ns), np.round(_USUAL * noise, 4),
        )  # fmt: skip  # one thought a line
        seen = [self._talks(one, at_ns) for one in self._talking()]
        if strange is not None:
            path = f"/tmp/{self.name}-{strange}"  # noqa: S108  # only told of; nobody else has it
            fact = Program(path, in_image=False, parent="sh")
            seen.append(Observation(self.subjects[strange], at_ns, fact))
        made = Frame(
            "default", self.name, "default", f"collector-{self.name}", self._sequence, at_ns, 1.0,
            samples, tuple(seen), self._inventory(at_ns) if not self._sequence else (),
        )  # fmt: skip  # one thought a line
        self._sequence += 1
        return made

    def _talking(self) -> list[int]:
        first = self._sequence * TALKING % CONTAINERS
        return [(first + one) % CONTAINERS for one in range(TALKING)]

    def _talks(self, one: int, at_ns: int) -> Observation:
        peer = f"198.51.100.{self._images[one] + 1}"
        fact = Connection(Direction.EGRESS, peer, 443, "tcp", 900, 4_000, 6, 8, 1)
        return Observation(self.subjects[one], at_ns, fact)

    def _inventory(self, at_ns: int) -> tuple[InventoryEntry, ...]:
        return tuple(
            InventoryEntry(
                "default",
                subject,
                self.name,
                f"shop/part-{image}@sha256:{image:064x}",
                f"shop/part-{image}",
                name=f"part-{image}-{self.name}",
                started_ns=10**18,
                seen_ns=at_ns,
            )
            for subject, image in zip(self.subjects, self._images, strict=True)
        )


@dataclass(slots=True)
class Line:
    """A running line: gather, worker and governor (which observes) on a Kafka of their own."""

    bootstrap: str
    topics: Topics
    gather: Popen[bytes]
    worker: Popen[bytes]
    governor: Popen[bytes]

    def processes(self) -> dict[str, Popen[bytes]]:
        return {"gather": self.gather, "worker": self.worker, "governor": self.governor}


@contextmanager
def line(
    bootstrap: str, directory: Path, topics: Topics, told: Mapping[str, Any] | None = None
) -> Iterator[Line]:
    """Ended afterwards; its logs stay in the directory. ``told`` are settings beside ours."""
    parts.create_topics(bootstrap, topics, PARTITIONS)
    producer = Producer({"bootstrap.servers": bootstrap})
    publish_forest(producer, topics, directory)
    producer.flush()
    settings = {
        "KAFKA__BOOTSTRAP": bootstrap, "TOPIC_PREFIX": topics.prefix, "DATA_DIR": directory,
        "WORKER__GROUP": f"{topics.prefix}judge", "GOVERNOR__GROUP": f"{topics.prefix}governor",
        "GATHER__GROUP": f"{topics.prefix}gather", **(told or {}),
    }  # fmt: skip  # one line a thought
    with ExitStack() as stack:
        running = [
            stack.enter_context(parts.part(name, settings, directory / f"{name}.log"))
            for name in ("govern", "worker", "gather")
        ]
        yield Line(bootstrap, topics, running[2], running[1], running[0])


@dataclass(slots=True)
class Sent:
    """What went out: when each strange container was due, and how late frames left."""

    strange_ns: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    late_s: float = 0.0


class Fleet:
    """Hosts that send, each a frame a second at a moment of its own."""

    def __init__(self, hosts: int, line: Line) -> None:
        rng = np.random.default_rng(0)
        self.hosts = [Host(number, rng) for number in range(hosts)]
        self._phase_ns = (rng.random(hosts) * 1e9).astype(int).tolist()
        self._topic = line.topics.samples
        self._producer = Producer(
            {"bootstrap.servers": line.bootstrap, "partitioner": PARTITIONER, "linger.ms": 5,
             "queue.buffering.max.messages": 500_000}
        )  # fmt: skip  # two lines
        self._strange: set[str] = set()

    def past(self, since_ns: int, seconds: int) -> int:
        """So many seconds of history, told in one go. Returns how many frames that were."""
        for turn in range(seconds):
            for host, phase_ns in zip(self.hosts, self._phase_ns, strict=True):
                self._send(host, host.frame(since_ns + turn * 10**9 + phase_ns))
        self._producer.flush()
        return seconds * len(self.hosts)

    def live(self, seconds: float, strange_per_s: float) -> Sent:
        """Send on time for so long; strange things happen at even distances."""
        sent, begin_ns = Sent(), time.time_ns() + 10**8
        due = [(begin_ns + phase, at) for at, phase in enumerate(self._phase_ns)]
        heapq.heapify(due)
        next_strange_ns = begin_ns + 10**9
        while due[0][0] < begin_ns + seconds * 1e9:
            at_ns, at = due[0]
            heapq.heapreplace(due, (at_ns + 10**9, at))
            self._sleep_until(at_ns)
            host, strange = self.hosts[at], None
            if strange_per_s and at_ns >= next_strange_ns:
                strange = self._quiet_yet(host)
                if strange is not None:
                    sent.strange_ns[host.subjects[strange]] = at_ns
                    self._strange.add(host.subjects[strange])
                    next_strange_ns += round(1e9 / strange_per_s)
            self._send(host, host.frame(at_ns, strange))
            sent.frames += 1
            sent.late_s = max(sent.late_s, (time.time_ns() - at_ns) / 1e9)
        self._producer.flush()
        return sent

    def _quiet_yet(self, host: Host) -> int | None:
        """A container that was never strange, in turn over the fleet: who is found twice
        raises no second alert.
        """
        turn = len(self._strange) // len(self.hosts)
        for strange in range(turn, CONTAINERS):
            if host.subjects[strange] not in self._strange:
                return strange
        return None

    def _sleep_until(self, at_ns: int) -> None:
        while (left_ns := at_ns - time.time_ns()) > 0:
            self._producer.poll(min(left_ns / 1e9, 0.05))

    def _send(self, host: Host, body: bytes) -> None:
        self._producer.produce(self._topic, body, host.name)
        self._producer.poll(0)


class Follower(threading.Thread):
    """When the first verdict and the first alert on each container came."""

    def __init__(self, line: Line) -> None:
        super().__init__(daemon=True)
        self.verdict_ns: dict[str, int] = {}
        self.alert_ns: dict[str, int] = {}
        self.batches: list[int] = []
        self._topics, self._over = line.topics, threading.Event()
        self._reader = Consumer(
            {"bootstrap.servers": line.bootstrap, "group.id": "bench", "fetch.wait.max.ms": 10}
        )
        places = []
        for topic in (line.topics.verdicts, line.topics.alerts, line.topics.telemetry):
            for part in range(PARTITIONS):
                end = bounds(self._reader, topic, part)[1]
                places.append(TopicPartition(topic, part, end))
        self._reader.assign(places)

    def run(self) -> None:
        while not self._over.is_set():
            for message in self._reader.consume(500, 0.02):
                if message.error() is None:
                    self._note(message, time.time_ns())
        self._reader.close()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _note(self, message: Any, now_ns: int) -> None:
        kind = dict(message.headers() or ()).get(KIND_HEADER)
        if message.topic() == self._topics.alerts:
            resources = orjson.loads(message.value() or b"{}").get("resources") or [{}]
            self.alert_ns.setdefault(resources[0].get("uid", ""), now_ns)
        elif message.topic() == self._topics.verdicts and kind == b"verdict":
            self.verdict_ns.setdefault(decode(Verdict, message.value()).subject, now_ns)
        elif kind == b"batch":
            self.batches.append(len(decode(Batch, message.value()).samples))

    def latencies(self, sent: Sent) -> dict[str, Any]:
        """Seconds from when a strange thing was due; ``missing``: no alert came of it."""
        figures: dict[str, Any] = {"strange": len(sent.strange_ns)}
        for name, came_ns in (("verdict", self.verdict_ns), ("alert", self.alert_ns)):
            seconds = [
                (came_ns[who] - due_ns) / 1e9
                for who, due_ns in sent.strange_ns.items()
                if who in came_ns
            ]
            figures[f"{name}_s"] = parts.percentiles(seconds, 50, 99, 99.9) if seconds else {}
            figures[f"{name}s_missing"] = len(sent.strange_ns) - len(seconds)
        return figures
