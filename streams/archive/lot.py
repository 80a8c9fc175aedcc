"""The lot that is being written: rows of every table, by day, as Parquet files in drafts."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive.layout import Archive, Manifest, Place, Span, damaged, day_of, keep
from streams.archive.tables import FEATURES, SCHEMAS, Entry, Rows, table_of

GROUP_ROWS: Final = 60_000
"""Rows in memory, a table, before they are written as one row group."""
GROUP_BYTES: Final = 16 << 20
"""The same in bytes, for tables with long texts."""
GROUP_RECORDS: Final = 2_000
"""The same in records: each costs some memory of its own, however small it is."""
MOST_DAYS: Final = 4
"""Days open at once; more are open only while a backlog is read or clocks are wrong."""

_DELTA: Final = {"log_time", "log_partition", "log_offset", "time"}
"""Columns of numbers that hardly change from row to row."""


@dataclass(slots=True)
class _File:
    """One table of one day."""

    path: Path
    table: str
    rows: int = 0
    _pending: list[Any] = field(default_factory=list)
    _pending_rows: int = 0
    _pending_bytes: int = 0
    _file: IO[bytes] | None = None
    _writer: Any = None

    @property
    def bytes(self) -> int:
        """What lies on the disk by now, and what waits, about as it will lie there."""
        written = 0 if self._file is None else self._file.tell()
        return written + self._pending_bytes // 8

    def add(self, rows: Rows, size: int) -> None:
        """``size`` is the record's, as it lies in the log."""
        self._pending.append(rows.held)
        self._pending_rows += rows.count
        self._pending_bytes += size
        self.rows += rows.count
        full = self._pending_rows >= GROUP_ROWS or self._pending_bytes >= GROUP_BYTES
        if full or len(self._pending) >= GROUP_RECORDS:
            self._write()

    def close(self) -> None:
        """Whole, and on the disk when this returns."""
        self._write()
        self._writer.close()
        if self._file is not None:
            keep(self._file)
            self._file.close()

    def _write(self) -> None:
        if self._writer is None:
            schema = SCHEMAS[self.table]
            self._file = self.path.open("wb")
            self._writer = pq.ParquetWriter(self._file, schema, **written_as(self.table))
        if self._pending:
            self._writer.write_table(table_of(self.table, self._pending))
            self._pending, self._pending_rows, self._pending_bytes = [], 0, 0


@dataclass(slots=True)
class _Day:
    """What the log took in on one day."""

    folder: Path
    files: dict[str, _File] = field(default_factory=dict)
    spans: dict[Place, Span] = field(default_factory=dict)

    def add(self, place: Place, span: Span, rows: Iterable[Rows], size: int) -> None:
        first = min(span[0], self.spans.get(place, span)[0])
        self.spans[place] = (first, span[1])
        for one in rows:
            if one.table not in self.files:
                path = self.folder / f"{one.table}.parquet"
                self.files[one.table] = _File(path, one.table)
            self.files[one.table].add(one, size)


@dataclass(slots=True)
class Lot:
    """Rows on their way into the archive; :meth:`commit` puts them there, and only that.

    Raises: ArchiveUnusable where the disk does not take it.
    """

    archive: Archive
    cluster: str
    most_bytes: int
    records: int = 0
    _days: dict[date, _Day] = field(default_factory=dict)
    _latest: dict[Place, date] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for day in self._days.values() for file in day.files.values())

    @property
    def full(self) -> bool:
        return self.bytes >= self.most_bytes or len(self._days) > MOST_DAYS

    def add(self, entry: Entry, rows: Iterable[Rows], since: int | None = None) -> None:
        """Take in one record's rows; ``since`` is the first offset that is settled with it,
        where others before it are missing.
        """
        place = (entry.topic, entry.partition)
        first = entry.offset if since is None else min(since, entry.offset)
        span = (first, entry.offset + 1)
        size = len(entry.value or b"")
        try:
            self._day(place, day_of(entry.arrived_ms)).add(place, span, rows, size)
        except OSError as problem:
            raise damaged(self.archive.drafts, problem) from problem
        self.records += 1

    def commit(self) -> list[Manifest]:
        """Make it part of the archive, the oldest day first.

        A partition's days follow each other, so after each of these steps the archive holds
        all up to some offset and nothing beyond it.
        """
        return [self._committed(day) for day in sorted(self._days)]

    def _committed(self, day: date) -> Manifest:
        found = self._days.pop(day)
        try:
            for file in found.files.values():
                file.close()
        except OSError as problem:
            raise damaged(found.folder, problem) from problem
        rows = {table: file.rows for table, file in found.files.items()}
        return self.archive.commit(found.folder, self.cluster, day, found.spans, rows)

    def _day(self, place: Place, day: date) -> _Day:
        """Never a day before that of the partition's last record in this lot: a clock that
        was set back would put the older offsets into the later lot.
        """
        day = max(day, self._latest.get(place, day))
        self._latest[place] = day
        if day not in self._days:
            folder = self.archive.drafts / f"day={day}"
            folder.mkdir()
            self._days[day] = _Day(folder)
        return self._days[day]


@functools.cache
def written_as(table: str) -> dict[str, Any]:
    """How each column is written: what this makes of telemetry is a third less than without."""
    schema = SCHEMAS[table]
    encoded = {name: "DELTA_BINARY_PACKED" for name in schema.names if name in _DELTA}
    encoded |= {name: "BYTE_STREAM_SPLIT" for name in schema.names if name in FEATURES}
    return {
        "compression": "zstd", "compression_level": 1, "column_encoding": encoded,
        "use_dictionary": [path for path in _leaves(schema) if path not in encoded],
    }  # fmt: skip  # by subject


def _leaves(schema: pa.Schema) -> list[str]:
    """Every column as the file knows it: lists and maps by what lies within them."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    held = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [held.column(at).path for at in range(len(held))]
