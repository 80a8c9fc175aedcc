"""The archive as a log to train on and replay: records as the judge saw them, in their order.

What the tables do not tell is lost: the order of facts of different kinds within one record, and
the limits of a container that was not yet sampled since the reading began. The judge does not
mind; a test holds its verdicts to those that were given live.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.admission import Opened, nobody
from models.errors import ArchiveUnusable, MalformedRecord
from models.records.facts import Observation
from models.records.samples import Samples
from models.records.telemetry import Batch, Member, Sightings, Telemetry, Tick
from models.replay import Recorded
from streams.archive.columns import record, whole_ns
from streams.archive.layout import lots, newest
from streams.archive.tables import FACTS, FEATURES
from streams.archive.views import DAMAGED

_KIND_OF: Final[dict[str, Any]] = {table: kind for kind, table in FACTS.items()}
_TABLES: Final = ("samples", "ticks", "lessons", *_KIND_OF)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one table holds of one record."""

    offset: int
    arrived_ns: int
    table: str
    rows: pa.Table


class ArchivedTelemetry:
    """A source of records, as ``models.replay.Source`` has it; ``topic`` is the telemetry's,
    ``opened`` knows whose lessons count.

    Memory holds one row group a table, however long a day is. Raises: ArchiveUnusable when
    there is no archive, or a file of it can't be read.
    """

    def __init__(
        self, root: Path, topic: str = "plimsoll.telemetry", opened: Opened = nobody
    ) -> None:
        self._opened = opened
        found = newest(root)
        places = {} if found is None else found.reached
        self._places = sorted(place for name, place in places if name == topic)
        if not self._places:
            raise ArchiveUnusable(
                f"archive {root}: nothing of the topic {topic} is there; name the folder with "
                "archive_dir, and the topics' beginning with topic_prefix"
            )
        self._lots = [path for _, path in sorted(lots(root))]
        self._topic = topic
        self.offsets: dict[str, tuple[int, ...]] = {}

    def partitions(self) -> int:
        """As far as they ever held a record: gather's ticks go to all of them."""
        return self._places[-1] + 1

    def span(self) -> tuple[int, int]:
        """Arrival of the oldest record and just past the newest, ns; (0, 0): it is empty."""
        ends = [_ends(path) for path in self._files("samples", "ticks")]
        if not ends:
            return 0, 0
        return min(first for first, _ in ends), max(last for _, last in ends) + 1

    def records(
        self, from_ns: int, until_ns: int, partitions: Sequence[int] = ()
    ) -> Iterator[Recorded]:
        """What arrived in ``[from_ns, until_ns)``, one partition after the other."""
        for place in partitions or self._places:
            members: dict[str, Member] = {}
            tables = [self._parts(table, place, from_ns, until_ns) for table in _TABLES]
            merged = heapq.merge(*tables, key=lambda part: part.offset)
            for offset, parts in groupby(merged, lambda part: part.offset):
                first, end = self.offsets.get(str(place), (offset, offset + 1))
                self.offsets[str(place)] = (min(first, offset), max(end, offset + 1))
                held = list(parts)
                told = self._told(held, members)
                if told is not None:
                    yield Recorded(place, offset, told, held[0].arrived_ns)

    def _told(self, parts: Sequence[_Part], members: dict[str, Member]) -> Telemetry | None:
        """The record; None for a lesson that the judge refused."""
        if parts[0].table != "lessons":
            return _record(parts, members)
        try:
            return self._opened(parts[0].rows["signed"][0].as_py(), parts[0].arrived_ns)
        except MalformedRecord:
            return None

    def _files(self, *tables: str) -> list[Path]:
        named = (lot / f"{table}.parquet" for lot in self._lots for table in tables)
        return [path for path in named if path.exists()]

    def _parts(self, table: str, place: int, from_ns: int, until_ns: int) -> Iterator[_Part]:
        """One table's part of each record of a partition, in the log's order."""
        for path in self._files(table):
            for rows in _groups(path, place, from_ns, until_ns):
                # Findings have ticks of their own.
                ours = table != "ticks" or pc.equal(rows["topic"], self._topic)
                yield from _cut(table, rows if ours is True else rows.filter(ours))


def _groups(path: Path, place: int, from_ns: int, until_ns: int) -> Iterator[pa.Table]:
    """A file's row groups, as far as they are of this partition and time.

    A record's rows lie in one group: lots are written record by record.
    """
    try:
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            rows = whole_ns(file.read_row_group(number))
            mine = pc.and_(
                pc.equal(rows["log_partition"], place),
                pc.and_(
                    pc.greater_equal(rows["log_time"], from_ns),
                    pc.less(rows["log_time"], until_ns or 2**62),
                ),
            )
            yield rows.filter(mine)
    except (OSError, pa.ArrowException) as problem:
        raise ArchiveUnusable(f"archive {path}: {problem} {DAMAGED}") from problem


def _cut(table: str, rows: pa.Table) -> Iterator[_Part]:
    """Where the offset changes, another record begins."""
    offsets, times = rows["log_offset"].to_numpy(), rows["log_time"].to_numpy()
    begins = np.flatnonzero(np.diff(offsets, prepend=-1))
    for first, end in pairwise([*begins, len(offsets)]):
        part = rows.slice(first, end - first)
        yield _Part(int(offsets[first]), int(times[first]), table, part)


def _ends(path: Path) -> tuple[int, int]:
    """The first and last arrival in a file, ns, from what the file says of itself."""
    held = pq.ParquetFile(path).metadata
    at = held.schema.names.index("log_time")
    each = [held.row_group(n).column(at).statistics for n in range(held.num_row_groups)]
    found = pa.array([end for one in each for end in (one.min, one.max)], pa.timestamp("ns"))
    bounds = pc.min_max(found.cast(pa.int64())).as_py()
    return bounds["min"], bounds["max"]


# ---- records ---------------------------------------------------------------------------------


def _record(parts: Sequence[_Part], members: dict[str, Member]) -> Telemetry:
    """``members``: who was met in the partition so far. Observations do not tell a container's
    limits, its samples do.
    """
    if parts[0].table == "ticks":
        return cast("Tick", record(Tick, parts[0].rows.to_pylist()[0]))
    if parts[0].table == "samples":
        batch = _batch(parts[0].rows)
        members |= {member.subject: member for member in batch.members}
        return batch
    return _sightings(parts, members)


def _batch(rows: pa.Table) -> Batch:
    subjects, first, index = _numbered(rows["subject"].to_pylist())
    who = rows.take(first).to_pylist()
    values = np.array([rows[name].to_numpy() for name in FEATURES], np.float64)
    table = Samples(FEATURES, subjects, index, rows["time"].to_numpy(), values)
    one = who[0]
    return Batch(
        one["scope"], one["lineage"], one["role"], tuple(map(_member, who)), table,
        one["interval_s"],
    )  # fmt: skip  # as the fields lie


def _numbered(subjects: Sequence[str]) -> tuple[tuple[str, ...], list[int], Any]:
    """Each subject once, where it first stands, and for each row which one it is."""
    places: dict[str, int] = {}
    index = np.array([places.setdefault(one, len(places)) for one in subjects], np.int64)
    first = np.unique(index, return_index=True)[1]
    return tuple(places), first.tolist(), index


def _sightings(parts: Sequence[_Part], members: dict[str, Member]) -> Sightings:
    rows = [(part.table, row) for part in parts for row in part.rows.to_pylist()]
    who = {row["subject"]: _met(row, members) for _, row in rows}
    seen = tuple(
        Observation(row["subject"], row["time"], record(_KIND_OF[table], row))
        for table, row in rows
    )
    _, one = rows[0]
    return Sightings(one["scope"], one["lineage"], one["role"], tuple(who.values()), seen)


def _met(row: dict[str, Any], members: dict[str, Member]) -> Member:
    """Who an observation is about; the limits are those that its samples told last."""
    told = _member(row)
    known = members.get(told.subject, told)
    return replace(
        told, memory_limit_bytes=known.memory_limit_bytes, cpu_limit_cores=known.cpu_limit_cores
    )


def _member(row: dict[str, Any]) -> Member:
    return Member(
        row["subject"], row["host"], row["image"], row["name"], row.get("started") or 0,
        row.get("memory_limit_bytes") or 0, row.get("cpu_limit_cores") or 0.0,
    )  # fmt: skip  # as the fields lie
