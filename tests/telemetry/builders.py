"""Frames and inventories in a few words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.records.facts import Connection, Direction, Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry, State
from models.records.samples import Samples
from producers.gather.inventory import Inventory
from producers.gather.regroup import Regrouper

NS = 10**9
START_NS = 1_790_000_000 * NS
FEATURES = ("cpu_cores", "processes")


def entry(
    subject: str,
    lineage: str,
    host: str = "h1",
    address: str = "",
    *,
    state: State = State.RUNNING,
    seen_s: float = 0,
) -> InventoryEntry:
    return InventoryEntry(
        "default",
        subject,
        host,
        f"{lineage}@sha256:1",
        lineage,
        "web",
        state=state,
        seen_ns=START_NS + int(seen_s * NS),
        addresses=(address,) if address else (),
    )


def frame(
    subjects: Sequence[str] = (),
    *,
    host: str = "h1",
    at_s: float = 0,
    sequence: int = 0,
    producer: str = "run-1",
    inventory: Sequence[InventoryEntry] = (),
    observations: Sequence[Observation] = (),
    features: tuple[str, ...] = FEATURES,
    dropped: int = 0,
) -> Frame:
    """A sample of each subject, told apart by value: cpu_cores is its time."""
    at_ns, rows = START_NS + int(at_s * NS), len(subjects)
    columns = np.full((len(features), rows), float(at_s))
    times_ns = np.full(rows, at_ns, np.int64)
    samples = Samples(features, tuple(subjects), np.arange(rows), times_ns, columns)
    return Frame(
        "default", host, "pool", producer, sequence, at_ns, 1.0, samples,
        tuple(observations), tuple(inventory), dropped,
    )  # fmt: skip  # as the record orders it


def connection(subject: str, peer: str) -> Observation:
    return Observation(subject, START_NS, Connection(Direction.EGRESS, peer, 443, "tcp"))


def regrouper(*entries: InventoryEntry, batch_samples: int = 1000) -> Regrouper:
    made = Regrouper(Inventory(), batch_samples, unknown_wait_ns=10 * NS)
    for one in entries:
        made.learn(one)
    return made
