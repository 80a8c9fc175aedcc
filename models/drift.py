"""How far what is seen now has moved from what a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.errors import ShapeMismatch
from models.features import Array

BINS: Final = 10
STEP: Final = 0.25
"""Deviations that differ by less are the same: a value that hardly ever moves would else fall
into another bin whenever its baseline moves by a hair."""
LEAST_SHARE: Final = 1e-4
"""An empty bin counts as this much, or its logarithm would be infinite."""
MODERATE: Final = 0.1
LARGE: Final = 0.25
"""Below the first a population is taken for the same, beyond the second for another one. These
are customs, not tests; rows that follow each other in time differ by more than their number
suggests, and few rows by chance."""


def psi(before: Array, now: Array, bins: int = BINS) -> float:
    """The population stability index: 0 when both are distributed alike, larger without bound.

    Cut at the quantiles of ``before``, it is the sum over bins of the difference of both
    shares times that of their logarithms (Jeffreys' divergence of the two histograms).

    Shapes: any, one-dimensional; the lengths may differ.
    Raises: ShapeMismatch when either is empty.
    Edge:   values that ``before`` has often make one bin, so a constant that stays scores 0;
            NaN stands in the last bin, with the largest.
    Source: Jeffreys, "An invariant form for the prior probability", 1946; as PSI: Siddiqi,
            "Credit Risk Scorecards", 2006.

    >>> before = np.arange(100.0)
    >>> psi(before, before), round(psi(before, before + 5.0), 2), round(psi(before, -before), 1)
    (0.0, 0.05, 8.3)
    """
    if not before.size or not now.size:
        raise ShapeMismatch(f"{before.size} and {now.size} values: drift is between two of some")
    edges = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]))
    was, is_now = (_shares(edges, values) for values in (before, now))
    return float(np.sum((is_now - was) * np.log(is_now / was)))


def _shares(edges: Array, values: Array) -> Array:
    """A value that is an edge lies below it, so that those that are frequent part from others."""
    places = np.searchsorted(edges, values, side="left")
    counts = np.bincount(places, minlength=len(edges) + 1)
    shares: Array = np.maximum(counts / values.size, LEAST_SHARE)
    return shares


def drifts(before: Array, now: Array, features: Sequence[str]) -> dict[str, float]:
    """The index of each feature's deviations, the largest first.

    Shapes: (rows, features) each.

    >>> still, moved = np.zeros((50, 2)), np.column_stack([np.zeros(50), np.ones(50)])
    >>> drifts(still, moved, ("cpu", "sent"))
    {'sent': 18.419, 'cpu': 0.0}
    """
    was, is_now = np.round(before / STEP), np.round(now / STEP)
    found = {name: round(psi(was[:, at], is_now[:, at]), 3) for at, name in enumerate(features)}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
