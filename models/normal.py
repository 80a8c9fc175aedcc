"""A baseline as people review it: features by name, in their own units, and how sure we are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.detection import Detection
from models.features import FEATURES, INDEX, NOISE
from models.learning import learned
from models.lineage import Image, LineageState
from models.reasons import restored
from models.records.lesson import Usual
from models.rhythm import SLOT_NS, SLOTS, Stretch, stretches
from models.spells import works

__all__ = [
    "Change",
    "Habit",
    "Job",
    "Normal",
    "Usual",
    "differences",
    "habits",
    "jobs",
    "lacking",
    "normal",
]

MATERIAL: Final = 2.0
"""Deviations of the older version by which a level must differ to be worth a line."""


@dataclass(frozen=True, slots=True)
class Normal:
    """What is normal for one image in one role. ``known``: 0 to 1; ``line``: deviations from
    which a magnitude counts; ``facts``: what it does that is normal, of the whole lineage.
    """

    scope: str
    lineage: str
    role: str
    image: str
    first_ns: int
    known: float
    container_blocks: float
    line: float
    features: tuple[Usual, ...]
    facts: tuple[str, ...] = ()


def normal(state: LineageState, image: Image, detection: Detection) -> Normal:
    """What the state holds of one image."""
    facts = sorted(key for key, seen in state.facts.seen.items() if seen.normal)
    return Normal(
        state.scope, state.lineage, state.role, image.name, image.first_ns,
        learned(state, image, detection), image.baseline.container_blocks, image.line,
        tuple(_usual(image, at) for at in range(len(FEATURES)) if image.baseline.blocks[at] > 0),
        tuple(facts),
    )  # fmt: skip  # as the fields lie


def _usual(image: Image, at: int) -> Usual:
    base, feature = image.baseline, FEATURES[at]
    place = float(base.location[at])
    usual, low, high, beyond = restored(
        at, place, float(base.low[at]), float(base.high[at]), place + float(base.scale[at])
    )
    one = (beyond - usual) / max(usual, feature.floor)
    return Usual(feature.name, feature.unit, usual, low, high, one, float(base.blocks[at]))


@dataclass(frozen=True, slots=True)
class Change:
    """How a feature differs between two versions; ``deviations`` of the older one, None
    where only one of them knows the feature.
    """

    feature: str
    unit: str
    before: Usual | None
    after: Usual | None
    deviations: float | None

    @property
    def material(self) -> bool:
        return self.deviations is None or abs(self.deviations) >= MATERIAL


def differences(before: Image, after: Image) -> tuple[Change, ...]:
    """Feature by feature, what differs most first."""
    changes = []
    for at, feature in enumerate(FEATURES):
        known = before.baseline.blocks[at] > 0, after.baseline.blocks[at] > 0
        if not any(known):
            continue
        old, new = (
            _usual(image, at) if there else None
            for image, there in zip((before, after), known, strict=True)
        )
        changes.append(Change(feature.name, feature.unit, old, new, _apart(before, after, at)))
    return tuple(sorted(changes, key=_weight, reverse=True))


def _apart(before: Image, after: Image, at: int) -> float | None:
    """In deviations of a settled older baseline: how unsure we are must not hide a change."""
    old, new = before.baseline, after.baseline
    if not (old.blocks[at] > 0 and new.blocks[at] > 0):
        return None
    sure = 1.0 + 2.0 / max(float(old.blocks[at]), 1.0)
    scale = max(float(old.scale[at]) / sure, float(NOISE[at]))
    return float((new.location[at] - old.location[at]) / scale)


def _weight(change: Change) -> float:
    return np.inf if change.deviations is None else abs(change.deviations)


@dataclass(frozen=True, slots=True)
class Habit:
    """What an image does at the same time of day: ``feature`` up to ``most``, in its unit, on a
    container that is like its image. ``from_s`` and ``until_s``: seconds of the day, UTC; past
    midnight ``until_s`` is the smaller. ``usual``: no more than watched there and then; else it
    was called once, and is usual when it comes again.
    """

    feature: str
    unit: str
    from_s: int
    until_s: int
    most: float
    days: int
    last_ns: int
    usual: bool

    def meets(self, other: Habit) -> bool:
        """Whether some time of day belongs to both, for one feature."""
        return self.feature == other.feature and (
            self._holds(other.from_s) or other._holds(self.from_s)
        )

    def _holds(self, second: int) -> bool:
        return (second - self.from_s) % _DAY_S < ((self.until_s - self.from_s) % _DAY_S or _DAY_S)


_DAY_S: Final = 86_400


def habits(image: Image, at_ns: int) -> tuple[Habit, ...]:
    """By feature and time of day, as they stand at an event time."""
    return tuple(_habit(one) for one in stretches(image.rhythm, at_ns) if one.feature in INDEX)


def _habit(one: Stretch) -> Habit:
    at, slot_s = INDEX[one.feature], SLOT_NS // 10**9
    (most,) = restored(at, one.most)
    return Habit(
        one.feature, FEATURES[at].unit, one.first * slot_s,
        (one.first + one.slots) % SLOTS * slot_s, most, one.days, one.last_ns, one.is_habit,
    )  # fmt: skip  # as the fields lie


@dataclass(frozen=True, slots=True)
class Job:
    """What an image does now and then: ``feature`` up to ``most``, in its unit, for ``most_s``.
    ``usual``: no fault by itself then; else it has not come in enough hours yet.
    """

    feature: str
    unit: str
    times: int
    most: float
    most_s: int
    last_ns: int
    usual: bool


def jobs(image: Image, at_ns: int) -> tuple[Job, ...]:
    """By feature, as they stand at an event time."""
    return tuple(
        Job(
            one.feature, FEATURES[INDEX[one.feature]].unit, one.times,
            restored(INDEX[one.feature], one.most)[0], one.most_ns // 10**9,
            one.last_ns, one.is_usual,
        )
        for one in works(image.spells, at_ns) if one.feature in INDEX
    )  # fmt: skip  # as the fields lie


def lacking(these: tuple[Habit, ...], others: tuple[Habit, ...]) -> list[Habit]:
    """Those habits to which the others have none of that feature at any of that time."""
    return [
        one for one in these
        if one.usual and not any(other.usual and one.meets(other) for other in others)
    ]  # fmt: skip  # one condition
