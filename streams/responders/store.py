"""The responder's memory: what it did, how it was before, when it ends, what it must tell.

One SQLite file, each step durable before it happens (WAL, synchronous FULL). Whatever is
killed and whenever, the rows say what to finish or to undo. The consumer's offset moves in
the same transaction as the order it has read, so an order is received once.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from models.errors import ConfigurationError, StoreFailed
from models.records.codec import decode, encode
from models.records.order import Action, Check, Order, Outcome, Submission
from models.records.rejected import DeadLetter

FORMAT: Final = 1
MOST_LETTERS: Final = 500
"""Dead letters that wait for a Kafka that takes none; the oldest leave first: whoever floods
us with forged orders must not fill the disk that holds what is to be released.
"""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (topic, part)
);
CREATE TABLE IF NOT EXISTS cases (
    uid TEXT PRIMARY KEY, subject TEXT NOT NULL, step TEXT NOT NULL,
    until_ns INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS cases_step ON cases (step, until_ns);
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS letters (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
"""


class Step(StrEnum):
    """How far an order has come. Each step is written before what follows it begins."""

    RECEIVED = "received"  # checked; nothing looked at yet
    WITNESSED = "witnessed"  # volatile evidence is kept, the expiry is set
    PREPARED = "prepared"  # the state before is recorded; the action may have begun
    ACTED = "acted"  # brought about, not yet looked at
    TOLD = "told"  # its outcome is in the outbox; the slow evidence is not
    HELD = "held"  # nothing left to do until it ends
    ENDING = "ending"  # its undoing may have begun
    ENDED = "ended"


UNFINISHED: Final = (
    Step.RECEIVED, Step.WITNESSED, Step.PREPARED, Step.ACTED, Step.TOLD, Step.ENDING,
)  # fmt: skip  # one line reads better
IN_FORCE: Final = (Step.PREPARED, Step.ACTED, Step.TOLD, Step.HELD, Step.ENDING)


@dataclass(frozen=True, slots=True)
class Rung:
    """One action of an order's ladder that was begun; ``before`` is the platform's State."""

    action: Action
    before: bytes
    detail: str = ""
    replacement: str = ""
    checks: tuple[Check, ...] = ()
    failed: bool = False
    """The platform answered and did not do it; part of it may have happened."""


@dataclass(frozen=True, slots=True)
class Case:
    """An order in hand. ``until_ns`` 0 is without end; ``passed`` names the rungs that
    were passed over, and why; ``ended_by`` is the order that ended it, empty when its time
    ran out.
    """

    order: Order
    sha256: str
    arrived_ns: int
    step: Step = Step.RECEIVED
    until_ns: int = 0
    rungs: tuple[Rung, ...] = ()
    passed: tuple[str, ...] = ()
    submissions: tuple[Submission, ...] = ()
    took_s: float = 0.0
    ended_by: str = ""
    troubled: bool = False
    """It was told that the end does not succeed; told once, tried on."""
    silence: str = ""
    """How the platform's silence was told, where it did not answer some time or other."""

    @property
    def uid(self) -> str:
        return self.order.uid


class ResponderStore:
    """May be used from any thread. One process at a time holds it.

    Raises: ConfigurationError on opening, when the file cannot be used or another process
    has it; StoreFailed then, and from any method, when the disk does not do its part.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._holder = _hold(path)
        try:
            self._db = _opened(path)
        except sqlite3.OperationalError as problem:
            self._holder.close()
            raise self._failed(problem) from problem
        except (sqlite3.Error, ConfigurationError) as problem:
            self._holder.close()
            raise ConfigurationError(
                f"responder store {path}: {problem}; move it away to begin anew (what it "
                "knows of isolations in force is then lost)"
            ) from problem

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._holder.close()

    # ---- cases ----------------------------------------------------------------------------

    def case(self, uid: str) -> Case | None:
        return next(self._cases("uid = ?", uid), None)

    def digest_of(self, uid: str) -> str | None:
        """The SHA-256 of the payload that this order came with; None when it never came."""
        case = self.case(uid)
        return None if case is None else case.sha256

    def unfinished(self) -> list[Case]:
        """What a crash interrupted, oldest first."""
        return list(self._cases(_one_of(UNFINISHED)))

    def in_force(self, subject: str) -> list[Case]:
        """What may be in effect on a subject, oldest first."""
        return list(self._cases(f"subject = ? AND {_one_of(IN_FORCE)}", subject))

    def due(self, now_ns: int) -> list[Case]:
        """What must end: out of time, or with an end that was begun and not finished."""
        running = (Step.WITNESSED, Step.PREPARED, Step.ACTED, Step.TOLD, Step.HELD)
        over = f"until_ns > 0 AND until_ns <= ? AND {_one_of(running)}"
        return list(self._cases(f"step = ? OR ({over})", Step.ENDING, now_ns))

    def every(self) -> list[Case]:
        return list(self._cases("1"))

    def keep(self, *cases: Case, tell: Iterable[Outcome] = ()) -> None:
        """Cases as they stand now, and outcomes to be told, in one transaction."""
        with self._writing() as db:
            _write(db, cases, tell)

    def receive(
        self,
        place: tuple[str, int, int],
        case: Case | None = None,
        tell: Iterable[Outcome] = (),
        letter: DeadLetter | None = None,
    ) -> None:
        """What came of the record at ``place`` (topic, partition, next offset)."""
        with self._writing() as db:
            _write(db, () if case is None else (case,), tell)
            db.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", place)
            if letter is not None:
                put = db.execute("INSERT INTO letters (body) VALUES (?)", (encode(letter),))
                newest = put.lastrowid or 0
                db.execute("DELETE FROM letters WHERE id <= ?", (newest - MOST_LETTERS,))

    def forget(self, before_ns: int) -> int:
        """Drop what has ended and could not be replayed any more; how many it were."""
        old = [
            case.uid
            for case in self._cases("step = ?", Step.ENDED)
            if max(case.order.deadline_ns, case.until_ns) < before_ns
        ]
        with self._writing() as db:
            db.executemany("DELETE FROM cases WHERE uid = ?", [(uid,) for uid in old])
        return len(old)

    # ---- offsets, outbox and dead letters -------------------------------------------------

    def offsets(self, topic: str) -> dict[int, int]:
        """The next offset to read, partition by partition."""
        with self._reading():
            rows = self._db.execute("SELECT part, next FROM offsets WHERE topic = ?", (topic,))
            return dict(rows.fetchall())

    def untold(self, after: int = 0, most: int = 100) -> list[tuple[int, bytes]]:
        """Encoded outcomes that the broker does not have yet, oldest first."""
        with self._reading():
            rows = self._db.execute(
                "SELECT id, body FROM outbox WHERE id > ? ORDER BY id LIMIT ?", (after, most)
            )
            return rows.fetchall()

    def told(self, number: int) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM outbox WHERE id = ?", (number,))

    def letters(self, most: int = 100) -> list[tuple[int, bytes]]:
        """Encoded dead letters that the broker does not have yet, oldest first."""
        with self._reading():
            rows = self._db.execute("SELECT id, body FROM letters ORDER BY id LIMIT ?", (most,))
            return rows.fetchall()

    def posted(self, number: int) -> None:
        """The broker has that dead letter."""
        with self._writing() as db:
            db.execute("DELETE FROM letters WHERE id = ?", (number,))

    # ---- inside ---------------------------------------------------------------------------

    def _cases(self, condition: str, *values: object) -> Iterator[Case]:
        query = f"SELECT body FROM cases WHERE {condition} ORDER BY rowid"  # noqa: S608  # conditions are ours
        with self._reading():
            rows = self._db.execute(query, values).fetchall()
        return (decode(Case, body) for (body,) in rows)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as problem:
            raise self._failed(problem) from problem

    def _failed(self, problem: sqlite3.Error) -> StoreFailed:
        return StoreFailed(
            f"responder store {self._path}: {problem}; make room or mend the disk, and start "
            "the responder again: it goes on where it was"
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db


def _write(db: sqlite3.Connection, cases: Iterable[Case], tell: Iterable[Outcome]) -> None:
    # An upsert keeps the rowid, and with it the order in which the cases came.
    db.executemany(
        "INSERT INTO cases VALUES (?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET "
        "step = excluded.step, until_ns = excluded.until_ns, body = excluded.body",
        [(case.uid, case.order.subject, case.step, case.until_ns, encode(case)) for case in cases],
    )
    db.executemany("INSERT INTO outbox (body) VALUES (?)", [(encode(one),) for one in tell])


def _one_of(steps: Iterable[Step]) -> str:
    return f"step IN ({', '.join(repr(step.value) for step in steps)})"


def _opened(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # what is recorded before a redeployment holds environment values
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        db.close()
        raise ConfigurationError(f"has format {version}, this release reads {FORMAT}")
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA user_version = {FORMAT}")
    return db


def _hold(path: Path) -> _Holder:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _Holder(path.with_name(f"{path.name}.lock"))
    except BlockingIOError as taken:
        raise ConfigurationError(
            f"responder store {path}: another responder uses it; stop that one, or name "
            "another file (PLIMSOLL_RESPONDER_FILE)"
        ) from taken
    except OSError as problem:
        raise ConfigurationError(f"responder store {path}: {problem.strerror}") from problem


class _Holder:
    """A lock that the kernel drops with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()
