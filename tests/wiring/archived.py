"""Archives for tests, from records: written by the archive's own lots, without Kafka."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.contract import KIND_HEADER
from models.records.codec import encode
from models.records.facts import Coverage, Observation
from models.records.inventory import InventoryEntry
from models.records.samples import Samples
from models.records.telemetry import KIND_OF, Batch, Member, Sightings
from streams.archive.layout import Archive
from streams.archive.lot import Lot
from streams.archive.tables import Entry, gap, rows_of

NS = 10**9
START_S = 1_790_000_000
"""2026-09-21, a little after two in the afternoon."""

Record = Batch | Sightings | InventoryEntry | bytes


def archive_of(
    root: Path, records: Iterable[Record], *, missing: int = 0, arrived_s: float | None = None
) -> Path:
    """An archive of one lot a day; ``missing`` offsets were gone before the first record. The
    log took each in at the time that it tells, or all of them at ``arrived_s``.
    """
    offsets: dict[str, int] = defaultdict(lambda: missing)
    with Archive(root) as archive:
        lot = Lot(archive, "cluster", 1 << 30)
        for record in records:
            one = _entry(record, offsets)
            if arrived_s is not None:
                one = replace(one, arrived_ms=int((START_S + arrived_s) * 1000))
            rows = rows_of(one)
            if missing and one.offset == missing:
                rows.append(gap(one.topic, 0, 0, one, "retention"))
            lot.add(one, rows)
        lot.commit()
    return root


def _entry(record: Record, offsets: dict[str, int]) -> Entry:
    if isinstance(record, bytes):
        role, kind, value, at_ns = "telemetry", "batch", record, START_S * NS
    elif isinstance(record, InventoryEntry):
        role, kind, value, at_ns = "inventory", "", encode(record), record.seen_ns
    else:
        role, kind, value, at_ns = "telemetry", KIND_OF[type(record)], encode(record), record.at_ns
    offset = offsets[role]
    offsets[role] += 1
    headers = {KIND_HEADER: kind.encode()}
    return Entry(role, f"p.{role}", 0, offset, at_ns // 10**6, b"k", value, headers)


def batch(
    lineage: str, members: Sequence[Member], at_s: float, *, every_s: float = 10.0,
    **columns: Sequence[float],
) -> Batch:  # fmt: skip  # two lines say as much
    """One sample of each member; a column a feature, NaN where it was not measured."""
    table = Samples(
        tuple(columns), tuple(one.subject for one in members), np.arange(len(members)),
        np.full(len(members), int((START_S + at_s) * NS), np.int64),
        np.array(list(columns.values()), np.float64),
    )  # fmt: skip  # as the fields lie
    return Batch("default", lineage, "web", tuple(members), table, every_s)


def member(number: int, host: str = "h1", **given: Any) -> Member:
    return Member(f"{number:064x}", host, "image@sha256:1", f"name-{number}", **given)


def entry(one: Member, lineage: str, at_s: float = 0.0, **labels: str) -> InventoryEntry:
    return InventoryEntry(
        "default", one.subject, one.host, one.image, lineage, "web", one.name,
        seen_ns=int((START_S + at_s) * NS), labels=dict(labels),
    )  # fmt: skip  # as the fields lie


def silent(host: str, at_s: float) -> Sightings:
    """Gather's word that a host's collector fell silent."""
    of = Member(f"host/{host}", host, "linux", host)
    seen = Observation(of.subject, int((START_S + at_s) * NS), Coverage("silent"))
    return Sightings("default", "host/pool", "", (of,), (seen,))
