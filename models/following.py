"""What each member has just been like, at three horizons, and how far a row departs from it.

A level follows slowly and trusts no single row: a departure moves it by at most one spread
times its weight, so an incident does not become normal while it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.features import Array

HALF_LIVES: Final = (5.0, 30.0, 100.0)
"""Rows after which a level has come half way. Against the first, a spike shows; against the
second, a step; against the third, smoothed, what is small but stays."""
RECENT: Final = 3.0
"""Half-life of the smoothing of what is held against the slowest level."""
HORIZONS: Final = len(HALF_LIVES)
_CLIP: Final = 1.0
NEW_ROWS: Final = 3.0
"""At the start of a watch a level is worth so many rows: history may end long before."""
_WEIGHTS: Final = (1.0 - 0.5 ** (1.0 / np.array(HALF_LIVES)))[:, None]
_RECENT_WEIGHT: Final = 1.0 - 0.5 ** (1.0 / RECENT)


@dataclass(frozen=True, slots=True)
class Followed:
    """``levels``: (members, horizons, columns) and ``recent``: (members, columns), as seen by
    models/scale.py; ``rows``: (members,), how many rows each member's levels are worth.
    """

    levels: Array
    recent: Array
    rows: Array


def settled(members: int, columns: int) -> Followed:
    """Before a history: at its median, which is 0, and sure of it."""
    return Followed(
        np.zeros((members, HORIZONS, columns)), np.zeros((members, columns)), np.full(members, 1e9)
    )


def anew(followed: Followed) -> Followed:
    """The same levels as a first guess: the first rows may move them far."""
    recent = np.full_like(followed.recent, np.nan)
    return Followed(followed.levels, recent, np.full(len(recent), NEW_ROWS))


def follow(before: Followed, seen: Array) -> tuple[Followed, Array]:
    """Departures of rows ``(rows, members, columns)`` from what came before each, and the
    levels after them. Shape (rows, members, horizons, columns), finite: what is missing
    departs from nothing, and teaches nothing.
    """
    levels, recent, count = before.levels.copy(), before.recent.copy(), before.rows.copy()
    off = np.empty((*seen.shape[:2], HORIZONS, seen.shape[2]))
    voids = np.isnan(seen)
    present, missing = np.logical_not(voids.all(axis=2)), bool(voids.any())
    for at, given in enumerate(seen):
        known = np.where(np.isnan(recent), levels[:, -1], recent) if missing else given
        row = np.where(voids[at], known, given)
        recent += _RECENT_WEIGHT * (row - recent)
        np.copyto(recent, row, where=np.isnan(recent))
        departure = row[:, None] - levels
        count += present[at]
        step = _WEIGHTS * np.minimum(np.maximum(departure, -_CLIP), _CLIP)
        if count.min(initial=np.inf) < 1.0 / _WEIGHTS[-1, 0]:
            share = 1.0 / count[:, None, None]
            step = np.where(share > _WEIGHTS, share * departure, step)
        off[at] = departure
        off[at, :, -1] = recent - levels[:, -1]
        if missing:
            void = voids[at][:, None]
            off[at] = np.where(void, 0.0, off[at])
            step = np.where(void, 0.0, step)
        levels += step
    return Followed(levels, recent, count), off


def arrived(after: Followed, seen: Array) -> Array:
    """The departures by which a row came to these levels, near enough. ``seen``: (members,
    columns), the row; the result (members, horizons, columns), finite: what is missing
    departs from nothing.
    """
    left = seen[:, None] - after.levels
    inside = left / (1.0 - _WEIGHTS)
    off = np.where(np.abs(inside) <= _CLIP, inside, left + _WEIGHTS * _CLIP * np.sign(left))
    off[:, -1] = after.recent - after.levels[:, -1]
    return np.nan_to_num(off)
