"""Seeded randomness: one generator for each thing that varies, named after it.

So a container's behaviour depends on the seed and its name alone, not on the order in
which others drew their numbers.
"""

from __future__ import annotations

import hashlib
import math
import random

Chance = random.Random


def chance(*names: object) -> Chance:
    """The generator of this name, the same in every run."""
    return Chance("/".join(map(str, names)))  # simulated load, no secret


def name_of(*names: object, digits: int = 64) -> str:
    """A hexadecimal id of this name, the same in every run."""
    return hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()[:digits]


def rough(rng: Chance, spread: float) -> float:
    """A factor around 1, log-normal, that once in a hundred is an outlier."""
    factor = math.exp(rng.gauss(0.0, spread))
    return factor * rng.paretovariate(3.0) if rng.random() < 0.01 else factor


def count(rng: Chance, mean: float) -> int:
    """A number of independent events (Poisson's, by its normal approximation from 8 on)."""
    if mean >= 8:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    left, events = math.exp(-mean), 0
    product = rng.random()
    while product > left:
        product *= rng.random()
        events += 1
    return events


class Drift:
    """A factor around 1 that wanders and comes back (log of an Ornstein-Uhlenbeck process)."""

    def __init__(self, rng: Chance, spread: float, memory_s: float) -> None:
        self._rng, self._spread, self._memory_s = rng, spread, memory_s
        self._log = rng.gauss(0.0, spread)

    def after(self, seconds: float) -> float:
        kept = math.exp(-seconds / self._memory_s)
        fresh = self._spread * math.sqrt(1.0 - kept * kept)
        self._log = self._log * kept + self._rng.gauss(0.0, fresh)
        return math.exp(self._log)
