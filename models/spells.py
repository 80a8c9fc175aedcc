"""Work that comes and goes at no fixed hour, such as a job or a compaction: none is a fault.

A resource that was past the line in three different hours, as high as now, and was over within
a quarter of an hour each time, however it ended, condemns nobody alone before it has lasted half
as long again as it did then. With a fact it agrees as ever: such work is nobody's excuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HOURS: Final = 3
"""In so many different hours it must have been seen."""
MOST_NS: Final = 900 * 10**9
"""What lasts longer is no job that comes and goes."""
KEPT_NS: Final = 8 * 86_400 * 10**9
_HOUR_NS: Final = 3_600 * 10**9
_LONGER: Final = 1.5
_HIGHER: Final = 0.5
"""In transformed units, about two thirds: how much more than then still counts as it."""
_MOST: Final = 24

Spell = tuple[int, int, float]
"""When it began and when it was last seen, and its greatest value (transformed, less the
container's own level)."""
Spells = dict[str, tuple[Spell, ...]]
"""By feature, in the order in which they began."""


@dataclass(frozen=True, slots=True)
class Work:
    """A feature that came and went so many ``times``, in so many ``hours``. ``most``, ``most_ns``:
    up to where (as in ``Spell``), and for how long, it condemns nobody alone, or would not if
    it came in enough hours.
    """

    feature: str
    times: int
    hours: int
    most: float
    most_ns: int
    last_ns: int

    @property
    def is_usual(self) -> bool:
        return self.hours >= HOURS


def works(spells: Spells, at_ns: int) -> list[Work]:
    """What has come and gone, by feature."""
    found = []
    for feature in sorted(spells):
        past = [one for one in spells[feature] if one[1] < at_ns and _counts(one, at_ns)]
        if past:
            heights = sorted((height for _, _, height in past), reverse=True)
            lasted = sorted(until - began for began, until, _ in past)
            found.append(Work(
                feature, len(past), _hours(past), heights[:HOURS][-1] + _HIGHER,
                int(_LONGER * lasted[-2:][0]), max(until for _, until, _ in past),
            ))  # fmt: skip  # in the order of the class
    return found


def _counts(spell: Spell, at_ns: int) -> bool:
    began_ns, until_ns, _ = spell
    return until_ns - began_ns <= MOST_NS and at_ns - until_ns <= KEPT_NS


def _hours(spells: Iterable[Spell]) -> int:
    return len({began // _HOUR_NS for began, _, _ in spells})


def usual(spells: Spells, feature: str, began_ns: int, at_ns: int, value: float) -> int:
    """How often the feature was as high before, for about as long; 0 where that is too seldom.

    >>> known: Spells = {}
    >>> for hour_ns in range(0, 3 * _HOUR_NS, _HOUR_NS):
    ...     known = noted(known, "cpu_cores", hour_ns, hour_ns + 100 * 10**9, 4.0)
    >>> began_ns = 5 * _HOUR_NS
    >>> [usual(known, "cpu_cores", began_ns, began_ns + s * 10**9, 4.4) for s in (100, 200)]
    [3, 0]
    """
    alike = [
        one for one in spells.get(feature, ())
        if one[1] < began_ns and value <= one[2] + _HIGHER and _counts(one, at_ns)
    ]  # fmt: skip  # one condition
    if _hours(alike) < HOURS:
        return 0
    second_longest = sorted(until - began for began, until, _ in alike)[-2]
    return len(alike) if at_ns - began_ns <= _LONGER * second_longest else 0


def noted(spells: Spells, feature: str, began_ns: int, at_ns: int, value: float) -> Spells:
    """With what has been past the line since ``began_ns``, and still is."""
    known = [one for one in spells.get(feature, ()) if at_ns - one[1] <= KEPT_NS]
    same = next((one for one in known if one[0] == began_ns), None)
    if same is not None:
        known.remove(same)
        value = max(value, same[2])
    return spells | {feature: tuple(sorted([*known, (began_ns, at_ns, value)])[-_MOST:])}


def before(spells: Spells, at_ns: int) -> Spells:
    """Without what went on then or later."""
    kept = {f: tuple(one for one in some if one[1] < at_ns) for f, some in spells.items()}
    return {feature: some for feature, some in kept.items() if some}
