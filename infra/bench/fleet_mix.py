"""What a fleet costs, from collectors' frames through gather to verdicts.

``python -m infra.bench.fleet_mix --hosts 1 10 100 1000`` lets hosts of 30 containers of 20
images send a frame a second each, on time, through a real gather and worker on a real Kafka:
CPU a sample of each, the batches that arise, how long a verdict takes. Then what gather alone
takes, from a backlog of each source's frames.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from infra.bench import parts
from infra.bench.fleet import CONTAINERS, PARTITIONS, Fleet, Host, line
from infra.bench.latency import lived, settled
from infra.bench.results import record
from infra.kafka import KafkaServer
from models.contract import PARTITIONER, Topics
from models.records.codec import encode
from producers.sources.simulated import Fleet as SimulatedFleet

STRANGE_PER_S: Final = 4.0
BACKLOG_FRAMES: Final = 6_000
BACKLOG_HOSTS: Final = 100
PATIENCE_S: Final = 180.0
Made = Iterator[tuple[str, bytes, int]]
"""Host, frame, and how many samples it holds."""


def through(hosts: int, seconds: float, kafka: KafkaServer, directory: Path) -> dict[str, Any]:
    """A fleet of that size for so long."""
    with line(kafka.bootstrap, directory, Topics(f"mix-{hosts}.")) as running:
        fleet = Fleet(hosts, running)
        settled(fleet, running)
        return lived(fleet, running, seconds, min(STRANGE_PER_S, hosts * CONTAINERS / seconds / 2))


def docker() -> Made:
    """Frames as the Docker source writes them: 30 samples and 10 connections each."""
    hosts = [Host(number, np.random.default_rng(number)) for number in range(BACKLOG_HOSTS)]
    start_ns = time.time_ns() - BACKLOG_FRAMES // BACKLOG_HOSTS * 10**9
    for number in range(BACKLOG_FRAMES):
        host = hosts[number % BACKLOG_HOSTS]
        at_ns = start_ns + number // BACKLOG_HOSTS * 10**9
        yield host.name, host.frame(at_ns), CONTAINERS


def simulated() -> Made:
    """Frames of the simulated source: fewer containers, all kinds of facts."""
    fleet = SimulatedFleet(1, time.time_ns() - BACKLOG_FRAMES // 3 * 10**9)
    for _ in range(BACKLOG_FRAMES // 3):
        for frame in fleet.step(1.0):
            yield frame.host, encode(frame), len(frame.samples)


SOURCES: Final = {"docker": docker, "simulated": simulated}


def gathered(source: str, kafka: KafkaServer, directory: Path) -> dict[str, Any]:
    """Gather alone, at a backlog."""
    topics = Topics(f"gather-{source}.")
    parts.create_topics(kafka.bootstrap, topics, PARTITIONS)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "partitioner": PARTITIONER,
         "queue.buffering.max.messages": 500_000}
    )  # fmt: skip  # two lines
    frames, samples, size = 0, 0, 0
    for host, body, rows in SOURCES[source]():
        producer.produce(topics.samples, body, host)
        frames, samples, size = frames + 1, samples + rows, size + len(body)
    producer.flush()
    settings = {"KAFKA__BOOTSTRAP": kafka.bootstrap, "TOPIC_PREFIX": topics.prefix,
                "DATA_DIR": directory, "GATHER__GROUP": topics.prefix}  # fmt: skip  # two lines
    behind = parts.Behind(kafka.bootstrap, topics.prefix, topics.samples, PARTITIONS)
    with ExitStack() as stack:
        gather = stack.enter_context(
            parts.part("gather", settings, directory / f"gather-{source}.log")
        )
        began = behind.begun(PATIENCE_S, gather)
        ended_s = behind.awaited(frames, PATIENCE_S, gather)
        cpu_s = parts.cpu_s(gather.pid) - began.cpu_s
    behind.close()
    share = 1 - began.records / frames  # what came after the first commit was seen
    return {
        "source": source, "frames": frames, "samples_a_frame": round(samples / frames, 1),
        "bytes_a_frame": round(size / frames),
        "samples_per_s": round(samples * share / (ended_s - began.at_s)),
        "samples_per_cpu_s": round(samples * share / cpu_s),
        "cpu_us_per_frame": round(cpu_s / frames / share * 1e6),
    }  # fmt: skip  # one line a thought


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--hosts", type=int, nargs="*", default=[1, 10, 100, 1000])
    asked.add_argument("--seconds", type=float, default=20.0)
    asked.add_argument("--json", action="store_true", help="one object on standard output")
    given = asked.parse_args()
    parts.stoppable()
    console = Console(stderr=True)
    mixes: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="plimsoll-mix-") as made,
        KafkaServer(Path(made) / "kafka", heap_mb=1024) as kafka,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("fleet mix", total=len(given.hosts) + len(SOURCES))
        for hosts in given.hosts:
            mixes.append(through(hosts, given.seconds, kafka, Path(made)))
            console.print(mixes[-1])
            progress.advance(task)
        for source in SOURCES:
            limits.append(gathered(source, kafka, Path(made)))
            console.print(limits[-1])
            progress.advance(task)
    found = {"mixes": mixes, "gather": limits}
    record("fleet_mix", found)
    if given.json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        Console().print(_table(mixes))


def _table(mixes: list[dict[str, Any]]) -> Table:
    table = Table(title="fleet mix: CPU in us a sample")
    for name in ("hosts", "samples/s", "gather", "worker", "batch p50", "p100", "verdict p50 s",
                 "p99 s"):  # fmt: skip  # two lines
        table.add_column(name, justify="right")
    for one in mixes:
        cpu, took = one["cpu_us_per_sample"], one["verdict_s"]
        table.add_row(
            f"{one['hosts']:,}", f"{one['samples_per_s']:,}", f"{cpu['gather']}",
            f"{cpu['worker']}", f"{one['batch_samples']['p50']:.0f}",
            f"{one['batch_samples']['p100']:.0f}", f"{took.get('p50')}", f"{took.get('p99')}",
        )  # fmt: skip  # a row
    return table


if __name__ == "__main__":
    main()
