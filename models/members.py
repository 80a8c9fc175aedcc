"""The short memory of a lineage's containers, side by side in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from models.budget import ACCOUNT, accounts
from models.features import SIZE, Array
from models.following import HORIZONS
from models.records.telemetry import Member

Whole = npt.NDArray[np.int64]
Single = npt.NDArray[np.float32]

LAST, LEVEL, FAST, SLOW = 0, 1, 2, 3
SUM, SQUARES, HIGH, LOW, COUNT = 4, 5, 6, 7, 8
_ALL: Final = slice(None)
CHANNELS: Final = 9
"""Per container and feature: the last value; its own level above its image's; the recent
and the lasting departure (in scales); and what the open block has summed up so far.
"""
LEVELS: Final = slice(0, HORIZONS)
RECENT, LOWEST, HIGHEST = range(HORIZONS, HORIZONS + 3)
FOLLOWED: Final = HORIZONS + 3
"""Per container and feature, for models/onset.py: the levels that follow it and what it was
just like (models/following.py); the range it has shown, less its own level."""
WORTH: Final = 0
KNOWN: Final = slice(1, 1 + ACCOUNT)
ACCOUNTS: Final = 1 + ACCOUNT
"""Per container: how many rows its levels are worth, and its account (models/budget.py)."""
ARRAYS: Final = (
    "grid", "last_ns", "since_ns", "taught", "peak", "surprise", "followed", "account",
)  # fmt: skip  # a list
"""What there is a row of for each member."""
_NOBODY: Final = np.concatenate([[0.0], accounts(1)[0]])


@dataclass(slots=True)
class Members:
    """Row i of every array belongs to ``who[i]``.

    ``grid``: ``(members, CHANNELS, features)``. ``last_ns``, ``since_ns``: the last sample,
    and the start (or restart, or first sight). ``taught``: blocks that taught its own level.
    ``peak``: the largest evidence in the open block. ``surprise``: the forest's, in nats.
    ``followed``: ``(members, FOLLOWED, features)``. ``account``: ``(members, ACCOUNTS)``.
    """

    who: list[Member] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    grid: Array = field(default_factory=lambda: np.empty((0, CHANNELS, SIZE)))
    last_ns: Whole = field(default_factory=lambda: np.empty(0, np.int64))
    since_ns: Whole = field(default_factory=lambda: np.empty(0, np.int64))
    taught: Array = field(default_factory=lambda: np.empty(0))
    peak: Array = field(default_factory=lambda: np.empty(0))
    surprise: Array = field(default_factory=lambda: np.empty(0))
    followed: Single = field(default_factory=lambda: np.empty((0, FOLLOWED, SIZE), np.float32))
    account: Array = field(default_factory=lambda: np.empty((0, ACCOUNTS)))
    changes: int = 0
    """How often somebody came, went, or runs another image."""

    def __len__(self) -> int:
        return len(self.who)

    def copy(self, *, arrays: bool = True) -> Members:
        """``arrays``: of its own; else both have the same."""
        members = Members(
            self.who.copy(), self.rows.copy(), self.grid, self.last_ns, self.since_ns,
            self.taught, self.peak, self.surprise, self.followed, self.account,
        )  # fmt: skip  # in the order of the class
        if arrays:
            members.own()
        return members

    def own(self) -> None:
        """Have arrays of one's own: those of a crowd are slices (models/crowd.py), each of
        which keeps the whole alive.
        """
        for name in ARRAYS:
            setattr(self, name, getattr(self, name).copy())

    def met(self, members: Sequence[Member], at_ns: int) -> Whole:
        """The row of each member, new ones added, restarted ones reset. Shape (members,)."""
        places, who = self.rows, self.who
        new = [member for member in members if member.subject not in places]
        if new:
            self._add(new, at_ns)
        rows = [places[member.subject] for member in members]
        for row, member in zip(rows, members, strict=True):
            known = who[row]
            if known is not member:
                if known.started_ns != member.started_ns or known.image != member.image:
                    self._restart(row, member, at_ns)
                self.who[row] = member
        return np.array(rows, np.int64)

    def _add(self, new: Sequence[Member], at_ns: int) -> None:
        self.changes += 1
        for row, member in enumerate(new, len(self.who)):
            self.rows[member.subject] = row
        self.who.extend(new)
        more = len(new)
        fresh = np.zeros((more, CHANNELS, SIZE))
        fresh[:, LAST] = np.nan
        fresh[:, HIGH], fresh[:, LOW] = -np.inf, np.inf
        self.grid = np.concatenate([self.grid, fresh])
        self.last_ns = np.append(self.last_ns, np.zeros(more, np.int64))
        started = [member.started_ns or at_ns for member in new]
        self.since_ns = np.append(self.since_ns, np.array(started, np.int64))
        self.taught, self.peak, self.surprise = (
            np.append(held, np.zeros(more)) for held in (self.taught, self.peak, self.surprise)
        )
        self.follow_anew(more)

    def follow_anew(self, more: int) -> None:
        """Nothing has been followed yet of so many more members."""
        anew = np.zeros((more, FOLLOWED, SIZE), np.float32)
        self.followed = np.concatenate([self.followed, anew])
        self.account = np.concatenate([self.account, np.tile(_NOBODY, (more, 1))])

    def _restart(self, row: int, member: Member, at_ns: int) -> None:
        """Start-up is no departure: what was recent is forgotten, its own level is kept."""
        self.since_ns[row] = member.started_ns or at_ns
        self.grid[row, (FAST, SLOW), :] = 0.0
        self.surprise[row] = 0.0
        self.account[row] = _NOBODY
        if self.who[row].image != member.image:
            self.grid[row, LEVEL] = 0.0
            self.taught[row] = 0.0
            self.changes += 1

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Forget the others."""
        self.changes += 1
        self.who = [member for member, kept in zip(self.who, rows.tolist(), strict=True) if kept]
        self.rows = {member.subject: row for row, member in enumerate(self.who)}
        self.grid = self.grid[rows]
        self.last_ns, self.since_ns = self.last_ns[rows], self.since_ns[rows]
        self.taught, self.peak = self.taught[rows], self.peak[rows]
        self.surprise = self.surprise[rows]
        self.followed, self.account = self.followed[rows], self.account[rows]

    def trust(self, rows: Whole | slice = _ALL) -> Array:
        """How far a container's own level is known, 0 to 1. Shape (members,), or (rows,)."""
        taught = self.taught[rows]
        return np.asarray(taught / (taught + 2.0))
