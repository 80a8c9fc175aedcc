"""A real ``plimsoll respond`` process, and the Kafka around it, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition

from models.contract import PARTITIONER, Topics
from models.records.codec import decode, encode
from models.records.order import Action, Order, Outcome, Status
from models.records.rejected import DeadLetter
from models.settings import Kafka
from streams import keys
from streams.keys import Role, Signer
from streams.responders.store import Case, ResponderStore
from streams.stores.log import LogReader
from tests.responding import S, order, releasing

R = TypeVar("R")

HOST = "machine-of-the-test"
RESPOND = (sys.executable, "-c", "from streams.cli import main; main()", "respond")
DIES = (sys.executable, "-m", "tests.docker.respond_and_die")


PATIENCE_S = 90.0
"""A machine that is busy with other tests takes its time; none of them waits for this."""


def until(
    look: Callable[[], R | None], what: Callable[[], str], timeout_s: float = PATIENCE_S
) -> R:
    """What ``look`` finds, as soon as it finds it; fails with ``what`` after the deadline."""
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s:.0f} s: {what()}")


@dataclass
class Post:
    """One host's responder: its settings, its keys, what it said."""

    directory: Path
    bootstrap: str
    topics: Topics
    docker_host: str = "unix:///var/run/docker.sock"
    timeout_s: float = 10.0
    said: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        keys.create(self.keys_dir, "governor", Role.GOVERNOR, time.time_ns() - S)
        self.signer = Signer.load(self.keys_dir, "governor")
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": PARTITIONER})
        self._outcomes = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test"})
        self._outcomes.assign([TopicPartition(self.topics.outcomes, 0, 0)])

    @property
    def keys_dir(self) -> Path:
        return self.directory / "keys"

    @property
    def log(self) -> str:
        path = self.directory / "respond.log"
        return path.read_text() if path.exists() else ""

    def order(self, subject: str, action: Action = Action.ISOLATE, **fields: Any) -> Order:
        now_ns = time.time_ns()
        given: dict[str, Any] = {
            "host": HOST, "issued_ns": now_ns, "deadline_ns": now_ns + 120 * S,
            "until_ns": now_ns + 600 * S, "subject": subject,
        }  # fmt: skip  # pairs in lines
        return order(action, **{**given, **fields})

    def send(self, one: Order, *, key: str = HOST) -> None:
        self.send_bytes(encode(self.signer.sign(encode(one))), key=key)

    def send_bytes(self, value: bytes, *, key: str = HOST, topic: str = "") -> None:
        self._producer.produce(topic or self.topics.orders, value, key)
        assert self._producer.flush(20) == 0

    def outcomes(self, of: str = "") -> list[Outcome]:
        """All that was told so far, or of one order."""
        while (message := self._outcomes.poll(0.05)) is not None:
            if message.error() is None:
                self.said.append(decode(Outcome, message.value()))
        return [one for one in self.said if not of or one.order == of]

    def outcome(
        self, of: str, status: Status = Status.DONE, timeout_s: float = PATIENCE_S
    ) -> Outcome:
        """The first outcome of an order with this status, once it is there."""
        return until(
            lambda: next((one for one in self.outcomes(of) if one.status is status), None),
            lambda: f"{status} of {of}: {self.said}\n{self.log}",
            timeout_s,
        )

    def letters(self, count: int) -> list[DeadLetter]:
        """The dead letters, once there are so many."""
        log = LogReader(Kafka(bootstrap=self.bootstrap))

        def found() -> list[DeadLetter]:
            scanned = log.scan(self.topics.rejected)
            letters = [decode(DeadLetter, message.value()) for message in scanned]
            return letters if len(letters) >= count else []

        return until(found, lambda: self.log)

    def release(self, one: Order) -> Outcome:
        """Let go of what an order holds; the outcome of that word, once it is there."""
        now_ns = time.time_ns()
        word = releasing(one, issued_ns=now_ns, deadline_ns=now_ns + 120 * S)
        self.send(word)
        return self.outcome(word.uid, Status.RELEASED)

    @contextmanager
    def running(self, command: Sequence[str] = RESPOND) -> Iterator[subprocess.Popen[bytes]]:
        """A responder process; ended as an operator would, if it lives."""
        with (self.directory / "respond.log").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)

    def case(self, one: Order) -> Case:
        """What its store holds of an order; only while no process has it."""
        store = ResponderStore(self.directory / "data" / "responder.db")
        try:
            found = store.case(one.uid)
        finally:
            store.close()
        assert found is not None
        return found

    def close(self) -> None:
        self._outcomes.close()

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PLIMSOLL_KAFKA__BOOTSTRAP": self.bootstrap,
            "PLIMSOLL_TOPIC_PREFIX": self.topics.prefix,
            "PLIMSOLL_DATA_DIR": str(self.directory / "data"),
            "PLIMSOLL_KEYS_DIR": str(self.keys_dir),
            "PLIMSOLL_RESPONDER__HOST": HOST,
            "PLIMSOLL_RESPONDER__DOCKER_HOST": self.docker_host,
            "PLIMSOLL_RESPONDER__RUNTIME_TIMEOUT_S": str(self.timeout_s),
            "PLIMSOLL_RESPONDER__EVIDENCE_S": str(PATIENCE_S),  # a busy machine is slow to look
        }
