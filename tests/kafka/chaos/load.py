"""What the line is fed: frames of a fleet, some junk between them, and findings to act upon.

Written by a thread, as many as are allowed so far: the faults set the pace, so that records
come for as long as there are faults. A baseline learns for longer than a run lasts, so the
findings that isolate come from here, beside those of the judge.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from confluent_kafka import Producer

from models.contract import KIND_HEADER, ONLY_PARTITION, PARTITIONER, Topics
from models.records.codec import encode
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.samples import Samples
from models.records.telemetry import Batch, Member
from models.records.verdict import Evidence, Family, Finding, Level, Reason, Verdict

HOSTS: Final = 100
EACH: Final = 2
"""Containers of a host."""
LINEAGES: Final = 10
JUNK_EVERY: Final = 2_000
ODD_EVERY: Final = 500
FEATURES: Final = ("cpu_cores", "memory_working_set_bytes", "network_transmit_bytes_per_s")
USUAL: Final = np.array([0.3, 2.5e8, 2e4])
ODD: Final = {94: "misdated", 95: "twice", 96: "swapped", 97: "behind", 98: "ahead", 99: "gaps"}
"""Hosts whose collectors do what none should; each has a lineage of its own."""
SKEW_NS: Final = 120 * 10**9
TOO_FAR_NS: Final = 900 * 10**9
ODD_GROUP: Final = "default/odd/batches/"
ATTACKED: Final = "host-0"
POOL: Final = 512
"""Rows of noise, used in turn: numbers are not what is tried here."""


def host_name(number: int) -> str:
    return f"host-{number}"


def subject_of(host: int, number: int) -> str:
    return f"{host:032x}{number:032x}"


@dataclass
class Load:
    """Writes frames while :meth:`allow` says so; remembers what it wrote, place by place."""

    bootstrap: str
    topics: Topics
    seed: int = 1
    written: int = 0
    frames: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Times of each host's frames: every one of its containers has a row at each. Without those
    that gather must drop: of two that were swapped, the older one comes too late.
    """
    junk: set[tuple[int, int]] = field(default_factory=set)
    """Places of what is no frame, or from a clock that is too far ahead."""
    findings: set[bytes] = field(default_factory=set)
    """What was found of containers that nobody watches."""

    def __post_init__(self) -> None:
        noise = np.random.default_rng(self.seed).lognormal(0, 0.2, (POOL, len(FEATURES), EACH))
        self._rows = USUAL[None, :, None] * noise
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap, "partitioner": PARTITIONER, "linger.ms": 5,
                "enable.idempotence": True, "message.timeout.ms": 0, "log_level": 0,
            }
        )  # fmt: skip  # a table
        self._sequence = [0] * HOSTS
        self._allowed = 0
        self._attacks = 0
        self._refused: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._write, name="load", daemon=True)
        self._thread.start()

    def allow(self, messages: int) -> None:
        """So many in all."""
        with self._changed:
            self._allowed = max(self._allowed, messages)
            self._changed.notify()

    def attack(self) -> None:
        """One more container is found compromised."""
        with self._changed:
            self._attacks += 1
            self._changed.notify()

    def flush(self) -> None:
        """Wait until the broker has all that was allowed; then nothing more is written."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        assert self._producer.flush(120) == 0
        assert not self._refused, self._refused[:3]

    # ---- the thread -------------------------------------------------------------------------

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._due() and not self._ended:
                    self._changed.wait(0.2)
                if not self._due():
                    return
                attacks, self._attacks = self._attacks, 0
            for _ in range(attacks):
                self._send_finding()
            for _ in range(min(self._allowed - self.written, 200)):
                self._send_next()
            self._producer.poll(0)

    def _due(self) -> bool:
        return self.written < self._allowed or self._attacks > 0

    def _send_next(self) -> None:
        if self.written % JUNK_EVERY == JUNK_EVERY - 1:
            self.written += 1
            self._produce(self.topics.samples, b"\xffno frame", b"junk", self._note_junk)
        else:
            host = self.written % HOSTS
            self._send_frame(host, ODD.get(host, ""))
        if self.written % ODD_EVERY == 0:
            self._send_odd_batches()

    def _send_frame(self, host: int, odd: str) -> None:
        at_ns = self._time_of(host, odd)
        if odd == "gaps" and self._sequence[host] % 10 == 9:
            self._sequence[host] += 1  # a frame that never comes
        self.written += 1
        if odd == "misdated" and self._sequence[host]:
            value = encode(self._frame(host, at_ns + TOO_FAR_NS))
            self._produce(self.topics.samples, value, host_name(host).encode(), self._note_junk)
            return
        made = self._frame(host, at_ns)
        self.frames[host].append(at_ns)
        values = [encode(made)]
        if odd == "twice":
            values *= 2
        if odd == "swapped" and made.sequence:
            values.insert(0, encode(self._frame(host, at_ns + 1)))
            self.frames[host][-1] += 1
        for value in values:
            self._produce(self.topics.samples, value, host_name(host).encode(), self._note)

    def _time_of(self, host: int, odd: str) -> int:
        skew_ns = {"behind": -SKEW_NS, "ahead": SKEW_NS}.get(odd, 0)
        before_ns = self.frames[host][-1] if self.frames[host] else 0
        return max(time.time_ns() + skew_ns, before_ns + 1)

    def _frame(self, host: int, at_ns: int) -> Frame:
        """The next one of a host."""
        sequence = self._sequence[host]
        self._sequence[host] += 1
        subjects = tuple(subject_of(host, number) for number in range(EACH))
        known = [_entry(host, at, one, at_ns) for at, one in enumerate(subjects) if not sequence]
        samples = Samples(FEATURES, subjects, np.arange(EACH), np.full(EACH, at_ns),
                          self._rows[self.written % POOL])  # fmt: skip  # as the fields lie
        return Frame("default", host_name(host), "pool", "load", sequence, at_ns, 1.0, samples,
                     inventory=tuple(known))  # fmt: skip  # as the fields lie

    def _send_odd_batches(self) -> None:
        """To the judge itself: what comes twice, late, from the future, and is no record."""
        now_ns = time.time_ns()
        values = [encode(odd_batch(now_ns + ahead_ns, self._rows[self.written % POOL]))
                  for ahead_ns in (0, 0, -SKEW_NS, SKEW_NS, TOO_FAR_NS)]  # fmt: skip  # two lines
        for value in (*values, b"\xffno record"):
            self._produce(
                self.topics.telemetry, value, ODD_GROUP.encode(), self._note,
                headers=[(KIND_HEADER, b"batch")],
            )  # fmt: skip  # one call

    def _send_finding(self) -> None:
        value = encode(found(len(self.findings), time.time_ns()))
        self.findings.add(value)
        self._produce(
            self.topics.findings, value, None, self._note, partition=ONLY_PARTITION,
            headers=[(KIND_HEADER, b"finding")],
        )  # fmt: skip  # one call

    def _produce(self, topic: str, value: bytes, key: bytes | None, note: Any, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=note, **more)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _note(self, problem: Any, _message: Any) -> None:
        if problem is not None:
            self._refused.append(str(problem))

    def _note_junk(self, problem: Any, message: Any) -> None:
        self._note(problem, message)
        self.junk.add((message.partition(), message.offset()))


def _entry(host: int, at: int, subject: str, at_ns: int) -> InventoryEntry:
    lineage = f"shop/part-{(host * EACH + at) % LINEAGES}"
    if host in ODD:
        lineage = f"odd/{ODD[host]}"
    image = f"{lineage}@sha256:{1:064d}"
    return InventoryEntry("default", subject, host_name(host), image, lineage, seen_ns=at_ns)


def odd_batch(at_ns: int, rows: Any) -> Batch:
    lineage = ODD_GROUP.split("/", 1)[1].rstrip("/")
    subjects = tuple(subject_of(2**33, number) for number in range(EACH))
    members = tuple(Member(one, "host-odd", f"{lineage}@sha256:{1:064d}") for one in subjects)
    samples = Samples(FEATURES, subjects, np.arange(EACH), np.full(EACH, at_ns), rows)
    return Batch("default", lineage, "", members, samples, 1.0)


def found(number: int, at_ns: int) -> Finding:
    """A container of the host that has a responder: it sends data out, and runs what it must
    not.
    """
    reason = Reason(Family.PROCESS, Evidence.PROOF, "/tmp/.x/agent runs and is not in the image")
    lineage, subject = f"shop/victim-{number}", subject_of(2**32, number)
    verdict = Verdict(
        f"v-{subject}-{at_ns}", "default", lineage, "", f"{lineage}@sha256:{1:064d}", subject,
        ATTACKED, at_ns - 10**9, at_ns, Level.COMPROMISED, 0.9, (Family.PROCESS,), (reason,),
    )  # fmt: skip  # as the fields lie
    return Finding(verdict, Level.QUIET, at_ns, 4)
