"""The one scale on which all detectors are compared."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.features import Array

_DISTANCE: Final = np.array([1.2, 0.8])
_RESIDUAL: Final = 0.15
_UNSEEN: Final = 0.6
_UNSEEN_UNIT: Final = 3.0
_LEAST: Final = 1e-3


def score(lines: float) -> float:
    """Evidence, in lines, as 0..1: 0 nothing, one half at the line, 1 never reached.

    >>> score(0.0), score(1.0), score(3.0)
    (0.0, 0.5, 0.875)
    """
    return float(1.0 - 2.0 ** -max(lines, 0.0))


def combined(far: Array, unlike: Array, past: Array) -> Array:
    """One evidence from three detectors: how far (…, horizons), how unlike the usual
    combination (…, horizons), how much beyond all seen (…). Result (…), finite.

    Each detector's evidence has a heavy tail of a power, so its logarithm has an exponential
    one, which is what models/budget.py reads; the sum of logarithms is high only when they
    agree. Distance carries, the others weigh less: alone they find less (docs/detection.md).

    >>> quiet = combined(np.array([1.0, 1.0]), np.ones(3), np.array(0.0))
    >>> bool(combined(np.array([9.0, 3.0]), np.ones(3), np.array(0.0)) > quiet)
    True
    """
    distance = (_DISTANCE * np.log(far + _LEAST)).sum(axis=-1)
    residual = np.log(unlike + _LEAST).sum(axis=-1)
    unseen = np.log1p(_UNSEEN_UNIT * past)
    return np.asarray(distance + _RESIDUAL * residual + _UNSEEN * unseen)
