"""Builders for tests of the response: orders, keys, a runtime in memory, one desk."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.errors import ContainerGone
from models.records.codec import decode, encode
from models.records.order import Action, Order, Outcome
from models.records.signed import Signed
from streams.keys import Role, Signer, Trust, TrustedKey
from streams.responders.base import Responder
from streams.responders.course import Course
from streams.responders.simulated import Simulated
from streams.responders.store import Case, ResponderStore
from streams.responders.witness import Witness
from streams.stores.evidence import EvidenceStore

NOW_NS = 1_790_000_000 * 10**9
SUBJECT = "a" * 64
HOST = "host-of-the-test"
S = 10**9


def order(action: Action = Action.ISOLATE, **fields: Any) -> Order:
    given: dict[str, Any] = {
        "uid": f"order-{uuid.uuid4().hex[:12]}",
        "scope": "default",
        "incident": "inc-1",
        "subject": SUBJECT,
        "host": HOST,
        "action": action,
        "issued_ns": NOW_NS,
        "deadline_ns": NOW_NS + 30 * S,
        "until_ns": NOW_NS + 3600 * S,
    }
    return Order(**{**given, **fields})


class Clock:
    """A clock that stands until it is set on."""

    def __init__(self, now_ns: int = NOW_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)


def signer(name: str = "governor") -> Signer:
    return Signer(name, Ed25519PrivateKey.generate())


def trusting(clock: Clock, *trusted: tuple[Signer, Role]) -> Trust:
    keys = [TrustedKey(one.key, one.name, role, one.public, 0) for one, role in trusted]
    return Trust(keys, clock)


def signed(by: Signer, one: Order) -> bytes:
    return encode(by.sign(encode(one)))


def forged(by: Signer, one: Order, instead: Order) -> bytes:
    """The signature of one order over the bytes of another."""
    return encode(Signed(by.key, by.sign(encode(one)).signature, encode(instead)))


class Memory:
    """A runtime of one container, as small as the simulated platform allows."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {SUBJECT: _fresh()}
        self.calls: list[str] = []
        self.deaf: set[str] = set()
        """Calls that change nothing, as on a runtime that only says it obeyed."""

    def inspect(self, subject: str) -> dict[str, Any] | None:
        return self.containers.get(subject)

    def disconnect(self, subject: str) -> None:
        self._change("disconnect", subject, networks={})

    def reconnect(self, subject: str, state: dict[str, Any]) -> None:
        self._change("reconnect", subject, networks=state)

    def pause(self, subject: str) -> None:
        self._change("pause", subject, state="paused")

    def unpause(self, subject: str) -> None:
        self._change("unpause", subject, state="running")

    def stop(self, subject: str) -> None:
        self._change("stop", subject, state="stopped")

    def start(self, subject: str) -> None:
        self._change("start", subject, state="running")

    def redeploy(self, subject: str) -> str:
        self.stop(subject)
        new = f"{len(self.containers):064x}"
        self.containers[new] = _fresh()
        return new

    def counters(self, subject: str) -> dict[str, int]:
        return {"sent_bytes": 10}

    def processes(self, subject: str) -> list[dict[str, Any]]:
        return [{"pid": 1}]

    def flows(self, subject: str) -> list[dict[str, Any]]:
        return [{"peer": "198.51.100.9"}] if self.probe(subject) else []

    def files(self, subject: str) -> list[dict[str, Any]]:
        return []

    def probe(self, subject: str) -> bool:
        found = self.containers[subject]
        return bool(found["networks"]) and found["state"] == "running"

    def _change(self, call: str, subject: str, **values: Any) -> None:
        if subject not in self.containers:
            raise ContainerGone(subject)
        self.calls.append(call)
        if call not in self.deaf:
            self.containers[subject] = {**self.containers[subject], **values}


def _fresh() -> dict[str, Any]:
    return {"state": "running", "networks": {"shop": {"address": "172.18.0.2"}}}


@dataclass
class Desk:
    """A course over a store in a directory; opened again, it goes on where it was."""

    directory: Path
    memory: Memory = field(default_factory=Memory)
    clock: Clock = field(default_factory=Clock)
    platform: Responder | None = None
    ttl_s: float = 7200.0
    store_class: type[ResponderStore] = ResponderStore

    def __post_init__(self) -> None:
        self.platform = self.platform or Simulated(self.memory)
        self.open()

    def open(self) -> None:
        assert self.platform is not None
        self.store = self.store_class(self.directory / "responder.db")
        self.evidence = EvidenceStore(self.directory / "evidence")
        self.stopping = threading.Event()
        self.course = Course(
            self.platform, self.store, Witness(self.platform, self.evidence, self.clock),
            self.clock, ttl_s=self.ttl_s, stopping=self.stopping,
        )  # fmt: skip  # one line an argument reads worse

    def reopen(self) -> None:
        self.store.close()
        self.open()

    def take(self, one: Order) -> Case:
        """Receive an order and carry it as far as it goes."""
        self.store.receive(("orders", 0, 1), Case(one, "0" * 64, self.clock()))
        return self.go_on(one)

    def go_on(self, one: Order) -> Case:
        self.course.run(one.uid)
        self.course.follow_up(one.uid)
        return self.case(one)

    def case(self, one: Order) -> Case:
        found = self.store.case(one.uid)
        assert found is not None
        return found

    def told(self) -> list[Outcome]:
        return [decode(Outcome, body) for _, body in self.store.untold()]


def releasing(one: Order, **fields: Any) -> Order:
    return replace(
        order(Action.RELEASE), subject=one.subject, host=one.host, undoes=one.uid, **fields
    )
