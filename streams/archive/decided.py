"""What was decided in a window, from the archive: as ``streams.stores.decided`` from Kafka.

The archive does not check signatures: what it calls an order, somebody wrote to that topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import ArchiveUnusable
from models.records.codec import encode
from models.records.order import Order, Outcome
from models.records.verdict import Finding, Summary, Verdict
from streams.archive.columns import record, whole_ns
from streams.archive.layout import days, lots_of
from streams.archive.views import DAMAGED
from streams.replaying import Decided

_TABLES: Final[dict[Any, tuple[str, str]]] = {
    Verdict: ("verdicts", "time"), Summary: ("summaries", "time"), Finding: ("findings", "time"),
    Order: ("orders", "issued"), Outcome: ("outcomes", "time"),
}  # fmt: skip  # a table
"""Where each kind lies, and by which column it is told when."""
_LATE: Final = timedelta(days=1)
"""So much after its event time a record may still come: collectors spool."""
_AHEAD: Final = timedelta(minutes=5)
"""Event time may be so far ahead of the log's."""

R = TypeVar("R", Verdict, Summary, Finding, Order, Outcome)


def decided(root: Path, scope: str, window: tuple[int, int]) -> Decided:
    """All that the archive holds of a window (event time) in one scope.

    Raises: ArchiveUnusable when a file can't be read.
    """
    return Decided(
        said(root, Verdict, scope, window), said(root, Summary, scope, window),
        said(root, Finding, scope, window), said(root, Order, scope, window),
    )  # fmt: skip  # as the fields lie


def said(root: Path, kind: type[R], scope: str, window: tuple[int, int]) -> list[R]:
    """Records of one kind in a window (event time), in the log's order; what was sent twice
    stands there once.

    Raises: ArchiveUnusable when a file can't be read.
    """
    table, column = _TABLES[kind]
    found: dict[bytes, R] = {}
    for rows in _tables(root, table, window):
        since, until = pc.greater_equal(rows[column], window[0]), pc.less(rows[column], window[1])
        mine = rows.filter(pc.and_(pc.and_(since, until), pc.equal(rows["scope"], scope)))
        for row in mine.sort_by([("log_partition", "ascending")]).to_pylist():
            one = _record(kind, row)
            found.setdefault(encode(one), one)
    return list(found.values())


def _tables(root: Path, table: str, window: tuple[int, int]) -> Iterator[pa.Table]:
    """A lot's rows at a time, of the days in which the window's records may have arrived."""
    first, last = (datetime.fromtimestamp(at_ns / 1e9, UTC) for at_ns in window)
    for day, folder in days(root):
        if (first - _AHEAD).date() <= day <= (last + _LATE).date():
            paths = [lot / f"{table}.parquet" for lot in lots_of(folder)]
            yield from (whole_ns(_read(path)) for path in paths if path.exists())


def _read(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as problem:
        raise ArchiveUnusable(f"archive {path}: {problem} {DAMAGED}") from problem


def _record(kind: Any, row: dict[str, Any]) -> Any:
    """A finding's verdict lies beside it, in the same row."""
    if kind is Finding:
        return record(Finding, row | {"verdict": row})
    return record(kind, row)
