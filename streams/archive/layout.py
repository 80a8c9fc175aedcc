"""How the archive lies on disk, and the one step that makes what was read part of it.

::

    day=2026-11-25/lot-000000042/samples.parquet     one file a table that has rows
                                 verdicts.parquet
                                 lot.json            which offsets it holds, what comes next
    .drafts/                                         what is being written

A lot is everything that was read between two commits and that the log took in on one day.
It is written in ``.drafts`` and then renamed: a lot is there whole or not at all, in all of
its tables. The newest lot says where reading goes on, so there is no second place that could
know better: whatever is killed, the log is read again from the first offset that no lot holds.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Self

import orjson

from models.errors import ArchiveUnusable

FORMAT: Final = 1
DRAFTS: Final = ".drafts"
MANIFEST: Final = "lot.json"
REPLACED: Final = "replaced-"
_DAY: Final = re.compile(r"day=(\d{4}-\d\d-\d\d)")
_LOT: Final = re.compile(r"lot-(\d{9,})")

Place = tuple[str, int]
"""A topic and one of its partitions."""
Span = tuple[int, int]
"""The first offset, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a lot says of itself. ``reached`` is, for every partition that was ever archived,
    the first offset that neither this lot nor one before it holds.
    """

    number: int
    cluster: str
    day: date
    spans: Mapping[Place, Span]
    reached: Mapping[Place, int]
    rows: Mapping[str, int]


class Archive:
    """The archive's folder, held by one writer. Use as a context manager.

    Raises: ArchiveUnusable when another process writes to it, when it can't be written, or
    when its newest lot can't be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.newest: Manifest | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = _locked(self.root)
            self._put_back()
            shutil.rmtree(self.drafts, ignore_errors=True)
            self.drafts.mkdir()
        except OSError as problem:
            raise damaged(self.root, problem) from problem
        try:
            self.newest = newest(self.root)
        except ArchiveUnusable:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def drafts(self) -> Path:
        return self.root / DRAFTS

    @property
    def reached(self) -> dict[Place, int]:
        """Where reading goes on; nothing of a partition that was never archived."""
        return {} if self.newest is None else dict(self.newest.reached)

    def commit(
        self, draft: Path, cluster: str, day: date, spans: Mapping[Place, Span],
        rows: Mapping[str, int],
    ) -> Manifest:  # fmt: skip  # two lines say as much
        """Make a draft part of the archive: it is there for good once this returns."""
        number = 1 if self.newest is None else self.newest.number + 1
        reached = self.reached | {place: following for place, (_, following) in spans.items()}
        made = Manifest(number, cluster, day, dict(spans), reached, dict(rows))
        target = self.root / f"day={day}" / f"lot-{number:09}"
        try:
            describe(draft, made)
            if not target.parent.exists():
                target.parent.mkdir(mode=0o750)
                sync(self.root)
            draft.rename(target)
            sync(target.parent)
        except OSError as problem:
            raise damaged(target, problem) from problem
        self.newest = made
        return made

    def replace(self, day: date, draft: Path) -> None:
        """Put a day's folder that was written anew in the place of the old one.

        Killed between the two renames, the next start puts the old one back.
        """
        folder, old = self.root / f"day={day}", self.drafts / f"{REPLACED}{day}"
        try:
            sync(draft)
            folder.rename(old)
            sync(self.drafts)
            draft.rename(folder)
            sync(self.root)
            shutil.rmtree(old)
        except OSError as problem:
            raise damaged(folder, problem) from problem

    def _put_back(self) -> None:
        """Days of which a kill has left only what was being replaced."""
        for old in self.drafts.glob(f"{REPLACED}*") if self.drafts.is_dir() else ():
            folder = self.root / f"day={old.name.removeprefix(REPLACED)}"
            if not folder.exists():
                old.rename(folder)
                sync(self.root)

    def forget(self, before: date) -> list[date]:
        """Delete whole days, never the one that holds the newest lot; the days that went."""
        last = None if self.newest is None else self.newest.day
        gone = [day for day, _ in days(self.root) if day < before and day != last]
        for day in gone:
            away = self.drafts / f"forgotten-{day}"
            try:
                (self.root / f"day={day}").rename(away)  # at once, for whoever reads
                shutil.rmtree(away)
            except OSError as problem:
                raise damaged(away, problem) from problem
        return gone


# ---- reading -------------------------------------------------------------------------------


def days(root: Path) -> list[tuple[date, Path]]:
    """The days that the archive holds, in order."""
    found = [(_DAY.fullmatch(path.name), path) for path in _listed(root)]
    return sorted((date.fromisoformat(match[1]), path) for match, path in found if match)


def lots(root: Path) -> Iterator[tuple[int, Path]]:
    """Every lot with its number."""
    for _, folder in days(root):
        for path in lots_of(folder):
            yield int(path.name.removeprefix("lot-")), path


def lots_of(day: Path) -> list[Path]:
    """One day's lots, in the order of their numbers."""
    found = [path for path in _listed(day) if _LOT.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("lot-")))


def newest(root: Path) -> Manifest | None:
    """The lot with the highest number; None in an empty archive.

    Raises: ArchiveUnusable when it can't be read: then nobody knows where to go on.
    """
    number, path = max(lots(root), default=(0, root))
    return manifest(path) if number else None


def manifest(lot: Path) -> Manifest:
    """What a lot says of itself. Raises: ArchiveUnusable."""
    try:
        return _unpacked(orjson.loads((lot / MANIFEST).read_bytes()), lot)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ArchiveUnusable(
            f"{lot / MANIFEST}: {problem!r}; restore that file, or move the lot's folder out of "
            "the archive: its records are then read from Kafka once more, where it has them"
        ) from problem


def day_of(at_ms: int) -> date:
    """The day (UTC) of a time.

    >>> day_of(1_790_000_000_000)
    datetime.date(2026, 9, 21)
    """
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).date()


# ---- writing -------------------------------------------------------------------------------


def describe(lot: Path, made: Manifest) -> None:
    """Write what a lot says of itself; all of its names are on the disk when this returns."""
    with (lot / MANIFEST).open("wb") as file:
        file.write(_packed(made))
        keep(file)
    sync(lot)


def keep(file: IO[bytes]) -> None:
    """Make what was written to a file survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def damaged(path: Path, problem: OSError) -> ArchiveUnusable:
    return ArchiveUnusable(
        f"archive {path}: {problem.strerror}; see that the disk has room and that this user may "
        "write there (archive_dir). Nothing is lost: it is read again from Kafka"
    )


def _locked(root: Path) -> IO[bytes]:
    lock = (root / ".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        lock.close()
        raise ArchiveUnusable(
            f"archive {root}: another `plimsoll archive` writes to it; stop that one, or set "
            "archive_dir for this one"
        ) from problem
    return lock


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


# ---- lot.json ------------------------------------------------------------------------------


def _by_topic(values: Mapping[Place, Any]) -> dict[str, dict[str, Any]]:
    """Values by place, as nested objects: JSON has no tuples for keys."""
    made: dict[str, dict[str, Any]] = {}
    for (topic, partition), value in sorted(values.items()):
        made.setdefault(topic, {})[str(partition)] = value
    return made


def _packed(made: Manifest) -> bytes:
    body = {
        "format": FORMAT, "number": made.number, "cluster": made.cluster, "day": str(made.day),
        "offsets": _by_topic(made.spans), "next": _by_topic(made.reached),
        "rows": dict(sorted(made.rows.items())),
    }  # fmt: skip  # by subject
    return orjson.dumps(body, option=orjson.OPT_INDENT_2)


def _unpacked(body: Any, lot: Path) -> Manifest:
    if body["format"] != FORMAT:
        raise ValueError(f"format {body['format']}, this release reads {FORMAT}")
    match = _LOT.fullmatch(lot.name)
    if match is None or int(match[1]) != body["number"]:
        raise ValueError(f"it says it is number {body['number']}")
    spans = {place: (int(first), int(end)) for place, (first, end) in _flat(body["offsets"])}
    reached = {place: int(following) for place, following in _flat(body["next"])}
    day = date.fromisoformat(body["day"])
    return Manifest(body["number"], str(body["cluster"]), day, spans, reached, body["rows"])


def _flat(tree: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Place, Any]]:
    for topic, values in tree.items():
        for partition, value in values.items():
            yield (topic, int(partition)), value
