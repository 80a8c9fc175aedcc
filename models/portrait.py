"""All that the judge sees of one container at one moment, feature by feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.detection import Detection
from models.detectors import distance
from models.detectors.forest import Forest
from models.features import FEATURES, SIZE, Array
from models.lineage import LineageState
from models.magnitudes import own_level
from models.members import LAST, LEVEL
from models.reasons import restored
from models.siblings import shared_by


@dataclass(frozen=True, slots=True)
class Trait:
    """One feature of one container. ``value``, ``low`` and ``high`` in the feature's unit;
    the rest in deviations: how far ``off``, how much the siblings ``shared`` of it, what is
    ``left``. ``forest_share``: its part (0..1) of the path that the forest saved.
    """

    feature: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    off: float
    shared: float
    left: float
    forest_share: float


@dataclass(frozen=True, slots=True)
class Portrait:
    """``traits``: what is most left first. ``line``: deviations from which a magnitude
    counts. ``surprise``: the forest's, in nats, None without one.
    """

    image: str
    siblings: int
    line: float
    surprise: float | None
    traits: tuple[Trait, ...]


def portrait(
    state: LineageState, subject: str, forest: Forest | None, detection: Detection
) -> Portrait | None:
    """The container as the state has it; None when it is not there, or too young to judge."""
    row = state.members.rows.get(subject)
    if row is None:
        return None
    image = state.images[state.members.who[row].image]
    seen = shared_by(state, image.name, detection)
    places = np.flatnonzero(seen.rows == row)
    if not len(places):
        return None
    at = int(places[0])
    off, up, down = seen.off[at, :SIZE], seen.up[at, :SIZE], seen.down[at, :SIZE]
    left = distance.excused(off, up, down)
    parts = np.zeros(SIZE) if forest is None else np.maximum(forest.shares(left[None])[0], 0.0)
    parts = parts / (parts.sum() or 1.0)
    members = state.members
    level = own_level(members.trust()[row] * members.grid[row, LEVEL])
    values = members.grid[row, LAST], image.baseline.low + level, image.baseline.high + level
    shared = np.where(off >= 0, up, -down)
    traits = [
        _trait(feature, values, float(off[feature]), float(shared[feature]),
               float(left[feature]), float(parts[feature]))
        for feature in range(SIZE)
    ]  # fmt: skip  # one call
    return Portrait(
        image.name, len(seen.rows) - 1, image.line,
        None if forest is None else float(members.surprise[row]),
        tuple(sorted(traits, key=lambda one: -abs(one.left))),
    )  # fmt: skip  # as the fields lie


def _trait(
    at: int, values: tuple[Array, Array, Array], off: float, shared: float, left: float, part: float
) -> Trait:
    feature = FEATURES[at]
    value, low, high = (
        restored(at, float(one[at]))[0] if np.isfinite(one[at]) else None for one in values
    )
    return Trait(feature.name, feature.unit, value, low, high, off, shared, left, part)
