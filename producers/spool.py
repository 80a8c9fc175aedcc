"""Frames on disk while Kafka is away: in order, bounded, the oldest given up first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import ConfigurationError

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS frames (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    key BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Spooled:
    """One frame as it will be sent. ``lost`` counts the frames that it says were dropped."""

    at_ns: int
    lost: int
    key: bytes
    body: bytes
    number: int = 0


class Spool:
    """Survives a kill: what ``add`` returned from is there afterwards (not a power cut,
    which may take the last moments).
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Raises: ConfigurationError when the file can't be used, or another one uses it."""
        self._most_bytes = most_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, isolation_level=None, timeout=2.0)
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")  # two would send each other's
            self._base.execute("PRAGMA auto_vacuum = FULL")  # the disk belongs to the host
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(_TABLE)
            self._count, self._bytes = self._measure()
        except (OSError, sqlite3.Error) as problem:
            raise ConfigurationError(
                f"spool {path}: {problem}; if another collector runs here, end it or name "
                "another spool_file; else remove this one (what it holds was not sent yet)"
            ) from problem

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def oldest_ns(self) -> int:
        """The time of the oldest frame; 0 when there is none."""
        found = self._base.execute("SELECT at_ns FROM frames ORDER BY number LIMIT 1").fetchone()
        return int(found[0]) if found else 0

    def last_number(self) -> int:
        """The number of the newest frame that ever was; 0 before the first."""
        found = self._base.execute("SELECT seq FROM sqlite_sequence").fetchone()
        return int(found[0]) if found else 0

    def add(self, frames: Iterable[Spooled], spared: int = 0) -> list[int]:
        """Append, and give up the oldest beyond the bound: for each of those, how many lost
        frames it told of. Frames up to number ``spared`` are under way to Kafka and stay.

        Raises: sqlite3.Error when the disk takes nothing.
        """
        with self._changing():
            for one in frames:
                self._base.execute(
                    "INSERT INTO frames (at_ns, lost, key, body) VALUES (?, ?, ?, ?)",
                    (one.at_ns, one.lost, one.key, one.body),
                )
                self._count += 1
                self._bytes += len(one.body)
            return self._shrink(spared)

    def after(self, number: int, most: int) -> list[Spooled]:
        """The next frames behind that number, in order."""
        rows = self._base.execute(
            "SELECT at_ns, lost, key, body, number FROM frames WHERE number > ? "
            "ORDER BY number LIMIT ?",
            (number, most),
        )
        return [Spooled(*row) for row in rows]

    def remove(self, numbers: Iterable[int]) -> None:
        """They are delivered. Raises: sqlite3.Error when the disk takes nothing."""
        with self._changing():
            for number in numbers:
                self._delete(number)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it or nothing; what we count is what is there."""
        before = self._count, self._bytes
        try:
            with self._base:
                self._base.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.Error:
            self._count, self._bytes = before
            raise

    def close(self) -> None:
        with closing(self._base):
            pass

    def _shrink(self, spared: int) -> list[int]:
        given_up: list[int] = []
        while self._bytes > self._most_bytes:
            oldest = self._base.execute(
                "SELECT number, lost FROM frames WHERE number > ? ORDER BY number LIMIT 1",
                (spared,),
            ).fetchone()
            if oldest is None:
                break
            given_up.append(oldest[1])
            self._delete(oldest[0])
        return given_up

    def _delete(self, number: int) -> None:
        found = self._base.execute(
            "DELETE FROM frames WHERE number = ? RETURNING length(body)", (number,)
        ).fetchone()
        if found is not None:
            self._count -= 1
            self._bytes -= found[0]

    def _measure(self) -> tuple[int, int]:
        count, size = self._base.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM frames"
        ).fetchone()
        return int(count), int(size)
