"""How far a row lies beyond everything seen so far: the magnitudes' first sighting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.features import Array


@dataclass(frozen=True, slots=True)
class Range:
    """``low``, ``high``: (members, columns); infinite the wrong way round where nothing was
    ever seen, and then nothing is beyond.
    """

    low: Array
    high: Array


def seen_in(histories: Sequence[Array], columns: int) -> Range:
    """The range of all histories together, each ``(rows, columns)``. Shapes (1, columns)."""
    together = np.concatenate([np.empty((0, columns)), *histories])
    low = np.fmin.reduce(together, axis=0, initial=np.inf)
    high = np.fmax.reduce(together, axis=0, initial=-np.inf)
    return Range(low[None], high[None])


def beyond(known: Range, seen: Array) -> tuple[Range, Array]:
    """The range after these rows, and what each went beyond it, summed over columns.

    Shapes: ``seen`` (rows, members, columns); the sum (rows, members), not negative, finite.
    A value beyond is seen from then on: repeating it is no news.
    """
    highs = np.fmax.accumulate(np.concatenate([known.high[None], seen]), axis=0)
    lows = np.fmin.accumulate(np.concatenate([known.low[None], seen]), axis=0)
    with np.errstate(invalid="ignore"):
        past = np.maximum(seen - highs[:-1], lows[:-1] - seen)
    past = np.where(np.isfinite(past), np.maximum(past, 0.0), 0.0)
    return Range(lows[-1], highs[-1]), np.asarray(past.sum(axis=2))
