"""What people taught a lineage, as far as it is in force: a value.

Dismissed is what was a false alarm: facts, and features up to the value that was dismissed; it
ends. Condemned is what was real: its facts are never normal, who showed them teaches nothing.
Of two lessons about one fact the later counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.detectors.rarity import teachable
from models.features import FAMILIES, FLOORS, INDEX, SIZE, Array
from models.records.lesson import Lesson, Teaching
from models.records.verdict import Family

MOST: Final = 64
"""Lessons that one lineage holds, and as many that wait: dismissals go first, the oldest of them
before others."""
NEVER_NS: Final = 2**62
MARGIN: Final = 0.4
"""How far beyond the dismissed value the like still counts as dismissed, in the transformed unit:
half as much again, since what a finding tells is a single sample."""
_LED: Final = tuple(
    np.array([at for at, of in enumerate(FAMILIES) if of is family])
    for family in (Family.EGRESS, Family.RESOURCE, Family.PROCESS)
)
"""Families that condemn; what comes in never does, and excuses what follows from it."""
_TAUGHT: Final = np.concatenate(_LED)

Flags = npt.NDArray[np.bool_]


def _none() -> Array:
    return np.full(SIZE, np.nan)


@dataclass(frozen=True, slots=True)
class Lessons:
    """``waiting`` have not begun, ``held`` have. What follows from them: ``dismissed`` and
    ``condemned`` facts, ``barred`` containers, dismissed values between ``low`` and ``high``
    (as baselines see them; NaN: none), and ``next_ns`` when that changes by itself.
    """

    waiting: tuple[Lesson, ...] = ()
    held: tuple[Lesson, ...] = ()
    dismissed: frozenset[str] = field(init=False, default=frozenset())
    condemned: frozenset[str] = field(init=False, default=frozenset())
    barred: frozenset[str] = field(init=False, default=frozenset())
    low: Array = field(init=False, default_factory=_none, compare=False)
    high: Array = field(init=False, default_factory=_none, compare=False)
    spans: bool = field(init=False, default=False)
    next_ns: int = field(init=False, default=NEVER_NS)

    def __post_init__(self) -> None:
        dismissed, condemned = _said(self.held)
        confirmed = [one for one in self.held if one.what is Teaching.CONFIRM]
        low, high = _bounds(self.held)
        times = [one.from_ns for one in self.waiting]
        times += [one.until_ns for one in self.held if one.until_ns]
        for name, value in (
            ("dismissed", dismissed), ("condemned", condemned),
            ("barred", frozenset(one.subject for one in confirmed)),
            ("low", low), ("high", high), ("spans", bool(np.isfinite(high).any())),
            ("next_ns", min(times, default=NEVER_NS)),
        ):  # fmt: skip  # a table
            object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        return bool(self.waiting or self.held)

    def find(self, uid: str) -> Lesson | None:
        return next((one for one in (*self.waiting, *self.held) if one.uid == uid), None)

    def without(self, uid: str) -> Lessons:
        return Lessons(_others(self.waiting, uid), _others(self.held, uid))

    def awaiting(self, lesson: Lesson) -> Lessons:
        return replace(self, waiting=(*_others(self.waiting, lesson.uid), lesson)[-MOST:])

    def holding(self, lesson: Lesson) -> Lessons:
        """With one more in force; what it takes from its record's bulk is done by then."""
        if lesson.what is Teaching.BASELINE:
            lesson = replace(lesson, facts=(), usual=())
        held = [*_others(self.held, lesson.uid), lesson]
        while len(held) > MOST:
            held.remove(min(held, key=lambda one: one.what is Teaching.CONFIRM))
        return Lessons(_others(self.waiting, lesson.uid), tuple(held))

    def ended(self, at_ns: int) -> Lessons:
        held = tuple(one for one in self.held if not 0 < one.until_ns <= at_ns)
        return self if len(held) == len(self.held) else replace(self, held=held)

    def due(self, at_ns: int) -> list[Lesson]:
        """Those that begin by then, in the order of their times."""
        return sorted(
            (one for one in self.waiting if one.from_ns <= at_ns), key=lambda one: one.from_ns
        )


def _others(lessons: tuple[Lesson, ...], uid: str) -> tuple[Lesson, ...]:
    return tuple(one for one in lessons if one.uid != uid)


def _said(held: Iterable[Lesson]) -> tuple[frozenset[str], frozenset[str]]:
    """Facts dismissed and condemned."""
    dismissed: set[str] = set()
    condemned: set[str] = set()
    for one in held:
        if one.what is Teaching.DISMISS:
            dismissed |= set(filter(teachable, one.facts))
            condemned -= set(one.facts)
        elif one.what is Teaching.CONFIRM:
            condemned |= set(one.facts)
            dismissed -= set(one.facts)
    return frozenset(dismissed), frozenset(condemned)


def _bounds(held: Iterable[Lesson]) -> tuple[Array, Array]:
    """Dismissed values by feature, lowest and highest."""
    low, high = _none(), _none()
    spans = [span for one in held if one.what is Teaching.DISMISS for span in one.spans]
    for span in spans:
        at = INDEX.get(span.feature)
        if at is not None and at in _TAUGHT:
            ends = np.arcsinh(np.array([span.low, span.high]) / FLOORS[at])
            low[at] = np.fmin(low[at], ends[0] - MARGIN)
            high[at] = np.fmax(high[at], ends[1] + MARGIN)
    return low, high


def calmed(evidence: Array, last: Array, lessons: Lessons) -> Array:
    """Evidence without what was dismissed. Shapes ``(members, features)``; ``last`` are the
    members' last values.

    What a feature within its dismissed bounds leads of its family goes with it: the bytes of a
    nightly export come with its packets.
    """
    if not lessons.spans or not len(evidence):
        return evidence
    inside: Flags = (last >= lessons.low) & (last <= lessons.high)  # NaN: not inside
    out, row = evidence.copy(), np.arange(len(evidence))
    for features in _LED:
        leader = features[evidence[:, features].argmax(axis=1)]
        rows = np.flatnonzero(inside[row, leader])
        out[np.ix_(rows, features)] = 0.0
    return out


UNTAUGHT: Final = Lessons()
