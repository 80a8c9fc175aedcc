"""How strange a row is against all of a history: how far it lies from the nearest row there,
where rows lie so far apart. It ranks rows of all images on one scale; no line is drawn on
it (models/budget.py), since it stays high as long as what is strange lasts.

Source: M. Breunig et al., "LOF: identifying density-based local outliers", 2000, with one
neighbour; distances are sums of columns, so that several small differences count as one large
one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.features import Array

_KEPT: Final = 3000
"""Rows of a history that are kept, those farthest from the rest before others."""
_FEW: Final = 256
_NEIGHBOURS: Final = 5
_BLUR: Final = 0.1
"""Spreads a column by which rows differ that nobody would tell apart."""
_LEAST: Final = 1e-3
_BEYOND: Final = 0.09
_BEYOND_UNIT: Final = 3.0
_AT_ONCE: Final = 32

Single = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Memory:
    """``rows``: (kept, columns), as seen by models/scale.py, finite, at least one; ``apart``:
    (kept,), how far each lies from its fifth neighbour; ``low``, ``high``: (columns,), what
    the whole history held.
    """

    rows: Single
    apart: Array
    low: Array
    high: Array

    def strangeness(self, seen: Array) -> Array:
        """Rows ``(…, columns)`` → (…): a logarithm, finite. What is missing is left out; a row
        of nothing else is not strange.
        """
        rows = seen.reshape(-1, seen.shape[-1])
        void = np.isnan(rows)
        near, distance = _nearest(rows.astype(np.float32), self.rows)
        columns = np.maximum((~void).sum(axis=1), 1)
        apart = self.apart[near] / seen.shape[-1]
        beyond = ((rows > self.high) | (rows < self.low)).sum(axis=1)
        told = np.log((distance / columns + _LEAST) / (apart + _BLUR))
        told += _BEYOND * np.log1p(_BEYOND_UNIT * beyond)
        return np.asarray(told.reshape(seen.shape[:-1]))


def learned(histories: Sequence[Array], columns: int) -> Memory:
    """The memory of all histories together, each ``(rows, columns)``, NaN where nothing was
    measured: taken for the usual, which is 0, as without a history every row is.
    """
    together = np.concatenate([np.empty((0, columns)), *histories])
    low = np.fmin.reduce(together, axis=0, initial=np.inf)
    high = np.fmax.reduce(together, axis=0, initial=-np.inf)
    unmeasured = ~np.isfinite(high)
    low, high = np.where(unmeasured, -np.inf, low), np.where(unmeasured, np.inf, high)
    rows = np.nan_to_num(together if len(together) else np.zeros((1, columns)))
    kept = _worth_keeping(rows.astype(np.float32))
    return Memory(kept, _apart(kept), low, high)


def _worth_keeping(rows: Single) -> Single:
    """All rows, or half of what may be kept the farthest from an even sample, and of the others
    an even sample.
    """
    if len(rows) <= _KEPT:
        return rows
    _, far = _nearest(rows, rows[:: -(-len(rows) // _FEW)])
    order = np.argsort(-far, kind="stable")
    rest = np.sort(order[_KEPT // 2 :])
    even = rest[:: -(-len(rest) // (_KEPT - _KEPT // 2))]
    kept: Single = rows[np.sort(np.concatenate([order[: _KEPT // 2], even]))]
    return kept


def _apart(rows: Single) -> Array:
    """How far each row lies from its fifth neighbour, or the last where there are fewer."""
    at = min(_NEIGHBOURS, len(rows) - 1)
    parts = [np.partition(part, at, axis=1)[:, at] for part in _distances(rows, rows)]
    return np.concatenate(parts).astype(np.float64)


def _nearest(rows: Single, known: Single) -> tuple[npt.NDArray[np.intp], Array]:
    """Which known row is nearest to each, and how far it is."""
    near, far = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    for part in _distances(rows, known):
        at = part.argmin(axis=1)
        near.append(at)
        far.append(part[np.arange(len(at)), at])
    return np.concatenate(near), np.concatenate(far).astype(np.float64)


def _distances(rows: Single, known: Single) -> Iterator[Single]:
    """Distances ``(some, known)`` of a few rows after the other: column by column, in one order,
    so that a row gives the same bits in any company. What is NaN adds nothing.
    """
    columns = np.ascontiguousarray(known.T)
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        missing = np.isnan(part)
        total = np.zeros((len(part), len(known)), np.float32)
        gap = np.empty_like(total)
        for column, value in enumerate(part.T):
            np.subtract(value[:, None], columns[column], out=gap)
            np.abs(gap, out=gap)
            if missing[:, column].any():
                gap[missing[:, column]] = 0.0
            total += gap
        yield total
