"""Where values lie among a forest's thresholds of their feature."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.features import Array

Single = npt.NDArray[np.float32]
Small = npt.NDArray[np.int16]
Whole = npt.NDArray[np.int64]
Keys = npt.NDArray[np.complex64]

FEW: Final = 40
"""Up to so many rows are quicker with fewer calls of numpy, each of which does more."""
_CELLS: Final = 8192
_LEAST_SPAN: Final = 1e-20


def keyed(feature: Any, value: Any) -> Keys:
    """Values of all features in one order: complex numbers are sorted by both parts."""
    keys = np.empty(np.shape(value), np.complex64)
    keys.real, keys.imag = feature, value
    return keys


class Ranks:
    """Which table row a value picks: each feature has one for each of its thresholds, one for
    what lies beyond them all, and some that are never picked.
    """

    def __init__(self, feature: Small, threshold: Single, features: int) -> None:
        """Of each threshold, whose it is; in any order, and as often as they like."""
        every = np.arange(features)
        known = np.unique(keyed(feature, threshold))
        start = known.searchsorted(keyed(every, np.full(features, -np.inf)))
        stop = known.searchsorted(keyed(every, np.full(features, np.inf)))
        of_features = [known.imag[low:high] for low, high in zip(start, stop, strict=True)]
        within = self._lay_grid(of_features)
        most = max(int(within.max()), 1)
        self._halves = [2**power for power in reversed(range(most.bit_length()))]
        # Where one looks beyond a feature's thresholds there is plus infinity.
        whose = every.repeat(2 * self._halves[0])
        beyond = keyed(whose, np.full(len(whose), np.inf))
        self._keys = np.sort(np.concatenate([known, beyond]))
        self._thresholds = self._keys.imag.copy()
        self._features, self._template = every[:, None], keyed(every, np.zeros(features))
        self.stop = self._keys.searchsorted(keyed(every, np.full(features, np.inf))) + 1
        self.start = self._keys.searchsorted(keyed(every, np.full(features, -np.inf)))
        self._grid = np.cumsum(within, axis=1) - within + self.start[:, None]

    def _lay_grid(self, of_features: list[Single]) -> Whole:
        """Ranks almost without a search: a linear grid gives the rank at a cell's lower edge,
        halving among what lies in one cell the rest. Exact, for a value's cell is monotone in
        it. Returns how many thresholds lie in each cell: (features, cells).
        """
        count = len(of_features)
        self._low = np.zeros((count, 1), np.float32)
        self._per_unit = np.ones((count, 1), np.float32)
        self._first_cell = np.arange(count)[:, None] * _CELLS
        within = np.empty((count, _CELLS), np.int64)
        for at, of in enumerate(of_features):
            if len(of) and of[-1] - of[0] > _LEAST_SPAN:
                self._low[at], self._per_unit[at] = of[0], (_CELLS - 2) / (of[-1] - of[0])
            cells = np.clip((of - self._low[at]) * self._per_unit[at], 0, _CELLS - 1)
            within[at] = np.bincount(cells.astype(np.int64), minlength=_CELLS)
        return within

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, feature: Small, threshold: Single) -> Whole:
        """The first table row for values beyond a threshold."""
        return self._keys.searchsorted(keyed(feature, threshold)) + 1

    def one(self, row: Array) -> Whole:
        """The table row for each feature's value. Shape (features,)."""
        keys = self._template.copy()
        keys.imag = row
        return self._keys.searchsorted(keys)

    def many(self, rows: Array) -> Whole:
        """The same for many rows. Shape (features, rows)."""
        if len(rows) <= FEW:
            return self._keys.searchsorted(keyed(self._features, rows.T))
        columns = np.ascontiguousarray(rows.T, np.float32)
        cells = columns - self._low
        cells *= self._per_unit
        np.clip(cells, 0, _CELLS - 1, out=cells)
        places = cells.astype(np.int64)
        places += self._first_cell
        ranks = self._grid.take(places, mode="clip")
        for half in self._halves:
            beyond = columns > self._thresholds.take(ranks + (half - 1), mode="clip")
            ranks += beyond * half
        return ranks
