"""Throughput, memory and recovery of workers that know few images, or very many.

``python -m infra.bench.scale --images 100 10000 100000`` lets a real worker on a real Kafka
start with the state of so many images that it has learned, up to its first verdict; then lets
it judge one message of each of 20,000 (its image was not met since the start), and once more.
``--workers 2`` has as many share the partitions before the messages come.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from infra.bench import parts
from infra.bench.feed import publish_forest
from infra.bench.results import record
from infra.kafka import KafkaServer
from models.contract import KIND_HEADER, PARTITIONER, Topics, partition_of
from models.features import MEASURED
from models.pipeline import Arrival, Core, judge
from models.records.codec import encode
from models.records.facts import Observation, Program
from models.records.samples import Samples
from models.records.telemetry import Batch, Member, Sightings, Tick, written
from models.state import LineageState
from streams.bounds import bounds
from streams.delivery.app import CHANGELOG
from streams.delivery.late import Keeper
from streams.stores.baselines import rows_on
from streams.tables import Rows

PARTITIONS: Final = 12
LEARNED: Final = 40
"""Blocks of ten samples that every image has behind it."""
PATIENCE_S: Final = 240.0
COMMIT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does: ``messages`` of ``samples`` each, one for each of ``images``, judged
    by ``workers``.
    """

    images: int
    messages: int
    samples: int
    containers: int
    workers: int


class Load:
    """Ordinary life of many images, each with its own few containers."""

    def __init__(self, plan: Plan, bootstrap: str, topics: Topics) -> None:
        self._plan, self._topics = plan, topics
        self._rng = np.random.default_rng(0)
        self._order = self._rng.permutation(plan.images)
        self._now_ns = (int(time.time()) - 86_400) * 10**9
        self._usual = np.array([max(feature.floor, 0.01) * 5 for feature in MEASURED])
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": PARTITIONER, "linger.ms": 20,
             "queue.buffering.max.messages": 500_000, "queue.buffering.max.kbytes": 1 << 20}
        )  # fmt: skip  # two lines

    def known(self, changelog: str, group_rows: Rows[LineageState]) -> None:
        """Write what a worker knows that has learned all images: its changelog."""
        learned = self._learned()
        for partition in range(PARTITIONS):  # a record that all of these states have behind them
            self._producer.produce(
                self._topics.telemetry, encode(Tick(self._now_ns)), partition=partition,
                headers=[(KIND_HEADER, b"tick")], timestamp=self._now_ns // 1_000_000,
            )  # fmt: skip  # one thought a line
        for image in range(self._plan.images):
            state = self._renamed(learned, image)
            group = f"default/{state.lineage}/"
            place = Place(self._topics.telemetry, partition_of(group.encode(), PARTITIONS), 0)
            group_rows.keep(Event(place), group, state, 0)
            if image % 1000 == 999 or image == self._plan.images - 1:
                for phase in group_rows.take_owed().phases:
                    for row in phase:
                        self._producer.produce(changelog, row.value, row.key, row.partition)
                group_rows.recovered()  # it forgets them: this table is not kept
            self._producer.poll(0)
        self._producer.flush()

    def _learned(self) -> LineageState:
        states: dict[str, LineageState] = {}
        for _ in range(LEARNED * 5):
            self._now_ns += 2 * 10**9
            batch = self._batch(0, 2 * self._plan.containers)
            arrival = Arrival(batch.group, batch, self._now_ns)
            states |= judge(states, [arrival], Core()).states
        (learned,) = states.values()
        return learned

    def _renamed(self, learned: LineageState, image: int) -> LineageState:
        state, (name, of) = learned.copy(), next(iter(learned.images.items()))
        state.lineage = f"shop/part-{image}"
        members = self._members(image)
        state.images = {members[0].image: replace(of.copy(), name=members[0].image)}
        assert name != members[0].image or not image
        state.members.who = list(members)
        state.members.rows = {member.subject: row for row, member in enumerate(members)}
        state.cases = {}
        return state

    def spread(self, samples: int) -> None:
        """One message for each of so many images as there are messages, and again from the
        first when there are fewer images than that: always in the same order.
        """
        for number in range(self._plan.messages):
            at = number % self._plan.images
            if not at:
                self._now_ns += 10 * 10**9
            self._send(self._batch(int(self._order[at]), samples))
        self._producer.flush()

    def strange(self, image: int) -> None:
        """A program that is not in the image: proof, and so a verdict."""
        self._now_ns += 10**9
        member = self._members(image)[0]
        fact = Program("/tmp/miner", in_image=False, parent="sh")  # noqa: S108  # only told of
        seen = Observation(member.subject, self._now_ns, fact)
        self._send(Sightings("default", f"shop/part-{image}", "", (member,), (seen,)), b"sightings")
        self._producer.flush()

    def _send(self, body: Batch | Sightings, kind: bytes = b"batch") -> None:
        self._producer.produce(
            self._topics.telemetry, written(body, "binary"), body.group.encode(),
            headers=[(KIND_HEADER, kind)], timestamp=body.at_ns // 1_000_000,
        )  # fmt: skip  # one thought a line
        self._producer.poll(0)

    def _members(self, image: int) -> tuple[Member, ...]:
        name = f"shop/part-{image}@sha256:{image:064x}"
        return tuple(
            Member(f"{image:032x}{one:032x}", f"node-{image % 500}", name, f"part-{image}-{one}",
                   10**18)
            for one in range(self._plan.containers)
        )  # fmt: skip  # one member

    def _batch(self, image: int, samples: int) -> Batch:
        members = self._members(image)[:samples]
        rows = np.arange(samples)
        columns = self._usual[:, None] * self._rng.lognormal(0.0, 0.1, (len(MEASURED), samples))
        table = Samples(
            tuple(feature.name for feature in MEASURED), tuple(one.subject for one in members),
            rows % len(members), self._now_ns + (rows // len(members)) * 10**8,
            np.round(columns, 4),
        )  # fmt: skip  # one thought a line
        return Batch("default", f"shop/part-{image}", "", members, table, 1.0)


def measured(plan: Plan, kafka: KafkaServer, directory: Path, progress: Progress) -> dict[str, Any]:
    """A worker's start with all that it knows, its first verdict, and its load."""
    topics, group = Topics(f"scale-{plan.images}."), f"scale-{plan.images}"
    changelog = f"{group}-baselines-changelog"
    parts.create_topics(kafka.bootstrap, topics, PARTITIONS)
    parts.create_topic(kafka.bootstrap, changelog, PARTITIONS, CHANGELOG)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    publish_forest(producer, topics, directory)
    producer.flush()
    load, task = Load(plan, kafka.bootstrap, topics), progress.add_task(str(plan.images), total=4)
    rows = rows_on(Kept(), topics)
    load.known(changelog, rows)
    progress.advance(task)
    load.strange(plan.images - 1)
    settings = {
        "KAFKA__BOOTSTRAP": kafka.bootstrap, "TOPIC_PREFIX": topics.prefix,
        "DATA_DIR": directory, "WORKER__GROUP": group, "WORKER__COMMIT_INTERVAL_S": COMMIT_S,
    }  # fmt: skip  # one line a thought
    behind = parts.Behind(kafka.bootstrap, group, topics.telemetry, PARTITIONS)
    figures: dict[str, Any] = {"images": plan.images, "containers_per_image": plan.containers,
                               "samples_per_message": plan.samples}  # fmt: skip  # two lines
    figures |= _state(kafka.bootstrap, changelog, plan)
    progress.advance(task)
    began_s = time.monotonic()
    with ExitStack() as stack:
        worker = stack.enter_context(parts.part("worker", settings, directory / "worker.log"))
        figures["first_verdict_s"] = _first_verdict(kafka.bootstrap, topics, worker) - began_s
        figures["recovery_cpu_s"] = parts.cpu_s(worker.pid)
        figures["resident_at_first_bytes"] = parts.resident_bytes(worker.pid)
        progress.advance(task)
        others = [
            stack.enter_context(parts.part("worker", settings | {"DATA_DIR": directory / str(at)},
                                           directory / "worker.log"))
            for at in range(1, plan.workers)
        ]  # fmt: skip  # one call
        parts.joined(kafka.bootstrap, group, plan.workers, PATIENCE_S)
        figures |= _throughput(plan, load, behind, [worker, *others])
        figures["resident_bytes"] = parts.resident_bytes(worker.pid)
    behind.close()
    progress.advance(task)
    return figures


def _throughput(
    plan: Plan, load: Load, behind: parts.Behind, workers: Sequence[Any]
) -> dict[str, Any]:
    """What messages cost when their image was not met since the start, and afterwards."""
    first = _judged(plan.messages, lambda: load.spread(plan.containers), behind, workers)
    then = _judged(plan.messages, lambda: load.spread(plan.samples), behind, workers)
    return {"workers": plan.workers, "messages": plan.messages, **then, "first_met": first}


def _judged(
    messages: int, send: Callable[[], None], behind: parts.Behind, workers: Sequence[Any]
) -> dict[str, Any]:
    """Messages a second and CPU a message, from the moment that the workers are let at a load
    which lies there whole, to the commit of its last message.
    """
    known = behind.end()
    behind.awaited(known, PATIENCE_S, workers[0])
    for worker in workers:
        parts.pause(worker)
    send()
    used_s, began_s = sum(parts.cpu_s(one.pid) for one in workers), time.monotonic()
    for worker in workers:
        parts.resume(worker)
    ended_s = behind.awaited(known + messages, PATIENCE_S, workers[0])
    cpu_s, wall_s = sum(parts.cpu_s(one.pid) for one in workers) - used_s, ended_s - began_s
    return {
        "messages_per_s": round(messages / wall_s),
        "cpu_us_per_message": round(cpu_s / messages * 1e6),
    }


def _state(bootstrap: str, topic: str, plan: Plan) -> dict[str, Any]:
    """What the changelog holds of each image once it is compacted."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "scale"})
    places = [TopicPartition(topic, one, 0) for one in range(PARTITIONS)]
    left = sum(bounds(reader, topic, one)[1] for one in range(PARTITIONS))
    reader.assign(places)
    sizes: dict[bytes | None, int] = {}
    while left:
        for message in reader.consume(5000, 1.0):
            assert message.error() is None, message.error()
            sizes[message.key()] = len(message.key() or b"") + len(message.value() or b"")
            left -= 1
    reader.close()
    return {
        "state_bytes_per_image": sum(sizes.values()) / plan.images,
        "rows_per_image": len(sizes) / plan.images,
    }


def _first_verdict(bootstrap: str, topics: Topics, worker: Any) -> float:
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "scale"})
    reader.assign([TopicPartition(topics.verdicts, one, 0) for one in range(PARTITIONS)])
    ends_s = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < ends_s and worker.poll() is None:
            message = reader.poll(0.2)
            if message is not None and message.error() is None:
                return time.monotonic()
    finally:
        reader.close()
    raise RuntimeError("no verdict came")


@dataclass
class Kept:
    """A table that nobody keeps: rows pass through it on their way to the changelog."""

    keeper: Keeper | None = None
    rows: dict[bytes, bytes] = field(default_factory=dict)
    partition_by_key: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Event:
    message: Place


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--images", type=int, nargs="+", default=[100, 10_000, 100_000])
    asked.add_argument("--messages", type=int, default=20_000)
    asked.add_argument("--samples", type=int, default=1)
    asked.add_argument("--containers", type=int, default=1)
    asked.add_argument("--workers", type=int, default=1)
    asked.add_argument("--json", action="store_true", help="one object on standard output")
    given = asked.parse_args()
    parts.stoppable()
    console = Console(stderr=True)
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="plimsoll-scale-") as made,
        KafkaServer(Path(made) / "kafka", heap_mb=1024) as kafka,
        Progress(console=console) as progress,
    ):
        for images in given.images:
            plan = Plan(images, given.messages, given.samples, given.containers, given.workers)
            directory = Path(made) / str(images)
            directory.mkdir()
            try:
                found.append(measured(plan, kafka, directory, progress))
                console.print(found[-1])
            except RuntimeError:
                console.print((directory / "worker.log").read_text()[-3000:], markup=False)
                raise
    record("scale", found)
    if given.json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        Console().print(_table(found, given.workers))


def _table(found: list[dict[str, Any]], workers: int) -> Table:
    table = Table(title="one worker" if workers == 1 else f"{workers} workers")
    for name in (
        "images",
        "messages/s",
        "CPU us",
        "at first",
        "state B",
        "MB",
        "recovery s",
        "CPU s",
    ):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            f"{one['images']:,}", f"{one['messages_per_s']:,}", f"{one['cpu_us_per_message']}",
            f"{one['first_met']['cpu_us_per_message']}", f"{one['state_bytes_per_image']:,.0f}",
            f"{one['resident_bytes'] / 1e6:,.0f}", f"{one['first_verdict_s']:.1f}",
            f"{one['recovery_cpu_s']:.1f}",
        )  # fmt: skip  # a row
    return table


if __name__ == "__main__":
    main()
