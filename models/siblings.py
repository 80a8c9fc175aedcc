"""What the members of an image do together, and what each does beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.baseline import BLOCKS, LASTING
from models.crowd import Crowd
from models.detection import Detection
from models.detectors import distance
from models.features import SIZE, Array
from models.lessons import calmed
from models.lineage import LineageState
from models.members import FAST, LAST, SLOW, Whole
from models.runs import Runs

ODD: Final = 0.6
"""Share of the line from which a container is too odd to learn from."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The living members of some images (rows of the crowd), a run for each of the ``images``
    that has any, and for each member what the others do: upwards and downwards, recent and
    lasting. ``(members, 2 features)``.
    """

    rows: Whole
    images: Whole
    members: Runs
    off: Array
    up: Array
    down: Array


def young_ns(interval_s: Array, detection: Detection) -> Whole:
    """The age from which samples count at all, for lineages that are sampled so often."""
    return (np.maximum(detection.young_s, 4.0 * interval_s) * 1e9).astype(np.int64)


def living(crowd: Crowd, images: Whole, detection: Detection) -> Whole:
    """Rows of the members of these images, which ascend, that are awake and past their first
    samples; by image.
    """
    host = crowd.host[images]
    states = [crowd.states[at] for at in host.tolist()]
    interval_s = np.array([state.interval_s for state in states])
    stale_ns = (np.maximum(15.0, 5.0 * interval_s) * 1e9).astype(np.int64)
    since_ns = np.full(len(crowd.images), np.iinfo(np.int64).max)  # nobody of the others
    since_ns[images] = np.array([state.now_ns for state in states], np.int64) - stale_ns
    grown_ns = np.zeros(len(crowd.images), np.int64)
    grown_ns[images] = young_ns(interval_s, detection)
    slot, last_ns = crowd.slot, crowd.last_ns
    awake = last_ns >= since_ns[slot]
    awake &= last_ns - crowd.since_ns >= grown_ns[slot]
    (rows,) = awake.nonzero()
    of = slot[rows]
    mixed = len(of) > 1 and bool((of[1:] < of[:-1]).any())
    return rows[np.argsort(of, kind="stable")] if mixed else rows


def share(crowd: Crowd, images: Whole, detection: Detection) -> Shared:
    """Hold each image's living members against each other, where distance is to count."""
    rows = living(crowd, images, detection)
    members, present = Runs.of_equal(crowd.slot[rows])
    off = crowd.grid[rows, FAST : SLOW + 1].reshape(-1, 2 * SIZE)
    up, down = np.zeros_like(off), np.zeros_like(off)
    if "distance" in detection.detectors and not members.single:
        for _, places in members.stacks:
            stack = places.T
            above, below = distance.shared(off.take(stack, axis=0))
            up[stack], down[stack] = above, below
    return Shared(rows, present, members, off, up, down)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What speaks against the living members of some images: ``evidence`` is ``(members,
    features)``, row i for the member in row ``rows[i]``, of the crowd or of a state.
    """

    rows: Whole
    evidence: Array


def weigh(crowd: Crowd, shared: Shared, detection: Detection) -> Weighed:
    """Hold images' living members against what is usual, siblings taken out."""
    rows, members = shared.rows, shared.members
    if not len(rows):
        return Weighed(rows, np.empty((0, SIZE)))
    base, images = crowd.usual[shared.images], [crowd.images[at] for at in shared.images.tolist()]
    if "distance" in detection.detectors:
        scale = members.spread(base[:, LASTING])
        evidence, lasting = distance.evidence(shared.off, shared.up, shared.down, scale)
    else:
        evidence = _surprising(crowd.surprise[rows], shared.off[:, :SIZE])
        lasting = np.zeros_like(evidence)
    odd = peak = np.maximum.reduce(evidence, axis=1)
    if any(crowd.states[at].lessons.spans for at in crowd.host[shared.images].tolist()):
        evidence = _calmed(crowd, shared, evidence)
        peak = np.maximum.reduce(evidence, axis=1)
    crowd.peak[rows] = np.maximum(crowd.peak[rows], peak)
    line = np.array([image.line for image in images])
    calm = odd < members.spread(ODD * line)
    lasting = members.together(np.maximum, np.where(calm[:, None], lasting, 0.0))
    lasting = np.maximum(lasting, np.array([image.lasting for image in images]))
    nearest = (members.together(np.maximum, peak) / line).tolist()
    for image, most, load in zip(images, lasting, nearest, strict=True):
        image.lasting = most.copy()  # a slice keeps the whole alive
        image.load = max(image.load, load)
    known = [image.baseline.learned(detection.learn_blocks, detection.learn_container_blocks)
             for image in images]  # fmt: skip  # one expression
    unsure = (base[:, BLOCKS] < detection.learn_blocks) & (np.array(known) >= 1.0)[:, None]
    if unsure.any():
        evidence = np.where(members.spread(unsure), 0.0, evidence)
    return Weighed(rows, evidence)


def _calmed(crowd: Crowd, shared: Shared, evidence: Array) -> Array:
    """Without what was dismissed, lineage by lineage."""
    out, host = evidence.copy(), crowd.host[crowd.slot[shared.rows]]
    for at in np.unique(host).tolist():
        lessons, mine = crowd.states[at].lessons, host == at
        if lessons.spans:
            out[mine] = calmed(evidence[mine], crowd.grid[shared.rows[mine], LAST], lessons)
    return out


def shared_by(state: LineageState, image: str, detection: Detection) -> Shared:
    """:func:`share` for one image of one lineage: rows of its own."""
    slot = list(state.images).index(image)
    return share(Crowd.of([state]), np.array([slot]), detection)


def weighed_in(state: LineageState, image: str, detection: Detection) -> Weighed:
    """:func:`weigh` for one image of one lineage: rows of its own."""
    return weigh(Crowd.of([state]), shared_by(state, image, detection), detection)


def _surprising(surprise: Array, off: Array) -> Array:
    """The forest's evidence: how rare, said of the features that depart, by their share of the
    largest departure. Shapes ``(members,)`` and ``(members, features)``.
    """
    far = distance.alarming(off)
    most = far.max(axis=1, keepdims=True)
    return np.asarray(surprise[:, None] * far / np.where(most > 0.0, most, 1.0))
