"""Where the line lies: from the tail of quiet blocks, for N false alarms a day.

No labels. The largest evidence of each quiet block is tracked: a high quantile by small
steps, and the mean excess beyond it; an exponential tail through both says which evidence
comes N times a day (:class:`Tail`). A tail is an estimate, so what it lets through is counted
too: the line sinks as time passes and rises with each ticket (:class:`Line`). Both move
between bounds, so that noise can't lift the line away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from models.features import Array

Flags = npt.NDArray[np.bool_]

QUANTILE: Final = 0.9
_STEP: Final = 0.01
_FIRST_EXCESS: Final = 0.5
_LEAST_EXCESS: Final = 0.05
_WORTH: Final = 10.0
"""The first guess of the excess counts as so many excesses seen."""
_MOST_EXCESSES: Final = 4.0
"""One block moves the tail no more than that: its rise is bounded, whatever makes the noise."""
_DAY_S: Final = 86_400.0
_NEVER: Final = 1e-12
"""No budget at all is once in so many blocks: the line stays finite."""

BLOCK_ROWS: Final = 10
"""Rows of one member whose largest evidence moves the tail once."""
TICKETS: Final = 2.0
"""Tickets of any kind for each false one that is allowed, as long as they come one by one. Some
are true, nobody knows which: with 1 the promise would hold of all tickets together."""
_SURCHARGE: Final = 0.5
"""How much more a ticket moves the line for each that came before its time: who spends too
fast is reined in, on the whole about 1.2 tickets a false one remain (docs/detection.md)."""
_TICKET_EXCESSES: Final = 0.12
_MOST_LIFT: Final = 8.0
_LEAST_LIFT: Final = 12.0
"""Bounds of what tickets move the line, in excesses, above and below the tail's own."""
_ASTRAY: Final = 4.0
"""So many excesses above its tail a line has let far too many tickets through."""
_DOUBT: Final = 2.75
"""How many standard errors of the tail the line stays off it: much after a short history,
little after a long one."""
_FIRST_ROWS: Final = 3
"""Rows of a new watch that raise no alarm: levels are being found."""
_AGAIN: Final = 2.0
"""In an open ticket nobody is called anew: so many excesses below the line add to it, if they
rise above the two rows before."""

_JUST: Final = 5
"""So many rows a ticket has just been opened, for others that depart too."""


@dataclass(frozen=True, slots=True)
class Tail:
    """``high`` is about the :data:`QUANTILE` of block maxima, ``excess`` the mean beyond."""

    high: float = 2.5
    excess: float = _FIRST_EXCESS
    blocks: int = 0

    def after(self, peak: float) -> Tail:
        """The tail that has seen one more quiet block's largest evidence.

        Source: stochastic approximation of a quantile (Robbins and Monro, 1951), with a
        step in proportion to the excess, its unit.
        """
        step = max(_STEP, 1.0 / (self.blocks + 8)) * 2.0 * self.excess
        peak = min(peak, self.high + _MOST_EXCESSES * self.excess)
        beyond = peak > self.high
        high = self.high + step * (QUANTILE if beyond else QUANTILE - 1.0)
        excess = self.excess + _STEP * (peak - self.high - self.excess) if beyond else self.excess
        return Tail(high, max(excess, _LEAST_EXCESS), self.blocks + 1)

    def raised(self, peak: float) -> Tail:
        """The tail of what lies elsewhere by now, after a block's largest evidence: up there,
        by as much as one block may move it.
        """
        most = self.high + _MOST_EXCESSES * self.excess
        return Tail(max(self.high, min(peak, most)), self.excess, self.blocks + 1)

    def reached(self, per_block: float) -> float:
        """The evidence that quiet blocks reach so often, each."""
        return self.high + self.excess * _rareness(per_block)

    def doubt(self, per_block: float) -> float:
        """How much further out that may lie, for all that this many blocks tell. In excesses."""
        seen = max(self.blocks * (1.0 - QUANTILE), 1.0)
        return _DOUBT * _rareness(per_block) / math.sqrt(seen)

    def line(self, allowed: float, lift: Lift, least: float, most: float) -> float:
        """The evidence from which a block counts when so many false alarms are allowed in it:
        what quiet blocks reach so often, and what time and tickets moved it, within bounds.

        >>> Tail().line(1e-3, Lift(), 3.0, 12.0) < Tail(excess=1.0).line(1e-3, Lift(), 3.0, 12.0)
        True
        """
        return min(max(self.reached(TICKETS * allowed) + lift.height, least), most)


def _rareness(per_block: float) -> float:
    """How many excesses beyond the quantile lies what a block reaches so often."""
    return math.log(max((1.0 - QUANTILE) / max(per_block, _NEVER), 1.0))


def tail_of(peaks: Sequence[float]) -> Tail:
    """The tail of a history's block maxima; :class:`Tail`'s first guess without any."""
    if not peaks:
        return Tail()
    ordered = sorted(peaks)
    high = ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))]
    beyond = [peak - high for peak in ordered if peak > high]
    excess = (sum(beyond) + _WORTH * _FIRST_EXCESS) / (len(beyond) + _WORTH)
    return Tail(high, max(excess, _LEAST_EXCESS), len(ordered))


class Scope(StrEnum):
    """Of what "at most N false alarms a day" is said."""

    FLEET = "fleet"
    LINEAGE = "lineage"
    IMAGE = "image"
    CONTAINER = "container"


def share(per_day: float, scope: Scope, *, members: int, siblings: int, lineages: int) -> float:
    """The false alarms a day that one image's line may let through: it is one line for all
    ``members`` of the image, ``siblings`` of which (members too) are in its lineage.

    A fleet's are split evenly among as many ``lineages`` as are stated; a lineage's among its
    images, by their containers.

    >>> [share(12.0, scope, members=2, siblings=4, lineages=6) for scope in Scope]
    [1.0, 6.0, 12.0, 24.0]
    """
    if scope is Scope.CONTAINER:
        return per_day * members
    if scope is Scope.IMAGE:
        return per_day
    whole = per_day / lineages if scope is Scope.FLEET else per_day
    return whole * members / siblings


def allowed(alarms_per_day: float, seconds: float) -> float:
    """How many false alarms a budget allows in a stretch of event time."""
    return alarms_per_day * seconds / _DAY_S


@dataclass(frozen=True, slots=True)
class Lift:
    """What time and tickets have moved a line, in the unit of evidence; and how many tickets
    are ``ahead``: opened before so many were allowed.
    """

    height: float = 0.0
    ahead: float = 0.0

    def after(self, excess: float, allowed: float, tickets: int = 0) -> Lift:
        """After a stretch in which so many false alarms were allowed and so many tickets were
        opened: time sinks it, tickets lift it, between bounds in excesses of the tail.

        >>> once = Lift().after(1.0, 0.0, tickets=1)
        >>> once.height < once.after(1.0, 0.0, tickets=1).height - once.height
        True
        >>> Lift().after(1.0, 1.0).height < 0.0
        True
        """
        ahead = max(self.ahead - TICKETS * allowed, 0.0)
        # The second of two that come together has one more before its time.
        paid = tickets * (1.0 + _SURCHARGE * (ahead + 0.5 * (tickets - 1)))
        rise = (paid if tickets else 0.0) - TICKETS * allowed
        height = self.height + _TICKET_EXCESSES * excess * rise
        height = min(max(height, -_LEAST_LIFT * excess), _MOST_LIFT * excess)
        return Lift(height, ahead + tickets)


ROWS, OPEN, BLOCK, PEAK, BEFORE, EARLIER = range(6)
ACCOUNT: Final = 6
"""What a line knows of one member: rows judged, rows for which its ticket stays open, the open
block's rows and largest evidence, the evidence of the two rows before."""
_NEW: Final = np.array([0.0, 0.0, 0.0, -np.inf, -np.inf, -np.inf])


def accounts(members: int) -> Array:
    """Of so many members nothing is known. Shape (members, :data:`ACCOUNT`)."""
    return np.tile(_NEW, (members, 1))


@dataclass(slots=True)
class Line:
    """The line of all members of one image. ``per_row``: false alarms that are allowed, of one
    member in one row; ``merge_rows``: rows after an alarm that belong to its ticket.
    ``lift``: what time and tickets have moved it.
    """

    per_row: float
    merge_rows: int
    tail: Tail
    lift: Lift = field(default_factory=Lift)
    _off: float = field(init=False)
    _rareness: float = field(init=False)

    def __post_init__(self) -> None:
        self._off = self.tail.doubt(self._per_block)
        self._rareness = _rareness(self._per_block)

    @property
    def _per_block(self) -> float:
        return TICKETS * self.per_row * BLOCK_ROWS

    def height(self) -> float:
        """The evidence from which somebody is called."""
        tail = self.tail
        return tail.high + tail.excess * self._rareness + self._off * tail.excess + self.lift.height

    def astray(self) -> bool:
        """Whether tickets have lifted it so far that its tail can't be right."""
        return self.lift.height > _ASTRAY * self.tail.excess

    def departing(self, known: Array, evidence: Array) -> float:
        """How far above the line the farthest member is of those who open a ticket in this row,
        or have just opened one; 0 without any. Nothing moves on.
        """
        just = (known[:, OPEN] <= 1.0) | (known[:, OPEN] > self.merge_rows + 1 - _JUST)
        above = np.where(just & (known[:, ROWS] >= _FIRST_ROWS), evidence - self.height(), 0.0)
        return float(np.fmax.reduce(above, initial=0.0))

    def judge(self, known: Array, evidence: Array, *, merged: bool = False) -> tuple[Array, Flags]:
        """One row of all members; see :func:`judge_row`."""
        return judge_row([self], np.zeros(len(known), np.int64), known, evidence, merged=merged)


def judge_row(
    lines: Sequence[Line], of: npt.NDArray[np.int64], known: Array, evidence: Array,
    *, merged: bool = False,
) -> tuple[Array, Flags]:  # fmt: skip  # two lines say as much
    """One row of all members of some images, ``(members,)``, NaN where one is absent: how far
    above its line each is (NaN again), and who alarms. ``of``: whose line is each member's.

    The lines themselves and the accounts, ``known``, move on. Rows of an open ticket do not
    move the tail: an incident, however long, is not taken for what is usual. But where
    tickets have led the line :meth:`Line.astray` and most members have one open, all rows do:
    what was idle while it was learned and works ever since would stay one ticket after another.
    Those who are ``merged`` open no ticket of their own: another image's stands for theirs.
    """
    present = ~np.isnan(evidence)
    margins = evidence - np.array([line.height() for line in lines])[of]
    known[:, ROWS] += present
    judged = present & (known[:, ROWS] > _FIRST_ROWS)
    opened_for = np.maximum(known[:, OPEN] - judged, 0.0)
    known[:, OPEN] = opened_for
    inside = judged & (opened_for > 0.0)
    quiet = judged & ~inside
    opened = quiet & (margins > 0.0) & (not merged)
    alarms, teaching, excess = opened, quiet, [line.tail.excess for line in lines]
    rows = np.bincount(of[judged], minlength=len(lines)).tolist()
    tickets = np.bincount(of[opened], minlength=len(lines)).tolist()
    for at, line in enumerate(lines):
        line.lift = line.lift.after(excess[at], line.per_row * rows[at], tickets[at])
    if inside.any():
        risen = evidence > np.maximum(known[:, BEFORE], known[:, EARLIER])
        alarms = opened | (inside & (margins > -_AGAIN * np.array(excess)[of]) & risen)
        most_do = 2 * np.bincount(of[inside], minlength=len(lines)) > rows
        teaching = quiet | (inside & (most_do & [line.astray() for line in lines])[of])
    if opened.any():
        most = np.array([line.merge_rows for line in lines], float)[of]
        known[:, OPEN] = np.where(opened, most + 1.0, opened_for)
    _count(lines, of, known, teaching, evidence)
    known[:, EARLIER] = np.where(judged, known[:, BEFORE], known[:, EARLIER])
    known[:, BEFORE] = np.where(judged, evidence, known[:, BEFORE])
    first = present & ~judged
    if first.any():
        margins[first] = np.minimum(margins[first], -1.0) - 1.0
    return margins, alarms


def _count(
    lines: Sequence[Line], of: npt.NDArray[np.int64], known: Array, teaching: Flags, evidence: Array
) -> None:
    known[:, PEAK] = np.where(teaching, np.maximum(known[:, PEAK], evidence), known[:, PEAK])
    known[:, BLOCK] += teaching
    for at in np.flatnonzero(known[:, BLOCK] >= BLOCK_ROWS).tolist():
        line = lines[int(of[at])]
        peak = float(known[at, PEAK])
        lost = line.astray() and peak > line.height()
        line.tail = line.tail.raised(peak) if lost else line.tail.after(peak)
        known[at, BLOCK], known[at, PEAK] = 0.0, -np.inf
