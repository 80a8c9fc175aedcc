"""What an image does at about the same time every day: the nightly job is no incident.

A magnitude that stayed past the line on two earlier days at this time of day, as high as
now, is usual. Each of those days it was called; what was called for more than magnitudes
alone is never taken for usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

DAY_NS: Final = 86_400 * 10**9
SLOT_NS: Final = 1_800 * 10**9
"""Times of day are told apart by half hours; the ones before and after count as the same."""
SLOTS: Final = DAY_NS // SLOT_NS
DAYS: Final = 2
"""On so many earlier days it must have been seen."""
KEPT_NS: Final = 8 * DAY_NS
APART_NS: Final = 18 * 3_600 * 10**9
_HIGHER: Final = 0.5
"""In transformed units, about two thirds: how much more than on those days still counts as it."""
_MOST: Final = 96

Beat = tuple[int, float]
"""When it was last seen in that half hour of that day, and its greatest value (transformed,
less the container's own level)."""
Rhythm = dict[str, tuple[Beat, ...]]
"""By ``feature slot``."""


def usual(rhythm: Rhythm, feature: str, at_ns: int, value: float) -> int:
    """On how many earlier days the feature was about as high at this time of day; 0 where
    these are too few to be a habit.
    """
    days = {
        round((at_ns - when_ns) / DAY_NS)
        for when_ns, height in _near(rhythm, feature, slot_of(at_ns))
        if APART_NS <= at_ns - when_ns <= KEPT_NS and value <= height + _HIGHER
    }
    return len(days) if len(days) >= DAYS else 0


def _near(rhythm: Rhythm, feature: str, slot: int) -> Iterator[Beat]:
    for near in (-1, 0, 1):
        yield from rhythm.get(f"{feature} {(slot + near) % SLOTS}", ())


def slot_of(at_ns: int) -> int:
    """The half hour of the day, 0 to 47.

    >>> slot_of(3 * DAY_NS + 2 * 3_600 * 10**9)
    4
    """
    return at_ns % DAY_NS // SLOT_NS


def noted(rhythm: Rhythm, feature: str, at_ns: int, value: float) -> Rhythm:
    """The rhythm that has seen a feature past the line, for long enough to count.

    >>> once = noted({}, "cpu_cores", 0, 4.0)
    >>> usual(noted(once, "cpu_cores", DAY_NS, 4.0), "cpu_cores", 2 * DAY_NS, 4.1)
    2
    """
    key = f"{feature} {slot_of(at_ns)}"
    beats = [beat for beat in rhythm.get(key, ()) if at_ns - beat[0] <= KEPT_NS]
    if beats and at_ns - beats[-1][0] < APART_NS:
        value = max(value, beats.pop()[1])
    others = {k: b for k, b in rhythm.items() if k != key and at_ns - b[-1][0] <= KEPT_NS}
    while len(others) >= _MOST:
        del others[min(others, key=lambda other: (others[other][-1][0], other))]
    return others | {key: (*beats, (at_ns, value))}


def vetoed(rhythm: Rhythm, at_ns: int) -> Rhythm:
    """Without what was seen within the hours before: it belongs to an incident."""
    kept = {
        key: tuple(beat for beat in beats if at_ns - beat[0] >= APART_NS)
        for key, beats in rhythm.items()
    }
    return {key: beats for key, beats in kept.items() if beats}


def before(rhythm: Rhythm, at_ns: int) -> Rhythm:
    """Without what was seen from then on."""
    kept = {k: tuple(beat for beat in beats if beat[0] < at_ns) for k, beats in rhythm.items()}
    return {key: beats for key, beats in kept.items() if beats}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Half hours in a row, from ``first`` on, about which a feature was past the line. ``days``:
    on how many; ``most``: up to where that is usual, or would be (as in ``Beat``); each of the
    half hour in which it is greatest.
    """

    feature: str
    first: int
    slots: int
    days: int
    most: float
    last_ns: int

    @property
    def is_habit(self) -> bool:
        return self.days >= DAYS


def stretches(rhythm: Rhythm, at_ns: int) -> list[Stretch]:
    """What counts as usual on the day that follows ``at_ns`` (unless it was forgotten by then),
    and what would if it came once more, by feature and time of day.

    >>> twice = noted(noted({}, "cpu_cores", 0, 4.0), "cpu_cores", DAY_NS, 3.0)
    >>> stretches(twice, DAY_NS)
    [Stretch(feature='cpu_cores', first=47, slots=3, days=2, most=3.5, last_ns=86400000000000)]
    """
    found = []
    for feature in sorted({key.rpartition(" ")[0] for key in rhythm}):
        known = [_slot(rhythm, feature, slot, at_ns) for slot in range(SLOTS)]
        # A stretch may go on past midnight: begin where none does.
        parted = (slot for slot in range(SLOTS) if _stands(known[slot - 1]) != _stands(known[slot]))
        begin = next(parted, 0)
        round_the_day = [known[(begin + step) % SLOTS] for step in range(SLOTS)]
        found += list(_runs(feature, begin, round_the_day))
    return sorted(found, key=lambda one: (one.feature, one.first))


_Slot = tuple[int, float, int]
"""Days, up to where, when last; no days: nothing was seen."""


def _slot(rhythm: Rhythm, feature: str, slot: int, at_ns: int) -> _Slot:
    """What ``usual`` goes by at this time of day."""
    middle_ns = slot * SLOT_NS + SLOT_NS // 2
    by_day: dict[int, float] = {}
    last_ns = 0
    for when_ns, height in _near(rhythm, feature, slot):
        if at_ns - when_ns <= KEPT_NS:
            day = round((when_ns - middle_ns) / DAY_NS)
            by_day[day] = max(height, by_day.get(day, height))
            last_ns = max(last_ns, when_ns)
    if not by_day:
        return 0, 0.0, 0
    heights = sorted(by_day.values(), reverse=True)
    return len(heights), heights[:DAYS][-1] + _HIGHER, last_ns


def _stands(slot: _Slot) -> int:
    """None, in the making, a habit."""
    return min(slot[0], DAYS)


def _runs(feature: str, begin: int, slots: list[_Slot]) -> Iterator[Stretch]:
    at = begin
    for stands, run in groupby(slots, _stands):
        held = list(run)
        if stands:
            days, most, last_ns = (max(column) for column in zip(*held, strict=True))
            yield Stretch(feature, at % SLOTS, len(held), days, most, last_ns)
        at += len(held)
