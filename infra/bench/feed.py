"""What the engines are given: topics full of telemetry, and one forest for all.

Batches are as gather writes them. 50 images of up to 20 containers, a sample a second and
container. For one minute in fifty some containers of an image send and do far more than
usual, so that there is something to say.
"""

from __future__ import annotations

import os
import time
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from models.contract import KIND_HEADER, PARTITIONER, Topics
from models.features import MEASURED, NAMES, Array
from models.modelfile import save
from models.records.manifest import Manifest, Stage
from models.records.samples import Samples
from models.records.telemetry import Batch, Encoding, Member, written
from models.records.verdict import Family
from models.training import fit
from streams import keys
from streams.bounds import bounds
from streams.keys import Role, Signer
from streams.stores.models import ModelStore, announced

IMAGES: Final = 50
MEMBERS: Final = 20
PARTITIONS: Final = 4
BURST_S: Final = 60
BURSTS: Final = np.array([[6.0 if feature.family is not Family.INGRESS else 1.0]
                          for feature in MEASURED])  # fmt: skip  # one expression
SEED: Final = 0
ENCODINGS: Final[tuple[Encoding, ...]] = typing.get_args(Encoding)


@dataclass(frozen=True, slots=True)
class Lot:
    """One filled telemetry topic: so many messages of so many samples."""

    samples: int
    messages: int
    encoding: Encoding

    @property
    def topics(self) -> Topics:
        return Topics(f"bench-{self.encoding}-{self.samples}x{self.messages}.")


def rows() -> Array:
    """What the forest is fitted on: deviations of ordinary life."""
    return np.random.default_rng(1).normal(size=(5000, len(NAMES)))


def fill(bootstrap: str, lot: Lot, directory: Path) -> None:
    """Topics, a forest that is active for every event, and the batches."""
    wanted = [NewTopic(name, PARTITIONS if name.endswith(("telemetry", "verdicts")) else 1, 1)
              for name in lot.topics.all()]  # fmt: skip  # one thought
    create(bootstrap, wanted)
    producer = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": PARTITIONER, "linger.ms": 20}
    )
    publish_forest(producer, lot.topics, directory)
    for record in batches(lot):
        producer.produce(
            lot.topics.telemetry, written(record, lot.encoding), record.group.encode(),
            headers=[(KIND_HEADER, b"batch")], timestamp=record.at_ns // 1_000_000,
            on_delivery=_delivered,
        )  # fmt: skip  # one thought a line
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError(f"{lot.topics.telemetry} could not be filled")


def _delivered(problem: object, _message: object) -> None:
    if problem is not None:
        raise RuntimeError(f"not delivered: {problem}")


def batches(lot: Lot) -> list[Batch]:
    """The lot's messages, the same each time but for when they begin."""
    rng = np.random.default_rng(SEED)
    lasts_s = -(-lot.samples // MEMBERS)
    start_ns = (int(time.time()) - lasts_s * lot.messages // IMAGES - 600) * 10**9
    return [
        _batch(rng, number % IMAGES, number // IMAGES * lasts_s, start_ns, lot.samples)
        for number in range(lot.messages)
    ]


def _batch(rng: np.random.Generator, image: int, from_s: int, start_ns: int, samples: int) -> Batch:
    """One image's siblings side by side, ``from_s`` after the first."""
    start_ns += from_s * 10**9
    lineage = f"shop/part-{image}"
    members = tuple(
        Member(f"{image:032x}{one:032x}", f"node-{one % 5}", f"{lineage}@sha256:1")
        for one in range(min(MEMBERS, samples))
    )
    row = np.arange(samples)
    seconds = row // len(members)
    usual = np.array([max(feature.floor, 0.01) * 5 for feature in MEASURED])
    columns = usual[:, None] * np.exp(rng.normal(0.0, 0.1, (len(MEASURED), samples)))
    minutes = (from_s + seconds) // BURST_S
    columns *= np.where((minutes % IMAGES == image) & (row % len(members) < 4), BURSTS, 1.0)
    table = Samples(
        tuple(feature.name for feature in MEASURED), tuple(one.subject for one in members),
        row % len(members), start_ns + seconds * 10**9, np.round(columns, 4),
    )  # fmt: skip  # one thought a line
    return Batch("default", lineage, "", members, table, 1.0)


def forest() -> bytes:
    """The model file: 100 trees of 256 samples."""
    return save(fit(rows(), NAMES, SEED))


def publish_forest(producer: Producer, topics: Topics, directory: Path) -> None:
    """Active for every event there is."""
    content = forest()
    digest = ModelStore(directory / "models").save(content)
    keys.ensure(directory / "keys", 10**18)
    manifest = Manifest(
        "bench", "default", Stage.ACTIVE, "isolation-forest", NAMES, digest, len(content),
        trained_ns=10**18, active_from_ns=10**18,
    )  # fmt: skip  # one thought a line
    key, value = announced(manifest, Signer.load(directory / "keys", Role.TRAINER))
    producer.produce(topics.models, value, key, partition=0)


# ---- topics -----------------------------------------------------------------------------------


def create(bootstrap: str, wanted: list[NewTopic]) -> None:
    admin = _admin(bootstrap)
    for future in admin.create_topics(wanted).values():
        future.result(30)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 4})


def drop(bootstrap: str, run: str) -> None:
    """Delete what a run has made, so that the broker has the same work in each."""
    admin = _admin(bootstrap)
    mine = [name for name in admin.list_topics(timeout=30).topics if run in name]
    for future in admin.delete_topics(mine).values() if mine else ():
        future.result(30)


def held(bootstrap: str, topic: str) -> int:
    """How many messages a topic has."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"bench-{os.getpid()}"})
    try:
        found = consumer.list_topics(topic, 30).topics[topic]
        return sum(bounds(consumer, topic, at)[1] for at in found.partitions)
    finally:
        consumer.close()
