"""``plimsoll archive``: read what comes, write it down, make it part of the archive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from models.contract import Topics
from models.errors import ArchiveUnusable
from models.health import Pulse
from streams.archive.compaction import compacted
from streams.archive.layout import Archive
from streams.archive.lot import Lot
from streams.archive.reading import LogReader, Missing
from streams.archive.tables import Entry, archived, gap, rows_of
from streams.meters import ArchiveMeters
from streams.settings import Settings

POLL_S: Final = 0.2
STANDS_S: Final = 120.0
"""A round takes a moment, putting days together longer; after this it is stuck."""
FIRST_LOT_S: Final = 10.0
"""How long the first lot after a start lasts; each that follows lasts twice as long."""
TIDY_S: Final = 3_600.0
"""How often we look after past days."""

log = structlog.get_logger(__name__)


class Archiver:
    """Reads until ``stop`` is set; what was read is part of the archive then.

    ``clock`` tells which days are old; all else goes by the log's time.
    """

    def __init__(
        self, settings: Settings, archive: Archive, meters: ArchiveMeters, clock: Callable[[], int]
    ) -> None:
        self._told = settings.archive
        self._archive, self._meters, self._clock = archive, meters, clock
        roles = archived(Topics(settings.topic_prefix))
        self._reader = LogReader(settings.kafka, roles, archive.reached)
        self._lot_s = min(FIRST_LOT_S, self._told.lot_s)
        self._lot_since_s = 0.0
        self._look_at_s = 0.0
        self._strange = (0, "")
        self._cluster = ""
        self.pulse = Pulse(time.monotonic, STANDS_S)
        self._lot: Lot

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Raises: ConfigurationError when a topic is missing; ArchiveUnusable when the archive
        is another cluster's, or the disk takes no more.
        """
        try:
            self._cluster = self._reader.begin(stop)
            self._check_cluster()
            self._open()
            ready()
            while not stop.is_set():
                self._round(stop)
            self._commit()
        finally:
            self._reader.close()

    def _round(self, stop: threading.Event) -> None:
        for entry, missing in self._reader.take(POLL_S):
            self._take(entry, missing)
        for topic, behind in self._reader.lag().items():
            self._meters.lag.labels(topic).set(behind)
        if self._due():
            self._commit()
            self._open()
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + TIDY_S
            self._tidy(stop)
        waited_s = time.monotonic() - self._lot_since_s if self._lot.records else 0.0
        self._meters.commit_age_s.set(waited_s)
        self._meters.queued.set(self._lot.records)
        self.pulse.beat(self._reader.waits)

    def _take(self, entry: Entry, missing: Missing | None) -> None:
        if not self._lot.records:
            self._lot_since_s = time.monotonic()
        rows = rows_of(entry)
        if any(one.table == "undecodable" for one in rows):
            self._strange = (self._strange[0] + 1, self._strange[1] or entry.place)
        self._meters.records.labels(entry.role).inc()
        if missing is not None:
            rows.append(gap(entry.topic, entry.partition, missing.first, entry, missing.because))
            self._meters.gaps.inc(max(entry.offset - missing.first, 0))
        self._lot.add(entry, rows, missing.first if missing else None)

    # ---- lots ------------------------------------------------------------------------------

    def _open(self) -> None:
        self._lot = Lot(self._archive, self._cluster, self._told.lot_mb << 20)

    def _due(self) -> bool:
        lasted_s = time.monotonic() - self._lot_since_s
        return self._lot.records > 0 and (lasted_s >= self._lot_s or self._lot.full)

    def _commit(self) -> None:
        records = self._lot.records
        for made in self._lot.commit():
            self._meters.lots.inc()
            for table, rows in made.rows.items():
                self._meters.rows.labels(table).inc(rows)
            log.info(
                "lot archived", lot=made.number, day=str(made.day), records=records,
                rows=sum(made.rows.values()), lag=sum(self._reader.lag().values()),
            )  # fmt: skip  # by subject
        self._tell_strange()
        if records:
            self._lot_s = min(self._lot_s * 2, self._told.lot_s)

    def _tell_strange(self) -> None:
        """Once a lot: a producer gone wrong must not fill the log's disk as well."""
        count, first = self._strange
        self._strange = (0, "")
        if count:
            log.warning(
                "records could not be decoded, archived as they are", count=count, first=first,
                todo="the table undecodable has their bytes and reasons",
            )  # fmt: skip  # by subject

    def _tidy(self, stop: threading.Event) -> None:
        """Past days: those that are too old go, the others become few files."""
        if self._told.keep_days:
            today = datetime.fromtimestamp(self._clock() / 1e9, UTC).date()
            for day in self._archive.forget(today - timedelta(days=self._told.keep_days)):
                log.info("day deleted, as keep_days says", day=str(day))
        for day in compacted(self._archive, stop.is_set):
            log.info("day compacted", day=str(day))

    def _check_cluster(self) -> None:
        newest = self._archive.newest
        if newest is not None and newest.cluster != self._cluster:
            raise ArchiveUnusable(
                f"archive {self._archive.root} holds records of Kafka cluster {newest.cluster}, "
                f"this is {self._cluster}: offsets mean nothing across clusters. Set archive_dir "
                "to another folder for this one; queries read one at a time"
            )
