"""Rows of any columns → one scale on which columns and siblings compare.

Nothing is known of a column but its history: no name, no unit, no direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.features import Array

_STILL_SHARE: Final = 0.97
_NORMAL_QUARTILES: Final = 1.349
_NORMAL_NINETY: Final = 6.6
"""Twice what a normal distribution has between its 5 and 95 %: only heavy tails count here."""
_OF_DEVIATION: Final = 0.3
_FEW_ROWS: Final = 30
_GUESS: Final = 0.1
"""From fewer rows no spread can be told: it is at least this share of the values themselves."""


MOST: Final = 1e18
"""What lies beyond is no measurement, as live (models/features.py)."""


def measured(rows: Array) -> Array:
    """Rows with NaN for what is no measurement: endless, or beyond :data:`MOST`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.abs(rows) < MOST, rows, np.nan))


@dataclass(frozen=True, slots=True)
class Scale:
    """``location``: (members, columns), each member's own level; ``spread``: (columns,), what
    siblings share. Finite; ``spread`` is positive.
    """

    location: Array
    spread: Array

    def seen(self, rows: Array) -> Array:
        """Rows ``(rows, members, columns)`` as detectors see them: linear near a member's own
        level, logarithmic far off. NaN stays NaN.
        """
        return np.asarray(np.arcsinh((rows - self.location) / self.spread))

    def restored(self, seen: Array, member: int) -> Array:
        """The inverse of :meth:`seen` for rows ``(rows, columns)`` of one member, whose own
        spread it takes where members have different ones.
        """
        spread = np.broadcast_to(self.spread, self.location.shape)[member]
        return np.asarray(np.sinh(np.clip(seen, -40.0, 40.0)) * spread + self.location[member])


def learned(histories: Sequence[Array]) -> Scale:
    """Location of each member, spread of all. Each history is ``(rows, columns)``, NaN where
    nothing was measured; one without a row takes its siblings' level.

    The spread is the largest of three: quartiles, the 5 to 95 % range, a share of the standard
    deviation. A column that hardly ever moves borrows the median spread of those that do, so
    that one new value in a dead column is not endlessly far.
    """
    together = np.concatenate([np.empty((0, histories[0].shape[1])), *histories])
    pooled = _middle(together)
    own = [_middle(history) for history in histories]
    location = np.array([np.where(np.isnan(level), pooled, level) for level in own])
    centred = np.concatenate([
        history - level for history, level in zip(histories, location, strict=True)
    ])  # fmt: skip  # one thought
    largest = np.nan_to_num(np.fmax.reduce(np.abs(together), axis=0, initial=0.0))
    return Scale(np.nan_to_num(location), _spread(centred, largest))


def _middle(rows: Array) -> Array:
    return np.asarray(_quantiles(rows, [0.5])[0])


def _quantiles(rows: Array, shares: list[float]) -> Array:
    """Column quantiles that pass over NaN; NaN where a column has nothing else."""
    if len(rows) and not np.isnan(rows).any():
        plain: Array = np.quantile(rows, shares, axis=0)
        return plain
    empty = np.isnan(rows).all(axis=0)
    filled = np.where(empty, 0.0, rows) if len(rows) else np.zeros((1, rows.shape[1]))
    given: Array = np.nanquantile(filled, shares, axis=0)
    return np.asarray(np.where(empty, np.nan, given))


def _spread(centred: Array, largest: Array) -> Array:
    if not len(centred):
        return np.ones(centred.shape[1])
    five, low, high, most = np.nan_to_num(_quantiles(centred, [0.05, 0.25, 0.75, 0.95]))
    deviation = np.sqrt(np.nan_to_num(_mean((centred - np.nan_to_num(_mean(centred))) ** 2)))
    spread = np.maximum((high - low) / _NORMAL_QUARTILES, (most - five) / _NORMAL_NINETY)
    spread = np.maximum(spread, _OF_DEVIATION * deviation)
    void = np.isnan(centred)
    still = (np.abs(centred) <= 1e-9 + 1e-6 * largest) | void
    still = still.mean(axis=0) > _STILL_SHARE
    if not still.all():
        spread = np.where(still, np.maximum(spread, np.median(spread[~still])), spread)
    if len(centred) < _FEW_ROWS:
        spread = np.maximum(spread, _GUESS * largest)
    return np.where(spread > 1e-12, spread, np.maximum(1e-3 * largest, 1e-3))


def _mean(rows: Array) -> Array:
    """Column means that pass over NaN; 0 where a column has nothing else."""
    count = (~np.isnan(rows)).sum(axis=0)
    return np.asarray(np.nansum(rows, axis=0) / np.maximum(count, 1))
