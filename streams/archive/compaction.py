"""A past day's many lots as one, so that a question about months opens few files.

The day's folder is written anew beside the archive and put in the place of the old one by two
renames. Killed between them, the next start puts the old one back (``layout.Archive``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive.layout import (
    Archive,
    Manifest,
    Place,
    Span,
    damaged,
    days,
    describe,
    keep,
    lots_of,
    manifest,
)
from streams.archive.lot import GROUP_ROWS, written_as
from streams.archive.tables import SCHEMAS

LEAST_LOTS: Final = 8
"""Fewer are left as they are."""


def compacted(archive: Archive, stopped: Callable[[], bool]) -> Iterator[date]:
    """Make one lot of each past day that has many; the days, as they are done.

    The newest lot's day is left alone: it is still growing, and says where reading goes on.
    Nothing changes for a day during which ``stopped`` became true.
    """
    newest = archive.newest
    for day, folder in days(archive.root):
        found = lots_of(folder)
        if newest is None or day >= newest.day or len(found) < LEAST_LOTS or not _plain(found):
            continue
        try:
            draft = _merged(archive, day, found, stopped)
        except OSError as problem:
            raise damaged(folder, problem) from problem
        if draft is None:
            return
        archive.replace(day, draft)
        yield day


def _plain(lots: Sequence[Path]) -> bool:
    """Whether every file has the columns of this release; others are not ours to rewrite."""
    return all(
        path.stem in SCHEMAS and pq.read_schema(path).equals(SCHEMAS[path.stem])
        for lot in lots for path in lot.glob("*.parquet")
    )  # fmt: skip  # one condition


def _merged(
    archive: Archive, day: date, lots: Sequence[Path], stopped: Callable[[], bool]
) -> Path | None:
    """The day's folder with one lot, which has the last one's number; None when stopped."""
    draft = archive.drafts / f"merged-{day}"
    shutil.rmtree(draft, ignore_errors=True)
    lot = draft / lots[-1].name
    lot.mkdir(parents=True)
    tables = sorted({path.stem for one in lots for path in one.glob("*.parquet")})
    for table in tables:
        files = [one / f"{table}.parquet" for one in lots]
        there = [path for path in files if path.exists()]
        if not _merge(lot / f"{table}.parquet", table, there, stopped):
            return None
    describe(lot, _together([manifest(one) for one in lots]))
    return draft


def _merge(
    target: Path, table: str, files: Iterable[Path], stopped: Callable[[], bool]
) -> bool:  # fmt: skip  # two lines say as much
    """Row group by row group, so that memory holds one at a time; False when stopped."""
    with target.open("wb") as file:
        with pq.ParquetWriter(file, SCHEMAS[table], **written_as(table)) as writer:
            for rows in _grouped(files):
                if stopped():
                    return False
                writer.write_table(rows)
        keep(file)
    return True


def _grouped(files: Iterable[Path]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for path in files:
        held = pq.ParquetFile(path)
        for number in range(held.num_row_groups):
            waiting.append(held.read_row_group(number))
            if sum(len(rows) for rows in waiting) >= GROUP_ROWS:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _together(manifests: Sequence[Manifest]) -> Manifest:
    """What the lots say together: each partition's offsets from the first to the last."""
    spans: dict[Place, Span] = {}
    rows: dict[str, int] = {}
    for one in manifests:
        for place, (first, end) in one.spans.items():
            begins, ends = spans.get(place, (first, end))
            spans[place] = (min(begins, first), max(ends, end))
        for table, count in one.rows.items():
            rows[table] = rows.get(table, 0) + count
    last = manifests[-1]
    return Manifest(last.number, last.cluster, last.day, spans, last.reached, rows)
