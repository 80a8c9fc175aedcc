"""What an image does at about the same time every day: the nightly job is no incident.

A magnitude that stayed past the line on two earlier days at this time of day, as high as
now, is usual. Each of those days it was called; what was called for more than magnitudes
alone is never taken for usual.
"""

from __future__ import annotations

from typing import Final

DAY_NS: Final = 86_400 * 10**9
SLOT_NS: Final = 1_800 * 10**9
"""Times of day are told apart by half hours; the ones before and after count as the same."""
SLOTS: Final = DAY_NS // SLOT_NS
DAYS: Final = 2
"""On so many earlier days it must have been seen."""
KEPT_NS: Final = 8 * DAY_NS
_APART_NS: Final = 18 * 3_600 * 10**9
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
        for near in (-1, 0, 1)
        for when_ns, height in rhythm.get(f"{feature} {(slot_of(at_ns) + near) % SLOTS}", ())
        if _APART_NS <= at_ns - when_ns <= KEPT_NS and value <= height + _HIGHER
    }
    return len(days) if len(days) >= DAYS else 0


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
    if beats and at_ns - beats[-1][0] < _APART_NS:
        value = max(value, beats.pop()[1])
    others = {k: b for k, b in rhythm.items() if k != key and at_ns - b[-1][0] <= KEPT_NS}
    while len(others) >= _MOST:
        del others[min(others, key=lambda other: (others[other][-1][0], other))]
    return others | {key: (*beats, (at_ns, value))}


def vetoed(rhythm: Rhythm, at_ns: int) -> Rhythm:
    """Without what was seen within the hours before: it belongs to an incident."""
    kept = {
        key: tuple(beat for beat in beats if at_ns - beat[0] >= _APART_NS)
        for key, beats in rhythm.items()
    }
    return {key: beats for key, beats in kept.items() if beats}


def before(rhythm: Rhythm, at_ns: int) -> Rhythm:
    """Without what was seen from then on."""
    kept = {k: tuple(beat for beat in beats if beat[0] < at_ns) for k, beats in rhythm.items()}
    return {key: beats for key, beats in kept.items() if beats}
