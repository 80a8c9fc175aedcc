"""Rows of tables that people read, in each feature's own unit; commands and notebooks show them."""

from __future__ import annotations

from typing import Any

from models.normal import Habit, Job, Usual
from models.portrait import Trait
from models.reasons import amount
from models.records.verdict import Verdict
from streams.report.words import at, clean

Row = dict[str, Any]


def usual(one: Usual) -> Row:
    """One feature of a baseline, and how sure we are of it."""
    return {
        "feature": one.feature,
        "usual": amount(one.usual, one.unit),
        "from": amount(one.low, one.unit),
        "to": amount(one.high, one.unit),
        "one_deviation": f"{one.deviation:.0%}",
        "blocks": f"{one.blocks:.0f}",
    }


def habit(one: Habit) -> Row:
    """What comes at the same time of day."""
    return {
        "feature": one.feature,
        "between": f"{_time_of_day(one.from_s)} and {_time_of_day(one.until_s)}",
        "up_to": amount(one.most, one.unit),
        "seen_on": "1 day" if one.days == 1 else f"{one.days} days",
        "last": at(one.last_ns // 10**6),
        "stands": "usual: only watched" if one.usual else "called once: usual if it comes again",
    }


def job(one: Job) -> Row:
    """What comes and goes at no fixed hour."""
    return {
        "feature": one.feature,
        "up_to": amount(one.most, one.unit),
        "for": f"{one.most_s} s",
        "seen": "once" if one.times == 1 else f"{one.times} times",
        "last": at(one.last_ns // 10**6),
        "stands": "usual: no fault alone" if one.usual else "not in enough hours yet",
    }


def _time_of_day(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}"


def reasons(verdict: Verdict) -> list[Row]:
    """Why a verdict is what it is."""
    return [
        {
            "family": one.family,
            "evidence": one.evidence,
            "feature": one.feature or None,
            "rarity": f"{one.rarity:.3f}",
            "why": clean(one.text),
        }
        for one in verdict.reasons
    ]


def trait(one: Trait) -> Row:
    """One feature as the judge saw it."""

    def told(value: float | None) -> str:
        return "unknown" if value is None else amount(value, one.unit)

    return {
        "feature": one.feature,
        "value": told(one.value),
        "usual": f"{told(one.low)} to {told(one.high)}",
        "deviations": f"{one.off:+.1f}",
        "siblings_share": f"{one.shared:+.1f}",
        "left": f"{one.left:+.1f}",
        "forest": f"{one.forest_share:.0%}",
    }
