"""What the history of a lineage teaches at once: live, onsets are held against it as in
``evaluate``.

A baseline learns block by block and forgets; whoever trains has a whole history before him.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.budget import Tail
from models.detectors.residual import Residual
from models.features import NOISE, Array
from models.watch import taught

LEAST_ROWS: Final = 256
"""A shorter history teaches nothing that a baseline doesn't know."""


@dataclass(frozen=True, slots=True)
class History:
    """``spread``: (features,), positive, what siblings share, on the scale of
    models/features.py; ``low``, ``high``: how far from its own level any container was ever seen,
    the wrong way round where a feature never was; ``residual``: what departs together;
    ``tail``: of block maxima.
    """

    spread: Array
    low: Array
    high: Array
    residual: Residual
    tail: Tail


def learned(rows: Sequence[Array]) -> History:
    """From what each container of a lineage was like, taken as quiet: (rows, features) each, as
    detectors see them, in order of time, NaN where nothing was measured.

    A feature's spread is not below its noise (models/features.py), which columns without a
    name have not.
    """
    found = taught(rows)
    spread = found.known.scale.spread
    low, high = (np.sinh(edge[0]) * spread for edge in (found.range.low, found.range.high))
    return History(np.maximum(spread, NOISE), low, high, found.known.residual, found.tail)
