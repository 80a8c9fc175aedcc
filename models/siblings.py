"""What the members of an image do together, and what each does beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.detection import Detection
from models.detectors import distance
from models.features import SIZE, Array
from models.lessons import calmed
from models.lineage import Image, LineageState
from models.members import FAST, LAST, SLOW, Whole

ODD: Final = 0.6
"""Share of the line from which a container is too odd to learn from."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The living members of an image (rows of the state's members) and, for each, what the
    others do: upwards and downwards, recent and lasting. ``(members, 2 features)``.
    """

    rows: Whole
    off: Array
    up: Array
    down: Array


@dataclass(frozen=True, slots=True)
class Weighed:
    """What speaks against the living members of an image: ``evidence`` is ``(members,
    features)``, row i for the member in row ``rows[i]`` of the state.
    """

    rows: Whole
    evidence: Array


def young_ns(state: LineageState, detection: Detection) -> int:
    """The age from which samples count at all."""
    return int(max(detection.young_s, 4.0 * state.interval_s) * 1e9)


def living(state: LineageState, image: str, detection: Detection) -> Whole:
    """Rows of the members of an image that are awake and past their first samples."""
    members = state.members
    stale_ns = int(max(15.0, 5.0 * state.interval_s) * 1e9)
    awake = members.last_ns >= state.now_ns - stale_ns
    awake &= members.last_ns - members.since_ns >= young_ns(state, detection)
    (rows,) = awake.nonzero()
    if len(state.images) == 1:
        return rows
    return np.array([row for row in rows.tolist() if members.who[row].image == image], np.int64)


def share(state: LineageState, image: str, detection: Detection) -> Shared:
    """Hold an image's living members against each other, where distance is to count."""
    rows = living(state, image, detection)
    off = state.members.grid[rows, FAST : SLOW + 1].reshape(-1, 2 * SIZE)
    if "distance" not in detection.detectors:
        nothing = np.zeros_like(off)
        return Shared(rows, off, nothing, nothing)
    return Shared(rows, off, *distance.shared(off))


def weigh(state: LineageState, image: Image, shared: Shared, detection: Detection) -> Weighed:
    """Hold an image's living members against what is usual, siblings taken out."""
    rows, base = shared.rows, image.baseline
    if "distance" in detection.detectors:
        off, up, down = shared.off, shared.up, shared.down
        evidence, lasting = distance.evidence(off, up, down, base.lasting_scale)
    else:
        evidence = _surprising(state.members.surprise[rows], shared.off[:, :SIZE])
        lasting = np.zeros_like(evidence)
    if len(rows):
        odd = peak = np.maximum.reduce(evidence, axis=1)
        if state.lessons.spans:
            evidence = calmed(evidence, state.members.grid[rows, LAST], state.lessons)
            peak = np.maximum.reduce(evidence, axis=1)
        state.members.peak[rows] = np.maximum(state.members.peak[rows], peak)
        calm = lasting[odd < ODD * image.line]
        if len(calm):
            image.lasting = np.maximum(image.lasting, np.maximum.reduce(calm, axis=0))
        image.load = max(image.load, float(peak[peak.argmax()]) / image.line)
    if base.learned(detection.learn_blocks, detection.learn_container_blocks) >= 1.0:
        evidence[:, base.blocks < detection.learn_blocks] = 0.0
    return Weighed(rows, evidence)


def _surprising(surprise: Array, off: Array) -> Array:
    """The forest's evidence: how rare, said of the features that depart, by their share of the
    largest departure. Shapes ``(members,)`` and ``(members, features)``.
    """
    far = distance.alarming(off)
    most = far.max(axis=1, keepdims=True)
    return np.asarray(surprise[:, None] * far / np.where(most > 0.0, most, 1.0))
