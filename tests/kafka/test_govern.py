"""The governor on a real Kafka: killed in the middle of an incident, nothing ordered twice."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from models.contract import KIND_HEADER, PARTITIONER, Topics, partition_of
from models.evidence import Head, verify
from models.records.codec import decode, encode
from models.records.control import Verb, Word
from models.records.exhibit import Exhibit
from models.records.manifest import LEAD_NS, Rehearsal
from models.records.order import Action, Order, Outcome, Status
from models.records.rejected import DeadLetter
from models.records.signed import Signed
from models.records.verdict import Finding, Level
from models.settings import Kafka
from models.words import WordAnswer
from streams import keys
from streams.alerts import unwrapped
from streams.bounds import bounds
from streams.keys import Role, Signer, TrustFile
from streams.stores.models import ModelStore
from streams.stores.registry import Registry
from tests.core.governing import START_NS, finding, outcome
from tests.fixtures_kafka import TestKafka

PATIENCE_S = 60.0


@dataclass
class Stand:
    """Topics, keys and policy of one test, and the governors that it started."""

    kafka: TestKafka
    directory: Path
    topics: Topics
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys.ensure(self.directory / "keys", time.time_ns())
        (self.directory / "policy.toml").write_text('mode = "enforce"\n')
        self.producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "partitioner": PARTITIONER}
        )
        self.began_s = time.time()

    def worker(
        self, commit_interval_s: float = 0.5, without_replay: str = "a test"
    ) -> subprocess.Popen[bytes]:
        ours = {
            "GOVERNOR__COMMIT_INTERVAL_S": str(commit_interval_s),
            "KAFKA__BOOTSTRAP": self.kafka.bootstrap, "DATA_DIR": str(self.directory),
            "TOPIC_PREFIX": self.topics.prefix, "GOVERNOR__SESSION_TIMEOUT_S": "6",
            "GOVERNOR__GROUP": f"{self.topics.prefix}governor",
            "GOVERNOR__POLICY_FILE": str(self.directory / "policy.toml"),
            "GOVERNOR__WITHOUT_REPLAY": without_replay,
        }  # fmt: skip  # a table
        environment = os.environ | {f"PLIMSOLL_{name}": value for name, value in ours.items()}
        with (self.directory / f"govern-{len(self.workers)}.log").open("wb") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "govern"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip  # one call, one thought
        self.workers.append(started)
        return started

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def said(self) -> str:
        """The last words of every governor, for a failure's message."""
        logs = sorted(self.directory.glob("govern-*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)

    # ---- in -------------------------------------------------------------------------------

    def find(self, level: Level = Level.COMPROMISED, container: int = 1) -> Finding:
        """A finding of now, of an image of the container's own, written to its topic."""
        at_s, lineage = time.time() - START_NS / 1e9, f"registry/shop/cart-{container}"
        found = finding(level, at_s, container=container, lineage=lineage)
        self._write(self.topics.findings, encode(found), "finding")
        return found

    def answer(self, given: Outcome) -> None:
        self._write(self.topics.outcomes, encode(given))

    def say(
        self, verb: Verb, target: str = "", *, signer: str = "operator", name: str = ""
    ) -> Word:
        now_ns = time.time_ns()
        said = Word(f"w-{now_ns}", "default", verb, target, name or signer, now_ns)
        signed = Signer.load(self.directory / "keys", signer).sign(encode(said))
        self._write(self.topics.control, encode(signed))
        return said

    def _write(self, topic: str, value: bytes, kind: str = "") -> None:
        headers: list[tuple[str, str | bytes | None]]
        headers = [(KIND_HEADER, kind.encode())] if kind else []
        self.producer.produce(topic, value, partition=0, headers=headers)
        self.producer.flush(20)
        flushed_ms = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == flushed_ms:
            pass  # the log tells milliseconds: what comes next is to come later

    # ---- out ------------------------------------------------------------------------------

    def read(self, topic: str) -> list[Any]:
        """Everything in a topic up to its present end."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "none"})
        try:
            partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            ends = {p: bounds(consumer, topic, p)[1] for p in partitions}
            consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
            found: list[Any] = []
            deadline = time.monotonic() + 20
            while len(found) < sum(ends.values()) and time.monotonic() < deadline:
                found += [m for m in consumer.consume(500, 0.2) if m.error() is None]
            return found
        finally:
            consumer.close()

    def orders(self) -> list[Order]:
        trust = TrustFile(self.directory / "keys", time.time_ns)
        signed = [decode(Signed, message.value()) for message in self.read(self.topics.orders)]
        return [decode(Order, trust.verify(one, Role.GOVERNOR)) for one in signed]

    def alerts(self) -> list[dict[str, Any]]:
        return [
            unwrapped(m.key(), m.value(), m.headers() or []) for m in self.read(self.topics.alerts)
        ]

    def answers(self) -> dict[str, WordAnswer]:
        found = [m for m in self.read(self.topics.control_state) if m.key().startswith(b"word/")]
        answers = [decode(WordAnswer, message.value()) for message in found]
        return {one.word: one for one in answers}

    def await_(self, what: Callable[[], Any]) -> Any:
        """The first truth that ``what`` tells."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = what()
            if found:
                return found
            time.sleep(0.2)
        pytest.fail(f"not within {PATIENCE_S:.0f} s; {self.said()}")


@pytest.fixture
def stand(kafka: TestKafka, tmp_path: Path) -> Iterator[Stand]:
    topics = kafka.topics(
        findings=1, control=1, control_state=1, outcomes=1, orders=2, alerts=2, evidence=2,
        rejected=2, models=1,
    )  # fmt: skip  # as many partitions as each needs
    made = Stand(kafka, tmp_path, topics)
    yield made
    made.stop()


def test_a_governor_killed_in_the_middle_of_an_incident_is_followed_by_the_other(
    stand: Stand,
) -> None:
    """A standby that forgot would isolate again, or never release; both are outages."""
    first = stand.worker(commit_interval_s=60)  # all it does is done again by the other
    stand.find()
    (isolate,) = stand.await_(stand.orders)
    second = stand.worker()
    first.send_signal(signal.SIGKILL)
    stand.find(Level.SUSPECT)  # comes while nobody is there
    stand.answer(outcome(isolate, at_s=time.time() - START_NS / 1e9))

    contained = stand.await_(lambda: [a for a in stand.alerts() if _stage(a) == "contained"])
    assert contained[-1]["finding_info"]["uid"] == isolate.incident
    assert second.poll() is None
    said = stand.say(Verb.RELEASE, isolate.incident)
    release = stand.await_(lambda: [o for o in stand.orders() if o.action is Action.RELEASE])[0]
    third = stand.worker()
    second.send_signal(signal.SIGKILL)
    stand.answer(outcome(release, Status.RELEASED, time.time() - START_NS / 1e9, stage="released"))
    stand.await_(lambda: [a for a in stand.alerts() if _stage(a) == "released"])

    assert stand.answers()[said.uid].accepted
    orders = stand.orders()
    assert {o.uid for o in orders} == {isolate.uid, release.uid}
    assert len({encode(o) for o in orders}) == 2  # sent again after a kill, never another one
    assert _chain_holds(stand, isolate.incident)
    third.send_signal(signal.SIGTERM)
    assert third.wait(30) == 0, stand.said()


def test_a_replay_that_is_recorded_while_it_runs_lets_it_enforce(stand: Stand) -> None:
    """Nobody restarts a governor at the moment at which it may act at last."""
    stand.worker(without_replay="")
    stand.find(container=1)
    stand.await_(lambda: [a for a in stand.alerts() if _stage(a) == "proposed"])
    assert not stand.orders()

    directory, now_ns = stand.directory, time.time_ns()
    digest = hashlib.sha256((directory / "policy.toml").read_bytes()).hexdigest()
    registry = Registry(
        Kafka(bootstrap=stand.kafka.bootstrap), stand.topics, "default",
        store=ModelStore(directory / "models"), trust=TrustFile(directory / "keys", time.time_ns),
    )  # fmt: skip  # one line a thought
    passed = Rehearsal(
        "replay-1", "default", "", digest, 1.0, now_ns, now_ns, now_ns, "trainer", 100, 0, 1
    )
    registry.say(passed, Signer.load(directory / "keys", "trainer"))

    containers = itertools.count(2)

    def ordered() -> list[Order]:
        stand.find(container=next(containers))
        return stand.orders()

    (first, *_) = stand.await_(ordered)
    assert first.action is Action.ISOLATE
    assert first.issued_ns >= now_ns + LEAD_NS


def test_findings_and_words_count_in_the_order_in_which_they_were_written(stand: Stand) -> None:
    """A governor that takes over finds them all at once, in topics of their own: whoever has
    stopped orders must not see one given because findings were fetched first.
    """
    allowed = [stand.find(container=1), stand.find(container=2)]
    stand.say(Verb.STOP)
    for number in range(3, 40):
        stand.find(container=number)
    stand.say(Verb.RESUME)
    allowed.append(stand.find(container=40))
    stand.worker()
    last = allowed[-1].verdict.subject
    stand.await_(lambda: [order for order in stand.orders() if order.subject == last])

    ordered = {order.subject for order in stand.orders()}
    assert ordered == {one.verdict.subject for one in allowed}


def test_what_is_not_trusted_is_kept_with_its_reason_and_changes_nothing(stand: Stand) -> None:
    """A word decides over production: its key, role and name have to hold."""
    stand.worker()
    stand.say(Verb.STOP, signer="governor")  # not an operator's key
    stand.say(Verb.STOP, signer="operator", name="ann")  # in the name of another
    stand.producer.produce(stand.topics.findings, b"{", partition=0)
    stand.find()
    stand.await_(stand.orders)  # the stop did not count, the bad record harmed no neighbour

    letters = [decode(DeadLetter, m.value()) for m in stand.read(stand.topics.rejected)]
    assert sorted(letter.fault for letter in letters) == [
        "unknown-schema", "untrusted", "untrusted",
    ]  # fmt: skip  # in order
    assert any("role governor" in letter.reason for letter in letters)
    assert any("speaks with the key of 'operator'" in letter.reason for letter in letters)


def _stage(alert: dict[str, Any]) -> str:
    return str(alert["unmapped"]["stage"])


def _chain_holds(stand: Stand, incident: str) -> bool:
    trust = TrustFile(stand.directory / "keys", time.time_ns)
    exhibits, heads = [], []
    for message in stand.read(stand.topics.evidence):
        assert message.partition() == partition_of(incident.encode(), 2)
        if dict(message.headers())[KIND_HEADER] == b"head":
            signed = decode(Signed, message.value())
            heads.append(decode(Head, trust.verify(signed, Role.GOVERNOR)))
        else:
            exhibits.append(decode(Exhibit, message.value()))
    verified = verify(exhibits, heads)
    assert {"finding", "order", "outcome", "word"} <= {one.kind for one in verified.chain}
    return verified.holds
