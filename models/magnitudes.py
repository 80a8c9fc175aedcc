"""Samples → departures from what is normal, in each container's short memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.baseline import CLIP
from models.detection import Detection
from models.detectors import distance
from models.features import BOTH_WAYS, IDLE, SIZE, Array, measured, transform
from models.lineage import Image, LineageState
from models.members import COUNT, FAST, HIGH, LAST, LEVEL, LOW, SLOW, SQUARES, SUM, Members, Whole
from models.records.telemetry import Batch
from models.siblings import Shared, share, young_ns

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch's samples by container and time, those that count. Sample i belongs to member
    ``rows[of[i]]`` of the state; each one's samples lie from ``first`` to ``last``.
    ``passed_s``: the time that a sample stands for, 0 while its container is ``young``.
    """

    values: Array
    times_ns: Whole
    rows: Whole
    of: Whole
    first: Whole
    last: Whole
    passed_s: Array
    young: Flags


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch came to. ``seen``: the samples as detectors see them (NaN: no measurement)
    and ``off``: signed departures, (samples, features); ``usual``: centre and scale of each
    container, (containers, features) both; ``shared``: what siblings do, by image, those
    images that spoke.
    """

    samples: Sorted
    usual: tuple[Array, Array]
    seen: Array
    off: Array
    shared: dict[str, Shared]
    duplicates: int


def take(state: LineageState, batch: Batch, detection: Detection) -> Taken:
    """Let a batch into the short memory; no learning, no judging yet."""
    samples, duplicates = _sorted(state, batch, detection)
    members, rows = state.members, samples.rows
    if not len(rows):
        nothing = samples.values
        return Taken(samples, (nothing, nothing), nothing, nothing, {}, duplicates)
    seen = transform(samples.values)
    normal = usual(state, rows)
    off = distance.departures(seen, normal[0][samples.of], normal[1][samples.of])
    void = np.isnan(off)
    if void.any():
        recent = members.grid[rows, FAST]
        recent[:, IDLE] = 0.0
        off = np.where(void, recent[samples.of], off)
    for channel, memory_s in ((FAST, detection.fast_s), (SLOW, detection.slow_s)):
        before = members.grid[rows, channel]
        members.grid[rows, channel] = remembered(before, off, samples, memory_s)
    _add_up(members, samples, seen, normal)
    members.grid[rows, LAST] = seen[samples.last]
    members.last_ns[rows] = samples.times_ns[samples.last]
    _count_minute(state, samples)
    _awake(state, rows)
    images = dict.fromkeys(members.who[row].image for row in rows.tolist())
    shares = {name: share(state, name, detection) for name in images}
    return Taken(samples, normal, seen, off, shares, duplicates)


def _sorted(state: LineageState, batch: Batch, detection: Detection) -> tuple[Sorted, int]:
    """The samples that are new, in order; and how many were not."""
    members, samples = state.members, batch.samples
    met = members.met(batch.members, batch.at_ns)
    index, times = met[samples.index], samples.times_ns
    order = np.lexsort((times, index))
    index, times = index[order], times[order]
    fresh = times > members.last_ns[index]
    fresh[1:] &= (index[1:] != index[:-1]) | (times[1:] != times[:-1])
    if not fresh.all():
        order, index, times = order[fresh], index[fresh], times[fresh]
    starts = np.ones(len(index), bool)
    starts[1:] = index[1:] != index[:-1]
    first = np.flatnonzero(starts)
    young = times - members.since_ns[index] < young_ns(state, detection)
    passed_s = _passed_s(state, batch, times, (first, members.last_ns[index[first]]))
    passed_s[young] = 0.0
    last = np.append(first[1:], len(index)) - 1 if len(index) else first
    values = measured(samples)[order]
    of = np.cumsum(starts) - 1
    return Sorted(values, times, index[first], of, first, last, passed_s, young), len(fresh) - len(
        order
    )


def _passed_s(
    state: LineageState, batch: Batch, times: Whole, before: tuple[Whole, Whole]
) -> Array:
    """The time that each sample stands for; after a pause, not the whole of it.

    ``before``: where each container's samples begin, and when its last one was.
    """
    earlier = np.empty_like(times)
    earlier[1:] = times[:-1]
    earlier[before[0]] = before[1]
    passed = (times - earlier) / 1e9
    usual = state.interval_s or batch.interval_s
    known = passed[earlier > 0]
    if len(known):
        middle = len(known) // 2
        now = float(np.partition(known, middle)[middle])
        state.interval_s = usual + 0.2 * (min(max(now, 0.1), 120.0) - usual)
    return np.minimum(passed, 2.0 * max(usual, batch.interval_s))


def usual(state: LineageState, rows: Whole) -> tuple[Array, Array]:
    """Centre and scale for each of these members. Shapes (rows, features)."""
    if not len(rows):  # all that came was known already
        return np.empty((0, SIZE)), np.empty((0, SIZE))
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


def remembered(before: Array, values: Array, samples: Sorted, memory_s: float) -> Array:
    """Exponential memory of several containers' samples at once, irregular in time.

    ``before`` is (containers, …), ``values`` (samples, …).
    """
    clock = np.cumsum(samples.passed_s)
    end = clock[samples.last]
    fading = np.exp((clock - end[samples.of]) / memory_s)
    weight = -np.expm1(-samples.passed_s / memory_s) * fading
    lasted = np.exp((clock[samples.first] - samples.passed_s[samples.first] - end) / memory_s)
    if values.ndim > 1:
        weight, lasted = weight[:, None], lasted[:, None]
    return np.asarray(lasted * before + np.add.reduceat(weight * values, samples.first, axis=0))


def _add_up(members: Members, samples: Sorted, seen: Array, normal: tuple[Array, Array]) -> None:
    """What the open block has seen of each container; a wild value counts as a near one."""
    centre, limit = normal[0], CLIP * normal[1]
    lowest = np.where(np.isnan(centre), -np.inf, centre - limit)[samples.of]
    highest = np.where(np.isnan(centre), np.inf, centre + limit)[samples.of]
    near = np.clip(seen, lowest, highest)
    void = np.isnan(near) | samples.young[:, None]
    high = low = near
    if void.any():
        near = np.where(void, 0.0, near)
        high, low = np.where(void, -np.inf, near), np.where(void, np.inf, near)
    first, part = samples.first, members.grid[samples.rows]
    part[:, SUM] += np.add.reduceat(near, first, axis=0)
    part[:, SQUARES] += np.add.reduceat(near * near, first, axis=0)
    part[:, COUNT] += np.add.reduceat(~void, first, axis=0, dtype=np.float64)
    part[:, HIGH] = np.maximum(part[:, HIGH], np.maximum.reduceat(high, first, axis=0))
    part[:, LOW] = np.minimum(part[:, LOW], np.minimum.reduceat(low, first, axis=0))
    members.grid[samples.rows] = part


def _count_minute(state: LineageState, samples: Sorted) -> None:
    void = np.isnan(samples.values)
    amounts = np.where(void, 0.0, samples.values)
    for image, mine in by_image(state, samples.rows):
        chosen = slice(None) if mine is None else mine[samples.of]
        some, none = amounts[chosen], void[chosen]
        image.sums = image.sums + np.array([some.sum(0), len(none) - none.sum(0)])
        image.samples += len(some)


def _awake(state: LineageState, rows: Whole) -> None:
    """Who speaks is not silent, and may be called so again."""
    for subject in [subject for subject, case in state.cases.items() if case.silent]:
        row = state.members.rows.get(subject)
        state.cases[subject].silent = row is None or row not in rows


def deviations(state: LineageState, taken: Taken, detection: Detection) -> Array:
    """What the forest sees of a batch: departures less what siblings do together just now.
    Shape (samples, features), finite; 0 while a container is young.
    """
    samples = taken.samples
    if "distance" not in detection.detectors:
        return np.where(samples.young[:, None], 0.0, taken.off)
    up, down = np.zeros((len(samples.rows), SIZE)), np.zeros((len(samples.rows), SIZE))
    place = np.full(len(state.members), -1)
    for shared in taken.shared.values():
        place[shared.rows] = np.arange(len(shared.rows))
        known = place[samples.rows]
        mine = known >= 0
        up[mine], down[mine] = shared.up[known[mine], :SIZE], shared.down[known[mine], :SIZE]
        place[shared.rows] = -1
    out = distance.excused(taken.off, up[samples.of], down[samples.of])
    out[samples.young] = 0.0
    return out


def by_image(state: LineageState, rows: Whole) -> Iterator[tuple[Image, Flags | None]]:
    """Each image of these members, and which of them run it (None: all)."""
    names = [state.members.who[row].image for row in rows.tolist()]
    different = sorted(set(names))
    for name in different:
        mine = None if len(different) == 1 else np.array([other == name for other in names])
        yield state.images[name], mine
