"""Whether what a forest calls as rare as one in N comes once in N: a promise that needs no label.

A forest's surprise is minus the logarithm of a rank among the rows it was trained on; on quiet
rows that it has not seen, one in a hundred should be as rare as one in a hundred. Where it says
so more often it cries wolf, where it never does it is blind to what is rare here.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from models.features import Array

PROMISES: Final = (10, 30, 100, 300, 1_000)
"""One in so many."""
EXPECTED: Final = 10
"""A promise is looked at where so many rows should keep it: of fewer, chance decides."""
LEAST_ROWS: Final = PROMISES[0] * EXPECTED
STRETCHES: Final = 10


def promises(rows: int) -> tuple[int, ...]:
    """Those that so many rows can tell of.

    >>> promises(2_000), promises(99)
    ((10, 30, 100), ())
    """
    return tuple(one for one in PROMISES if rows >= one * EXPECTED)


def rarer(surprise: Array) -> dict[int, int]:
    """One in so many → the rows that are said to be rarer. ``surprise``: (rows,), nats."""
    return {one: int(np.count_nonzero(surprise > math.log(one))) for one in promises(len(surprise))}


def off(surprise: Array) -> float:
    """How far from its promises a forest is on rows that it has not seen: the mean distance,
    in logarithms, between how often it says so and how often it should. 0: all are kept.

    >>> as_promised = -np.log((np.arange(1_000) + 0.5) / 1_000)
    >>> round(off(as_promised), 3), round(off(as_promised + 1.0), 3)
    (0.003, 0.985)
    """
    told = rarer(surprise)
    return float(np.mean([
        abs(math.log((seen + 0.5) / (len(surprise) / one + 0.5))) for one, seen in told.items()
    ]))  # fmt: skip  # one thought


def stretches_won(ours: Array, theirs: Array) -> int:
    """Of :data:`STRETCHES` in time, without how many our forest keeps its promises better than
    theirs; both surprises of the same rows, in order of time.

    Rows that follow each other are alike, so that a single strange stretch may decide: who is
    better whichever is left out is so on the whole.
    """
    parts = np.array_split(np.arange(len(ours)), STRETCHES)
    return sum(off(np.delete(ours, part)) < off(np.delete(theirs, part)) for part in parts)
