"""How far containers are off their usual range, siblings taken out, at two horizons.

A *deviation* is one robust scale of the image's baseline. What siblings share can only
excuse, never accuse: a container is held against the median of the others' departures in
the same direction, so that a load that all carry is nobody's fault, and one that goes on
quietly while the others are busy is no wonder either.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.features import BOTH_WAYS, Array

MOST: Final = 16.0
"""A departure counts at most so much: one wild sample is one wild sample."""
WIDENING: Final = 0.1
"""Siblings never share a load evenly, and it moves other things on: each deviation that they
share, in whatever feature, widens the scale of all so much.
"""


def bounded(off: Array) -> Array:
    """Signed deviations, none beyond :data:`MOST`; NaN in gives NaN out."""
    return np.asarray(np.minimum(np.maximum(off, -MOST), MOST))


BREADTHS: Final = (2, 5, 8)
"""A fault shows in few features or in several: how many of the most distant ones count."""


def farthest(off: Array) -> Array:
    """How far the most distant features are: means of the largest departures either way, one
    for each of :data:`BREADTHS`, added up. ``off``: (…, features), the result (…), >= 0.

    >>> float(farthest(np.array([0.0, -6.0, 2.0])))
    9.333333333333332
    """
    size = off.shape[-1]
    most = min(max(BREADTHS), size)
    far = np.partition(np.abs(off), size - most, axis=-1)[..., size - most :]
    far = np.sort(far, axis=-1)[..., ::-1]
    return np.asarray(sum(far[..., :some].sum(axis=-1) / min(some, most) for some in BREADTHS))


def shared(off: Array) -> tuple[Array, Array]:
    """What the others do together, upwards and downwards, for each container.

    Shape (…, members, columns), both results too; not negative. With one sibling that one
    counts, with two the nearer to usual of them, with more the lower median.

    >>> up, down = shared(np.array([[9.0], [8.0], [0.5]]))
    >>> up.ravel()
    array([0.5, 0.5, 8. ])
    """
    members, columns = off.shape[-2:]
    if members < 2:
        return np.zeros_like(off), np.zeros_like(off)
    ways = np.concatenate([off, -off], axis=-1)
    np.maximum(ways, 0.0, out=ways)
    middle = (members - 2) // 2
    ordered = np.ascontiguousarray(ways.swapaxes(-1, -2))
    ordered.sort(axis=-1)  # column by column, which is several times as fast as all at once
    lower, upper = ordered[..., None, :, middle], ordered[..., None, :, middle + 1]
    # Without a container that is itself in the lower part, the next one is the median.
    others = np.where(ways <= lower, upper, lower)
    return others[..., :columns], others[..., columns:]


def excused(off: Array, up: Array, down: Array) -> Array:
    """Signed departures less what siblings share. Shapes (…, features), all alike.

    >>> excused(np.array([12.0, -3.0]), np.array([10.0, 0.0]), np.array([0.0, 0.0]))
    array([ 1. , -1.5])
    """
    above, below = np.maximum(off - up, 0.0), np.maximum(-off - down, 0.0)
    load = np.maximum.reduce(up, axis=-1, keepdims=True, initial=0.0)
    return np.asarray((above - below) / (1.0 + WIDENING * load))


def evidence(off: Array, up: Array, down: Array, lasting_scale: Array) -> tuple[Array, Array]:
    """What speaks against each container in each feature, and what lasts of it (in scales,
    not yet held against ``lasting_scale``, of each member or of all). Shapes ``(members,
    features)``; not negative.

    ``off``, ``up`` and ``down`` hold the recent and then the lasting, ``(members, 2 features)``.
    The fast horizon sees spikes and steps. The slow one averages noise away, so a small
    shift that stays counts there, in the unit of how much lasts in quiet times.
    """
    horizons = (-1, 2, lasting_scale.shape[-1])
    alone = alarming(excused(off.reshape(horizons), up.reshape(horizons), down.reshape(horizons)))
    now, lasting = alone[:, 0], alone[:, 1]
    return np.maximum(now, lasting / lasting_scale), lasting


def alarming(off: Array) -> Array:
    """Only what points where a feature alarms."""
    return np.where(BOTH_WAYS, np.abs(off), np.maximum(off, 0.0))
