"""A forest from the telemetry that lies in Kafka: what the judge saw is what it learns from.

The log is judged anew without a forest, in its order; the deviations on the way are the
training rows. No labels, no second path: the very functions that judge live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.contract import KIND_HEADER
from models.errors import BrokerUnreachable, MalformedRecord, PlimsollError
from models.features import NAMES, Array
from models.modelfile import digest, save
from models.pipeline import Arrival, Core, deviations, judge
from models.records.codec import decode
from models.records.manifest import Manifest, Stage
from models.records.telemetry import KINDS, Batch, Tick
from models.state import LineageState
from models.training import fit

MOST_ROWS: Final = 50_000
SKIPPED: Final = 0.3
"""The first part of the window only teaches the baselines: deviations from a baseline that
knows nothing yet tell nothing."""
_WAIT_S: Final = 15.0
_POLL_S: Final = 0.2
_AT_ONCE: Final = 1000

Progress = Callable[[float], None]


class TooLittle(PlimsollError):
    """The window holds too few samples to train on."""


@dataclass(frozen=True, slots=True)
class Window:
    """Training rows and where they come from."""

    rows: Array
    from_ns: int
    until_ns: int
    records: int


def train(
    window: Window, scope: str, *, now_ns: int, active_from_ns: int, seed: int = 0
) -> tuple[Manifest, bytes]:
    """A forest of the window's rows: its manifest, active from a stated event time, and its
    file. The same window and seed give the same file.

    Raises: TooLittle.
    """
    if len(window.rows) < 256:
        raise TooLittle(f"{len(window.rows)} usable samples in the window, needed are 256: wait")
    trees = fit(window.rows, NAMES, seed)
    content = save(trees)
    sha256 = digest(content)
    manifest = Manifest(
        uid=f"forest-{sha256[:12]}", scope=scope, stage=Stage.ACTIVE,
        algorithm="isolation-forest", features=NAMES, sha256=sha256, size_bytes=len(content),
        trained_ns=now_ns, active_from_ns=active_from_ns, rows=len(window.rows),
        from_ns=window.from_ns, until_ns=window.until_ns, detail={"seed": str(seed)},
    )  # fmt: skip  # one thought a line
    return manifest, content


def window(
    kafka: Mapping[str, str], topic: str, scope: str, *, core: Core | None = None,
    progress: Progress = lambda _share: None,
) -> Window:  # fmt: skip  # two lines read better than five
    """Judge all telemetry of one scope that the topic holds now, and keep its deviations.

    Raises: BrokerUnreachable.
    """
    core = core or Core()
    states: dict[str, LineageState] = {}
    found: list[tuple[int, Array]] = []
    records, times_ns = 0, [2**63 - 1, 0]
    for share, record, arrived_ns in _telemetry(kafka, topic):
        progress(share)
        if isinstance(record, Tick):
            due = [group for group, state in states.items() if state.due_ns <= record.at_ns]
            arrivals = [Arrival(group, record, arrived_ns) for group in due]
        elif record.scope == scope:
            records += 1
            arrivals = [Arrival(record.group, record, arrived_ns)]
        else:
            continue
        if isinstance(record, Batch):
            times_ns = [min(times_ns[0], record.at_ns), max(times_ns[1], record.at_ns)]
            found.append((record.at_ns, deviations(states, record, core)))
        states.update(judge(states, arrivals, core).states)
    return Window(_kept(found, times_ns), times_ns[0], times_ns[1], records)


def _kept(found: list[tuple[int, Array]], times_ns: list[int]) -> Array:
    """What came once the baselines knew something; thinned evenly where it is too much."""
    since_ns = times_ns[0] + int((times_ns[1] - times_ns[0]) * SKIPPED)
    rows = [part for at_ns, part in found if at_ns >= since_ns and len(part)]
    if not rows:
        return np.empty((0, len(NAMES)))
    joint = np.concatenate(rows)
    return joint[:: max(1, -(-len(joint) // MOST_ROWS))]


def _telemetry(kafka: Mapping[str, str], topic: str) -> Iterator[tuple[float, Any, int]]:
    """Every readable record up to the current end, with the share read so far. A group's
    records come in their order: they lie in one partition.
    """
    # What retention removes while we read is passed over, not the rest with it.
    consumer = Consumer(
        {**kafka, "group.id": "plimsoll-train", "enable.auto.commit": False,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip  # one thought
    try:
        ends = _ends(consumer, topic)
        total = sum(end - low for low, end in ends.values())
        consumer.assign([TopicPartition(topic, p, low) for p, (low, _end) in ends.items()])
        left = {partition for partition, (low, end) in ends.items() if low < end}
        seen, silent_s = 0, 0.0
        while left:
            messages = consumer.consume(_AT_ONCE, _POLL_S)  # waits until there are so many
            silent_s = 0.0 if messages else silent_s + _POLL_S
            if silent_s > _WAIT_S:
                raise BrokerUnreachable(f"telemetry {topic}: nothing came within {_WAIT_S:.0f} s")
            for message in messages:
                if message.error() is not None:
                    continue
                partition, offset = message.partition() or 0, message.offset() or 0
                if offset >= ends[partition][1] - 1:
                    left.discard(partition)
                seen += 1
                record = _decoded(message)
                if record is not None:
                    yield seen / total, record, message.timestamp()[1] * 1_000_000
    finally:
        consumer.close()


def _ends(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    try:
        partitions = consumer.list_topics(topic, timeout=_WAIT_S).topics[topic].partitions
        return {
            partition: consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_WAIT_S
            )
            for partition in partitions
        }
    except KafkaException as problem:
        raise BrokerUnreachable(f"telemetry {topic}: {problem.args[0].str()}") from problem


def _decoded(message: Any) -> Any:
    """The record, or None: the judge has kept a dead letter of what cannot be read."""
    headers = dict(message.headers() or ())
    kind = (headers.get(KIND_HEADER) or b"").decode(errors="replace")
    try:
        return decode(KINDS[kind], message.value()) if kind in KINDS else None
    except MalformedRecord:
        return None
