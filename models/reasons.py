"""What a person reads: the value, what is usual, what the siblings do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from models.detectors.base import score
from models.features import FEATURES, Array, restore
from models.records.verdict import Evidence, Family, Reason

_NEVER: Final = "never seen of this image"
_PREFIXES: Final = ("", "k", "M", "G", "T", "P")


def amount(value: float, unit: str) -> str:
    """A value with its unit, short.

    >>> amount(48_000_000, "B"), amount(0.25, "cores"), amount(3.0, ""), amount(1_784.2, "/s")
    ('48 MB', '0.25 cores', '3', '1784 /s')
    """
    if not unit.startswith("B"):
        told = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
        return f"{told} {unit}".rstrip()
    step = 0
    while abs(value) >= 1000.0 and step < len(_PREFIXES) - 1:
        value, step = value / 1000.0, step + 1
    return f"{value:.3g} {_PREFIXES[step]}{unit}"


def others(siblings: int, shared: float) -> str:
    """What the siblings do in that feature; ``shared`` in deviations."""
    if not siblings:
        return "no siblings to compare with"
    word = "sibling" if siblings == 1 else "siblings"
    return f"{siblings} {word} {'unchanged' if shared < 2.0 else 'share part of it'}"


def magnitude(at: int, value: float, low: float, high: float, siblings: str, rarity: float,
              lasted_s: float, rising: bool) -> Reason:  # fmt: skip  # two lines
    """A feature off its range; values as baselines see them (models/features.py), NaN where it is
    no longer measured: of a container that is cut off nothing is sent.
    """
    feature = FEATURES[at]
    now, least, most = restored(at, value, low, high)
    change = "rising, " if rising else ""
    since = f"for {lasted_s:.0f} s" if lasted_s >= 0.5 else "just now"
    known = math.isfinite(now)
    told = amount(now, feature.unit) if known else "(not measured now)"
    text = (
        f"{feature.says} {told}, {change}{since}; "
        f"usual {amount(least, feature.unit)} to {amount(most, feature.unit)}; {siblings}"
    )
    return Reason(
        feature.family, Evidence.MAGNITUDE, text, feature.name, now if known else None, least, most,
        rarity, siblings,
    )  # fmt: skip  # in the order of the class


def onset(beyond: float, features: Sequence[int], values: Sequence[float],
          before: Sequence[float], siblings: str) -> Reason:  # fmt: skip  # two lines
    """Something that sets in: what changed most, and what it was just before. ``beyond``: how
    far past the line, in excesses of its tail.
    """
    changes = []
    for at, value, was in zip(features, values, before, strict=True):
        now, then = (amount(one, FEATURES[at].unit) for one in restored(at, value, was))
        changes.append(f"{FEATURES[at].says} {now}, just before about {then}")
    text = f"all at once: {'; '.join(changes)}; {siblings}"
    first = FEATURES[features[0]]
    (value,) = restored(features[0], values[0])
    return Reason(
        first.family, Evidence.MAGNITUDE, text, first.name, value,
        rarity=score(1.0 + max(beyond, 0.0) / 4.0), siblings=siblings,
    )  # fmt: skip  # short enough


def forest(surprise: float, shares: Array) -> str:
    """What the forest adds: how rare such a row is, and what isolates it (its two largest
    shares of the path that was saved).
    """
    saved = np.maximum(shares, 0.0)
    whole = float(saved.sum()) or 1.0
    top = np.argsort(-saved, kind="stable")[:2].tolist()
    parts = " and ".join(f"{FEATURES[at].says} ({saved[at] / whole:.0%})" for at in top)
    return f"together as rare as one in {math.exp(surprise):.0f} (forest), mostly by {parts}"


def restored(at: int, *seen: float) -> list[float]:
    """Values of one feature in its own unit again."""
    values = np.zeros((len(seen), len(FEATURES)))
    values[:, at] = seen
    return [float(value) for value in restore(values)[:, at]]


def fact(
    family: Family, proof: bool, text: str, rarity: float, *, siblings: int, others: int,
    earlier_h: float,
) -> Reason:  # fmt: skip  # two lines
    """Something new here: never seen before, or first ``earlier_h`` hours ago, on another day.
    So many ``others`` of the ``siblings`` show it as well.
    """
    evidence = Evidence.PROOF if proof else Evidence.FACT
    seen = f"first seen of this image {earlier_h:.0f} h ago" if earlier_h else _NEVER
    if not siblings:
        return Reason(family, evidence, f"{text}; {seen}", rarity=rarity)
    shown = "no other sibling does"
    if others:
        shown = f"{others} of its siblings do, too" if others > 1 else "a sibling does, too"
        seen = "new to this image" if seen == _NEVER else seen
    return Reason(family, evidence, f"{text}; {seen}, {shown}", rarity=rarity, siblings=shown)
