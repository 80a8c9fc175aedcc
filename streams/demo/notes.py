"""What the topics say while the demo runs, noted by a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from confluent_kafka import Consumer, TopicPartition

from models.contract import KIND_HEADER, Topics
from models.records.codec import decode
from models.records.order import Order, Outcome
from models.records.rejected import DeadLetter
from models.records.signed import Signed
from models.records.verdict import Finding, Summary, Verdict

_ASK_S: Final = 10.0
_POLL_S: Final = 0.05
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Notes:
    """Everything seen so far; guarded by ``lock``. Newest last."""

    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    summaries: dict[str, Summary] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    rejected: list[DeadLetter] = field(default_factory=list)
    alerts: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)


class NoteTaker:
    """Reads from the beginning of every topic that matters, without a group."""

    def __init__(self, kafka: Mapping[str, str], topics: Topics) -> None:
        self.notes = Notes()
        self._readers = self._by_topic(topics)
        self._consumer = Consumer(
            {**kafka, "group.id": "plimsoll-demo", "enable.auto.commit": False,
             "auto.offset.reset": "earliest",
             "fetch.wait.max.ms": 20}
        )  # fmt: skip  # one thought
        self._consumer.assign([p for topic in self._readers for p in self._partitions(topic)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="notes", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _partitions(self, topic: str) -> list[TopicPartition]:
        found = self._consumer.list_topics(topic, timeout=_ASK_S).topics[topic].partitions
        return [TopicPartition(topic, partition, 0) for partition in found]

    def _by_topic(self, topics: Topics) -> dict[str, Callable[[str, bytes], None]]:
        return {
            topics.verdicts: self._verdict, topics.findings: self._finding,
            topics.orders: self._order, topics.outcomes: self._outcome,
            topics.alerts: self._alert, topics.rejected: self._rejected,
        }  # fmt: skip  # a table

    def _read(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(_AT_ONCE, _POLL_S):
                if message.error() is None and message.value() is not None:
                    headers: Any = dict(message.headers() or ())
                    kind = (headers.get(KIND_HEADER) or b"").decode()
                    with self.notes.lock:
                        self._readers[message.topic() or ""](kind, message.value() or b"")

    def _verdict(self, kind: str, body: bytes) -> None:
        if kind == "summary":
            summary = decode(Summary, body)
            self.notes.summaries[summary.group] = summary
            self.notes.counted["samples"] += summary.samples
        else:
            self.notes.verdicts.append(decode(Verdict, body))

    def _finding(self, kind: str, body: bytes) -> None:
        if kind == "finding":
            self.notes.findings.append(decode(Finding, body))

    def _order(self, _kind: str, body: bytes) -> None:
        order = decode(Order, decode(Signed, body).payload)
        self.notes.orders[order.uid] = order

    def _outcome(self, _kind: str, body: bytes) -> None:
        self.notes.outcomes.append(decode(Outcome, body))

    def _alert(self, _kind: str, _body: bytes) -> None:
        self.notes.alerts += 1

    def _rejected(self, _kind: str, body: bytes) -> None:
        self.notes.rejected.append(decode(DeadLetter, body))
