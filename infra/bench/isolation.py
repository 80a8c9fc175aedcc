"""How long from a finding to a verified isolation, on the real engine and a real Kafka.

``python -m infra.bench.isolation --runs 30`` lets a governor and a responder isolate as many
containers, one after the other, and prints one JSON line (p50 and p99 in seconds): from
producing the finding to reading its alert, the verified outcome, and the alert that says so;
and what the responder took of that, by its own word.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import docker
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from infra import images
from infra.kafka import KafkaServer
from models.contract import KIND_HEADER, Topics
from models.records.codec import decode, encode
from models.records.order import Action, Outcome, Status
from models.records.verdict import Evidence, Family, Finding, Level, Reason, Verdict

HOST: Final = "bench"
PATIENCE_S: Final = 60.0
STOP_S: Final = 90.0
POLICY: Final = """\
mode = "enforce"

[guards]
per_hour = 100000
"""
PLIMSOLL: Final = (sys.executable, "-m", "streams")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    with (
        tempfile.TemporaryDirectory() as made,
        KafkaServer(Path(made) / "kafka") as kafka,
        _parts(Path(made), kafka.bootstrap),
        _containers(runs + 1) as subjects,
    ):
        line = Line(kafka.bootstrap)
        # The first one waits for the start, and pays for what is loaded on first use.
        timed = [line.isolated(number, subject) for number, subject in enumerate(subjects)][1:]
        line.close()
        _tell(timed)  # before anything is taken down, which may fail as well


def _tell(timed: list[Timed]) -> None:
    figures = {
        "alerted": [one.alerted_s for one in timed],
        "verified": [one.verified_s for one in timed],
        "verified_alerted": [one.told_s for one in timed],
        "responder": [one.outcome.took_s for one in timed],
    }
    told = {f"{name}_s": _percentiles(seconds) for name, seconds in figures.items()}
    sys.stdout.write(orjson.dumps({"n": len(timed), **told}).decode() + "\n")


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds since the finding was produced."""

    alerted_s: float
    verified_s: float
    told_s: float
    outcome: Outcome


class Line:
    """Findings in, alerts and outcomes out."""

    def __init__(self, bootstrap: str) -> None:
        self._topics = Topics()
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._reader = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "bench", "fetch.wait.max.ms": 10}
        )
        followed = [
            TopicPartition(topic, part, 0)
            for topic in (self._topics.alerts, self._topics.outcomes)
            for part in self._reader.list_topics(topic, 20).topics[topic].partitions
        ]
        self._reader.assign(followed)

    def close(self) -> None:
        self._reader.close()

    def isolated(self, number: int, subject: str) -> Timed:
        """One container, from found to verified. An image each: no guard is in the way."""
        began_s = time.monotonic()
        headers: Any = [(KIND_HEADER, b"finding")]
        self._producer.produce(
            self._topics.findings, encode(_finding(number, subject)), partition=0, headers=headers
        )
        self._producer.flush(10)
        alerted_s, verified = 0.0, None
        while (now_s := time.monotonic() - began_s) < PATIENCE_S:
            message = self._reader.poll(0.2)
            if message is None or message.error() is not None:
                continue
            now_s = time.monotonic() - began_s
            if message.topic() == self._topics.outcomes:
                outcome = decode(Outcome, message.value())
                if outcome.subject == subject and verified is None:
                    assert (outcome.status, outcome.verified) == (Status.DONE, True), outcome
                    assert outcome.action is Action.ISOLATE, outcome.action
                    verified = now_s, outcome
                continue
            alert = orjson.loads(message.value() or b"")
            if alert["resources"][0]["uid"] != subject:
                continue
            alerted_s = alerted_s or now_s
            if verified is not None and any(
                act["verified"] for act in alert["unmapped"]["actions"]
            ):
                return Timed(alerted_s, verified[0], now_s, verified[1])
        raise TimeoutError(f"{subject[:12]} was not isolated within {PATIENCE_S:.0f} s")


def _finding(number: int, subject: str) -> Finding:
    now_ns = time.time_ns()
    reason = Reason(Family.PROCESS, Evidence.PROOF, "runs a program that is not in its image")
    verdict = Verdict(
        uid=f"v-{number}", scope="default", lineage=f"bench/{number}", role="",
        image=f"bench/{number}@1", subject=subject, host=HOST, from_ns=now_ns - 10**9,
        at_ns=now_ns, level=Level.COMPROMISED, score=1.0, families=(Family.PROCESS,),
        reasons=(reason,), name=f"bench-{number}",
    )  # fmt: skip  # one line an argument reads worse
    return Finding(verdict, Level.QUIET, now_ns)


@contextmanager
def _parts(directory: Path, bootstrap: str) -> Iterator[None]:
    """A governor and a responder, under the supervisor that a deployment has."""
    policy = directory / "policy.toml"
    policy.write_text(POLICY)
    ours = {
        "KAFKA__BOOTSTRAP": bootstrap,
        "DATA_DIR": str(directory / "data"),
        "GOVERNOR__POLICY_FILE": str(policy),
        "GOVERNOR__WITHOUT_REPLAY": "a measurement",
        "RESPONDER__HOST": HOST,
        "UP__PARTS": '["respond", "govern"]',
    }
    kept = {name: v for name, v in os.environ.items() if not name.startswith("PLIMSOLL_")}
    environment = kept | {f"PLIMSOLL_{name}": value for name, value in ours.items()}
    for words in (("topics", "create"), ("keys", "init")):
        subprocess.run((*PLIMSOLL, *words), env=environment, check=True, capture_output=True)
    with (directory / "up.log").open("wb") as log:
        process = subprocess.Popen(
            (*PLIMSOLL, "up"), env=environment, stdout=log, stderr=log, cwd=directory
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _containers(number: int) -> Iterator[list[str]]:
    """Running containers on a network of their own, gone afterwards."""
    client = docker.from_env(timeout=60)
    name = f"plimsoll-bench-{uuid.uuid4().hex[:8]}"
    undo: list[Callable[[], Any]] = [client.close]
    try:
        images.build(client, f"{name}:1")
        undo.append(partial(client.images.remove, f"{name}:1", force=True))
        network = client.networks.create(name, driver="bridge")
        undo.append(network.remove)
        subjects = []
        for _ in range(number):
            one = client.containers.run(f"{name}:1", detach=True, network=name)
            undo.append(partial(one.remove, force=True))
            subjects.append(str(one.id))
        yield subjects
    finally:
        for step in reversed(undo):
            step()


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{at}": round(float(np.percentile(seconds, at)), 3) for at in (50, 99)}


if __name__ == "__main__":
    main()
