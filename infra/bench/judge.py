"""What a sample costs the judge: a real worker process on a real Kafka.

``python -m infra.bench.judge --samples 100 --messages 2000 --runs 3`` prints one JSON object a
run and one with the medians. CPU is the worker's own, all threads, between the first commit
and the last; the broker's is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka import KafkaServer
from models.contract import KIND_HEADER, PARTITIONER, Topics
from models.features import MEASURED, NAMES
from models.modelfile import save
from models.records.manifest import Manifest, Stage
from models.records.samples import Samples
from models.records.telemetry import Batch, Encoding, Member, written
from models.training import fit
from streams import keys
from streams.keys import Role, Signer
from streams.stores.models import ModelStore, announced

IMAGES: Final = 50
MEMBERS: Final = 20
PARTITIONS: Final = 4
PATIENCE_S: Final = 120.0
TICK_HZ: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Job:
    bootstrap: str
    topics: Topics
    directory: Path
    messages: int
    samples: int
    encoding: Encoding = "binary"


def fill(job: Job) -> None:
    """Topics, a forest, and batches of ordinary life."""
    admin = AdminClient({"bootstrap.servers": job.bootstrap})
    wanted = [NewTopic(name, PARTITIONS if name.endswith(("telemetry", "verdicts")) else 1, 1)
              for name in job.topics.all()]  # fmt: skip  # one thought
    for future in admin.create_topics(wanted).values():
        future.result(30)
    producer = Producer(
        {"bootstrap.servers": job.bootstrap, "partitioner": PARTITIONER, "linger.ms": 20}
    )
    publish_forest(job, producer)
    rng = np.random.default_rng(0)
    start_ns = (int(time.time()) - 3600) * 10**9
    for number in range(job.messages):
        image, turn = number % IMAGES, number // IMAGES
        record = batch(rng, image, start_ns + turn * job.samples * 10**9 // MEMBERS, job.samples)
        producer.produce(
            job.topics.telemetry, written(record, job.encoding), record.group.encode(),
            headers=[(KIND_HEADER, b"batch")], timestamp=record.at_ns // 1_000_000,
        )  # fmt: skip  # one thought a line
        producer.poll(0)
    producer.flush()


def batch(rng: np.random.Generator, image: int, start_ns: int, samples: int) -> Batch:
    """One image's siblings side by side, a second apart."""
    lineage = f"shop/part-{image}"
    members = tuple(
        Member(f"{image:032x}{one:032x}", f"node-{one % 5}", f"{lineage}@sha256:1")
        for one in range(min(MEMBERS, samples))
    )
    rows = np.arange(samples)
    usual = np.array([max(feature.floor, 0.01) * 5 for feature in MEASURED])
    columns = usual[:, None] * rng.lognormal(0.0, 0.1, (len(MEASURED), samples))
    table = Samples(
        tuple(feature.name for feature in MEASURED), tuple(one.subject for one in members),
        rows % len(members), start_ns + (rows // len(members)) * 10**9, np.round(columns, 4),
    )  # fmt: skip  # one thought a line
    return Batch("default", lineage, "", members, table, 1.0)


def publish_forest(job: Job, producer: Producer) -> None:
    """100 trees, active for every event of the run."""
    rows = np.random.default_rng(1).normal(size=(5000, len(NAMES)))
    content = save(fit(rows, NAMES, 0))
    digest = ModelStore(job.directory / "models").save(content)
    keys.ensure(job.directory / "keys", 10**18)
    manifest = Manifest(
        "bench", "default", Stage.ACTIVE, "isolation-forest", NAMES, digest, len(content),
        trained_ns=10**18, active_from_ns=10**18,
    )  # fmt: skip  # one thought a line
    key, value = announced(manifest, Signer.load(job.directory / "keys", Role.TRAINER))
    producer.produce(job.topics.models, value, key, partition=0)


def measured(job: Job, group: str) -> dict[str, Any]:
    """One run of a worker from the first message to the last."""
    environment = os.environ | {
        "PLIMSOLL_KAFKA__BOOTSTRAP": job.bootstrap,
        "PLIMSOLL_TOPIC_PREFIX": job.topics.prefix,
        "PLIMSOLL_DATA_DIR": str(job.directory),
    }
    with (job.directory / f"{group}.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "streams", "worker", "--group", group],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip  # one thought
    try:
        return _watched(job, group, worker)
    finally:
        worker.terminate()
        worker.wait(30)


def _watched(job: Job, group: str, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    consumer = Consumer({"bootstrap.servers": job.bootstrap, "group.id": group})
    places = [TopicPartition(job.topics.telemetry, one) for one in range(PARTITIONS)]
    began: tuple[float, float, int] | None = None
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and worker.poll() is None:
        done = _committed(consumer, places)
        now = (time.monotonic(), cpu_s(worker.pid), done)
        if began is None and done:
            began = now
        if began is not None and done >= job.messages:
            consumer.close()
            return _figures(job, began, now)
        time.sleep(0.02)
    raise RuntimeError(f"the worker did not finish; see {job.directory / group}.log")


def _committed(consumer: Consumer, places: list[TopicPartition]) -> int:
    """Messages behind the group; 0 while the group is still being made."""
    try:
        return sum(max(place.offset, 0) for place in consumer.committed(places, timeout=10))
    except KafkaException:
        return 0


def _figures(
    job: Job, began: tuple[float, float, int], ended: tuple[float, float, int]
) -> dict[str, Any]:
    samples = (ended[2] - began[2]) * job.samples
    wall_s, used_s = ended[0] - began[0], ended[1] - began[1]
    return {
        "samples_per_message": job.samples, "encoding": job.encoding,
        "messages": ended[2] - began[2],
        "samples_per_s": round(samples / wall_s), "cpu_us_per_sample": used_s / samples * 1e6,
    }  # fmt: skip  # one thought a line


def cpu_s(pid: int) -> float:
    """User and system time of a process, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK_HZ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--encoding", choices=typing.get_args(Encoding), default="binary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plimsoll-bench-") as place:
        directory = Path(place)
        with KafkaServer(directory / "kafka") as kafka:
            job = Job(kafka.bootstrap, Topics("bench."), directory, options.messages,
                      options.samples, options.encoding)  # fmt: skip  # one thought
            fill(job)
            runs = [measured(job, f"bench-{number}") for number in range(options.runs)]
    for run in runs:
        _print(run)
    figures = [name for name, value in runs[0].items() if not isinstance(value, str)]
    _print({"median": {name: statistics.median(run[name] for run in runs) for name in figures}})


def _print(body: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(body).decode() + "\n")


if __name__ == "__main__":
    main()
