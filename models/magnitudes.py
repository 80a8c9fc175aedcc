"""Samples → departures from what is normal, in each container's short memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.baseline import CLIP
from models.detection import Detection
from models.detectors import distance
from models.features import BOTH_WAYS, SIZE, Array, measured, transform
from models.lineage import Image, LineageState
from models.members import COUNT, FAST, HIGH, LAST, LEVEL, LOW, SLOW, SQUARES, SUM, Whole
from models.records.telemetry import Batch

ODD: Final = 0.6
"""Share of the line from which a container is too odd to learn from."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch came to. ``members`` are the rows (of the state's members) that it spoke
    of, ``first`` where in the sorted samples each one's begin, ``of`` which of them a sample
    belongs to, ``passed_s`` the time it stands for. ``deviations``: ``(samples, features)``,
    what the forest sees.
    """

    members: Whole
    first: Whole
    of: Whole
    passed_s: Array
    deviations: Array
    duplicates: int


def take(state: LineageState, batch: Batch, detection: Detection) -> Taken:
    """Let a batch into the short memory; no learning, no judging yet."""
    members, samples = state.members, batch.samples
    met = members.met(batch.members, batch.at_ns)
    index, times = met[samples.index], samples.times_ns
    order = np.lexsort((times, index))
    index, times = index[order], times[order]
    fresh = times > members.last_ns[index]
    fresh[1:] &= (index[1:] != index[:-1]) | (times[1:] != times[:-1])
    kept = order if fresh.all() else order[fresh]
    if kept is not order:
        index, times = index[fresh], times[fresh]
    values = measured(samples)[kept]
    return _absorbed(state, batch, values, index, times, detection, len(order) - len(kept))


def _absorbed(state: LineageState, batch: Batch, values: Array, index: Whole, times: Whole,
              detection: Detection, duplicates: int) -> Taken:  # fmt: skip  # two lines
    members = state.members
    starts = np.ones(len(index), bool)
    starts[1:] = index[1:] != index[:-1]
    first, of = np.flatnonzero(starts), np.cumsum(starts) - 1
    rows = index[first]
    if not len(rows):
        return Taken(rows, first, of, np.empty(0), np.empty((0, SIZE)), duplicates)
    young = times - members.since_ns[index] < young_ns(state, detection)
    passed_s = _passed_s(state, batch, times, first, index)
    passed_s[young] = 0.0
    seen = transform(values)
    centre, scale = _normal(state, rows)
    off = distance.departures(seen, centre[of], scale[of])
    off = np.where(np.isnan(off), members.grid[index, FAST], off)
    for channel, memory_s in ((FAST, detection.fast_s), (SLOW, detection.slow_s)):
        members.grid[rows, channel] = remembered(
            members.grid[rows, channel], off, passed_s, first, memory_s
        )
    _add_up(state, rows, first, of, seen, young, centre, scale)
    last = np.append(first[1:], len(index)) - 1
    for row in rows.tolist():
        case = state.cases.get(members.who[row].subject)
        if case is not None:
            case.silent = False
    members.grid[rows, LAST], members.last_ns[rows] = seen[last], times[last]
    _count_minute(state, rows, of, values)
    deviations = _excused(state, rows, of, off, young, detection)
    return Taken(rows, first, of, passed_s, deviations, duplicates)


def _passed_s(state: LineageState, batch: Batch, times: Whole, first: Whole,
              index: Whole) -> Array:  # fmt: skip  # two lines
    """The time that each sample stands for; after a pause, not the whole of it."""
    before = np.empty_like(times)
    before[1:] = times[:-1]
    before[first] = state.members.last_ns[index[first]]
    passed = (times - before) / 1e9
    usual = state.interval_s or batch.interval_s
    known = passed[before > 0]
    if len(known):
        middle = len(known) // 2
        now = float(np.partition(known, middle)[middle])
        state.interval_s = usual + 0.2 * (min(max(now, 0.1), 120.0) - usual)
    return np.minimum(passed, 2.0 * max(usual, batch.interval_s))


def _normal(state: LineageState, rows: Whole) -> tuple[Array, Array]:
    """Centre and scale for each of these members. Shapes (rows, features)."""
    members = state.members
    trust = members.trust()[rows][:, None]
    own = own_level(trust * members.grid[rows, LEVEL])
    names = [members.who[row].image for row in rows.tolist()]
    if len(set(names)) == 1:
        base = state.images[names[0]].baseline
        location, unit, between = base.location, base.scale, base.between
    else:
        bases = [state.images[name].baseline for name in names]
        location = np.array([base.location for base in bases])
        unit = np.array([base.scale for base in bases])
        between = np.array([base.between for base in bases])
    return location + own, np.sqrt(unit**2 + ((1.0 - trust) * between) ** 2)


def own_level(level: Array) -> Array:
    """How far above its image's level a container may be. One that has been below may still
    rise to what its siblings have: a cache that fills is no leak.
    """
    return np.where(BOTH_WAYS, level, np.maximum(level, 0.0))


def remembered(
    before: Array, values: Array, passed_s: Array, first: Whole, memory_s: float
) -> Array:
    """Exponential memory of several containers' samples at once, irregular in time.

    ``before`` is (containers, …); ``values`` (samples, …) sorted by container, whose parts
    begin at ``first``.
    """
    last = np.append(first[1:], len(passed_s)) - 1
    clock = np.cumsum(passed_s)
    end = clock[last]
    part = np.diff(np.append(first, len(passed_s)))
    weight = -np.expm1(-passed_s / memory_s) * np.exp((clock - np.repeat(end, part)) / memory_s)
    lasted = np.exp((clock[first] - passed_s[first] - end) / memory_s)
    if values.ndim == 1:
        return np.asarray(lasted * before + np.add.reduceat(weight * values, first))
    new = np.add.reduceat(weight[:, None] * values, first, axis=0)
    return np.asarray(lasted[:, None] * before + new)


def _add_up(state: LineageState, rows: Whole, first: Whole, of: Whole, seen: Array,
            young: npt.NDArray[np.bool_], centre: Array, scale: Array) -> None:  # fmt: skip
    """What the open block has seen of each container; a wild value counts as a near one."""
    grid = state.members.grid
    limit = CLIP * scale
    near = np.clip(seen, np.where(np.isnan(centre), -np.inf, centre - limit)[of],
                   np.where(np.isnan(centre), np.inf, centre + limit)[of])  # fmt: skip
    void = np.isnan(near) | young[:, None]
    high = low = near
    if void.any():
        near = np.where(void, 0.0, near)
        high, low = np.where(void, -np.inf, near), np.where(void, np.inf, near)
    part = grid[rows]
    part[:, SUM] += np.add.reduceat(near, first, axis=0)
    part[:, SQUARES] += np.add.reduceat(near * near, first, axis=0)
    part[:, COUNT] += np.add.reduceat(~void, first, axis=0, dtype=np.float64)
    part[:, HIGH] = np.maximum(part[:, HIGH], np.maximum.reduceat(high, first, axis=0))
    part[:, LOW] = np.minimum(part[:, LOW], np.minimum.reduceat(low, first, axis=0))
    grid[rows] = part


def _count_minute(state: LineageState, rows: Whole, of: Whole, values: Array) -> None:
    void = np.isnan(values)
    amounts = np.where(void, 0.0, values)
    for image, mine in _by_image(state, rows):
        chosen = slice(None) if mine is None else mine[of]
        some, none = amounts[chosen], void[chosen]
        image.sums = image.sums + np.stack([some.sum(0), len(none) - none.sum(0)])
        image.samples += len(some)


def _excused(state: LineageState, rows: Whole, of: Whole, off: Array,
             young: npt.NDArray[np.bool_], detection: Detection) -> Array:  # fmt: skip
    """Deviations of samples, less what siblings do together just now."""
    up, down = np.zeros((len(rows), SIZE)), np.zeros((len(rows), SIZE))
    for image, mine in _by_image(state, rows):
        live = living(state, image.name, detection)
        place = np.full(len(state.members), -1)
        place[live] = np.arange(len(live))
        of_live = place[rows]
        chosen = of_live >= 0 if mine is None else (of_live >= 0) & mine
        above, below = distance.shared(state.members.grid[live, FAST])
        up[chosen], down[chosen] = above[of_live[chosen]], below[of_live[chosen]]
    deviations = distance.excused(off, up[of], down[of])
    deviations[young] = 0.0
    return deviations


def _by_image(state: LineageState, rows: Whole) -> list[tuple[Image, npt.NDArray[np.bool_] | None]]:
    """Each image of these members, and which of them run it (None: all)."""
    names = [state.members.who[row].image for row in rows.tolist()]
    different = sorted(set(names))
    if len(different) == 1:
        return [(state.images[different[0]], None)]
    return [(state.images[name], np.array([n == name for n in names])) for name in different]


def young_ns(state: LineageState, detection: Detection) -> int:
    """The age from which samples count at all."""
    return int(max(detection.young_s, 4.0 * state.interval_s) * 1e9)


def living(state: LineageState, image: str, detection: Detection) -> Whole:
    """Rows of the members of an image that are awake and past their first samples."""
    members = state.members
    stale_ns = int(max(15.0, 5.0 * state.interval_s) * 1e9)
    awake = members.last_ns >= state.now_ns - stale_ns
    awake &= members.last_ns - members.since_ns >= young_ns(state, detection)
    rows = np.flatnonzero(awake)
    if len(state.images) == 1:
        return rows
    return np.array([row for row in rows.tolist() if members.who[row].image == image], np.int64)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What speaks against the living members of an image: ``evidence`` is ``(members,
    features)``, row i for the member in row ``rows[i]`` of the state.
    """

    rows: Whole
    evidence: Array


def weigh(state: LineageState, image: Image, detection: Detection) -> Weighed:
    """Hold an image's living members against each other and against what is usual."""
    rows, base = living(state, image.name, detection), image.baseline
    fast, slow = state.members.grid[rows, FAST], state.members.grid[rows, SLOW]
    evidence, lasting = distance.evidence(fast, slow, base.lasting_scale)
    if len(rows):
        peak = evidence.max(axis=1)
        state.members.peak[rows] = np.maximum(state.members.peak[rows], peak)
        calm = peak < ODD * image.line
        if calm.any():
            image.lasting = np.maximum(image.lasting, lasting[calm].max(axis=0))
        image.load = max(image.load, float(peak.max()) / image.line)
    if base.learned(detection.learn_blocks, detection.learn_container_blocks) >= 1.0:
        evidence[:, base.blocks < detection.learn_blocks] = 0.0
    return Weighed(rows, evidence)
