"""How long from an order to its verified outcome, on the real engine and a real Kafka.

``python -m infra.bench.isolation --runs 30`` isolates as many containers, one after the
other, and prints one JSON line: seconds from producing the order to reading the verified
outcome back (p50, p99), and what the responder itself took of that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import docker
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra import images
from infra.kafka import KafkaServer
from models.contract import PARTITIONER, Topics
from models.records.codec import decode, encode
from models.records.order import Action, Order, Outcome, Status
from streams import keys
from streams.keys import Role, Signer

HOST: Final = "bench"
PATIENCE_S: Final = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as made, KafkaServer(Path(made) / "kafka") as kafka:
        outcomes = measured(Path(made), kafka.bootstrap, runs)
    whole = np.array([seconds for seconds, _ in outcomes])
    own = np.array([outcome.took_s for _, outcome in outcomes])
    line = {
        "runs": runs,
        "verified": sum(outcome.verified is True for _, outcome in outcomes),
        "order_to_outcome_s": {"p50": _at(whole, 50), "p99": _at(whole, 99)},
        "responder_took_s": {"p50": _at(own, 50), "p99": _at(own, 99)},
    }
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


def measured(directory: Path, bootstrap: str, runs: int) -> list[tuple[float, Outcome]]:
    topics = Topics("bench.")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(topics.orders, 4, 1), NewTopic(topics.outcomes, 1, 1)]
    for created in admin.create_topics(wanted).values():
        created.result(20)
    keys.create(directory / "keys", "governor", Role.GOVERNOR, time.time_ns())
    signer = Signer.load(directory / "keys", "governor")
    producer = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": PARTITIONER, "linger.ms": 0}
    )
    reader = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "fetch.wait.max.ms": 10}
    )
    reader.assign([TopicPartition(topics.outcomes, 0, 0)])
    with _responder(directory, bootstrap, topics), _containers(runs + 1) as subjects:
        # The first one pays for start-up and for what is loaded on first use.
        found = [_isolated(signer, producer, reader, topics, subject) for subject in subjects]
    reader.close()
    return found[1:]


def _isolated(
    signer: Signer, producer: Producer, reader: Consumer, topics: Topics, subject: str
) -> tuple[float, Outcome]:
    now_ns, began = time.time_ns(), time.monotonic()
    order = Order(
        uid=uuid.uuid4().hex, scope="default", incident="bench", subject=subject, host=HOST,
        action=Action.ISOLATE, issued_ns=now_ns, deadline_ns=now_ns + int(PATIENCE_S * 1e9),
    )  # fmt: skip  # one line an argument reads worse
    producer.produce(topics.orders, encode(signer.sign(encode(order))), HOST)
    producer.flush(10)
    while time.monotonic() - began < PATIENCE_S:
        message = reader.poll(0.2)
        if message is None or message.error() is not None:
            continue
        outcome = decode(Outcome, message.value())
        if outcome.order == order.uid:
            assert outcome.status is Status.DONE, outcome.detail
            return time.monotonic() - began, outcome
    raise TimeoutError(f"no outcome of {order.uid} within {PATIENCE_S:.0f} s")


@contextmanager
def _responder(directory: Path, bootstrap: str, topics: Topics) -> Iterator[None]:
    environment = {
        **os.environ,
        "PLIMSOLL_KAFKA__BOOTSTRAP": bootstrap,
        "PLIMSOLL_TOPIC_PREFIX": topics.prefix,
        "PLIMSOLL_DATA_DIR": str(directory / "data"),
        "PLIMSOLL_KEYS_DIR": str(directory / "keys"),
        "PLIMSOLL_RESPONDER__HOST": HOST,
    }
    command = (sys.executable, "-c", "from streams.cli import main; main()", "respond")
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _containers(number: int) -> Iterator[list[str]]:
    """Running containers on a network of their own, gone afterwards."""
    client = docker.from_env(timeout=60)
    name = f"plimsoll-bench-{uuid.uuid4().hex[:8]}"
    images.build(client, f"{name}:1")
    network = client.networks.create(name, driver="bridge")
    made: list[Any] = []
    try:
        for _ in range(number):  # one by one: what was made is removed even if the next fails
            one = client.containers.run(f"{name}:1", detach=True, network=name)
            made.append(one)
        yield [str(one.id) for one in made]
    finally:
        for one in made:
            one.remove(force=True)
        network.remove()
        client.images.remove(f"{name}:1", force=True)
        client.close()


def _at(seconds: Any, percentile: int) -> float:
    return round(float(np.percentile(seconds, percentile)), 3)


if __name__ == "__main__":
    main()
