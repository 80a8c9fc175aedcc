"""Samples → departures from what is normal, in each container's short memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.baseline import CLIP
from models.detection import Detection
from models.detectors import distance
from models.features import BOTH_WAYS, IDLE, SIZE, Array, measured, transform
from models.lineage import Image, LineageState
from models.members import COUNT, FAST, HIGH, LAST, LEVEL, LOW, SLOW, SQUARES, SUM, Whole
from models.records.telemetry import Batch
from models.siblings import Shared, share, young_ns

Flags = npt.NDArray[np.bool_]

_FEW: Final = 8
"""So many samples ``reduceat`` adds one by one, more in pairs: up to here sums are the same
to the bit, whether or not a batch's containers have equal numbers of samples.
"""


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch's samples by container and time, those that count. Sample i belongs to member
    ``rows[of[i]]`` of the state; each one's samples lie from ``first`` to ``last``.
    ``passed_s``: the time that a sample stands for, 0 while its container is ``young``.
    ``single``: one sample a container, as it is where batches come often. ``turns``, where
    all have the same number: the places of their first samples, of their second, …
    """

    values: Array
    times_ns: Whole
    rows: Whole
    of: Whole
    first: Whole
    last: Whole
    passed_s: Array
    young: Flags
    single: bool
    turns: Whole | None

    def spread(self, values: Array) -> Array:
        """What there is one of for each container, for each of its samples."""
        return values if self.single else values.take(self.of, axis=0)

    def together(self, how: np.ufunc, values: Array) -> Array:
        """Each container's samples as one, by a ufunc; ``reduceat`` takes five times as long."""
        if self.single:
            return values
        if self.turns is None:
            return np.asarray(how.reduceat(values, self.first, axis=0))
        turns = values.take(self.turns, axis=0)
        return np.asarray(how(turns[0], how.reduce(turns[1:], axis=0)))


@dataclass(frozen=True, slots=True)
class Fading:
    """How exponential memories fade over a batch: ``weight`` of each sample, and how far what
    was before has ``lasted``. Shapes (memories, samples) and (memories, containers).
    """

    weight: Array
    lasted: Array


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch came to. ``seen``: the samples as detectors see them (NaN: no measurement)
    and ``off``: signed departures, (samples, features); ``usual``: centre and scale of each
    container, (containers, features) both; ``shared``: what siblings do, by image, those
    images that spoke; ``fading``: of the fast and the slow memory.
    """

    samples: Sorted
    usual: tuple[Array, Array]
    seen: Array
    off: Array
    shared: dict[str, Shared]
    duplicates: int
    fading: Fading


def take(state: LineageState, batch: Batch, detection: Detection) -> Taken:
    """Let a batch into the short memory; no learning, no judging yet."""
    samples, duplicates = _sorted(state, batch, detection)
    members, rows = state.members, samples.rows
    fading = _fading(samples, np.array([[detection.fast_s], [detection.slow_s]]))
    if not len(rows):
        nothing = samples.values
        return Taken(samples, (nothing, nothing), nothing, nothing, {}, duplicates, fading)
    seen, held = transform(samples.values), members.grid.take(rows, axis=0)  # written back below
    normal = usual(state, rows)
    off = distance.departures(seen, samples.spread(normal[0]), samples.spread(normal[1]))
    void = np.isnan(off)
    if void.any():
        recent = held[:, FAST].copy()
        recent[:, IDLE] = 0.0
        off = np.where(void, samples.spread(recent), off)
    memories = held[:, FAST : SLOW + 1]
    memories *= fading.lasted.T[:, :, None]
    memories += samples.together(np.add, fading.weight.T[:, :, None] * off[:, None, :])
    _add_up(held, samples, seen, normal)
    held[:, LAST] = seen if samples.single else seen[samples.last]
    members.grid[rows] = held
    members.last_ns[rows] = samples.times_ns[samples.last]
    _count_minute(state, samples)
    _awake(state, rows)
    shares = {name: share(state, name, detection) for name in dict.fromkeys(_images(state, rows))}
    return Taken(samples, normal, seen, off, shares, duplicates, fading)


def _sorted(state: LineageState, batch: Batch, detection: Detection) -> tuple[Sorted, int]:
    """The samples that are new, in order; and how many were not."""
    members, samples = state.members, batch.samples
    met = members.met(batch.members, batch.at_ns)
    index, times = met[samples.index], samples.times_ns
    order = np.lexsort((times, index))
    index, times = index[order], times[order]
    before, starts = members.last_ns[index], _starts(index)
    fresh = times > before
    fresh[1:] &= starts[1:] | (times[1:] != times[:-1])
    duplicates = 0
    if not fresh.all():
        duplicates = len(fresh) - int(np.count_nonzero(fresh))
        order, index, times, before = order[fresh], index[fresh], times[fresh], before[fresh]
        starts = _starts(index)
    (first,) = starts.nonzero()
    of, last, single, turns = first, first, len(first) == len(index), None
    if not single:
        turns = _turns(first, len(index))
        of, last = starts.cumsum() - 1, np.empty_like(first)
        last[:-1], last[-1] = first[1:] - 1, len(index) - 1
        begun, before = before[first], np.empty_like(times)
        before[1:], before[first] = times[:-1], begun
    young = times - members.since_ns[index] < young_ns(state, detection)
    passed_s = _passed_s(state, batch, times, before)
    passed_s[young] = 0.0
    values = measured(samples).take(order, axis=0)
    rows = index[first]
    return Sorted(values, times, rows, of, first, last, passed_s, young, single, turns), duplicates


def _turns(first: Whole, count: int) -> Whole | None:
    each = count // len(first)
    places = np.arange(count)
    alike = each <= _FEW and each * len(first) == count and bool((first == places[::each]).all())
    return places.reshape(-1, each).T if alike else None


def _starts(index: Whole) -> Flags:
    """Where another container's samples begin."""
    starts = np.empty(len(index), bool)
    starts[:1] = True
    np.not_equal(index[1:], index[:-1], out=starts[1:])
    return starts


def _passed_s(state: LineageState, batch: Batch, times: Whole, before: Whole) -> Array:
    """The time that each sample stands for; after a pause, not the whole of it.

    ``before``: when the same container's last one was, 0 when there was none.
    """
    passed = (times - before) / 1e9
    usual = state.interval_s or batch.interval_s
    known = passed[before > 0]
    if len(known):
        middle = len(known) // 2
        known.partition(middle)
        now = float(known[middle])
        state.interval_s = usual + 0.2 * (min(max(now, 0.1), 120.0) - usual)
    return np.minimum(passed, 2.0 * max(usual, batch.interval_s))


def _images(state: LineageState, rows: Whole) -> list[str]:
    """The image of each of these members; where there is but one, it once."""
    if len(state.images) == 1:
        return list(state.images)
    return [state.members.who[row].image for row in rows.tolist()]


def usual(state: LineageState, rows: Whole) -> tuple[Array, Array]:
    """Centre and scale for each of these members. Shapes (rows, features)."""
    if not len(rows):  # all that came was known already
        return np.empty((0, SIZE)), np.empty((0, SIZE))
    members = state.members
    trust = members.trust(rows)[:, None]
    own = own_level(trust * members.grid[rows, LEVEL])
    names = _images(state, rows)
    if len(names) == 1 or len(set(names)) == 1:
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


def _fading(samples: Sorted, memories_s: Array) -> Fading:
    """Samples are irregular in time, and of several containers at once.

    ``memories_s``: (memories, 1).
    """
    clock = samples.passed_s.cumsum()
    passed_s, end = samples.passed_s, clock
    begin, since_end = clock - passed_s, None
    if not samples.single:
        end, begin = clock[samples.last], begin[samples.first]
        since_end = clock - end[samples.of]
    weight = -np.expm1(-passed_s / memories_s)
    if since_end is not None:
        weight *= np.exp(since_end / memories_s)
    return Fading(weight, np.exp((begin - end) / memories_s))


def remembered(before: Array, values: Array, taken: Taken) -> Array:
    """The fast memory of one value a sample. Shapes (containers,) and (samples,)."""
    weight, lasted = taken.fading.weight[0], taken.fading.lasted[0]
    return np.asarray(lasted * before + taken.samples.together(np.add, weight * values))


def _add_up(held: Array, samples: Sorted, seen: Array, normal: tuple[Array, Array]) -> None:
    """What the open block has seen of each container; a wild value counts as a near one."""
    centre, limit = normal[0], CLIP * normal[1]
    unknown = np.isnan(centre)
    lowest = samples.spread(np.where(unknown, -np.inf, centre - limit))
    highest = samples.spread(np.where(unknown, np.inf, centre + limit))
    near = np.minimum(np.maximum(seen, lowest), highest)
    void = np.isnan(near) | samples.young[:, None]
    high = low = near
    if void.any():
        high, low = near.copy(), near.copy()
        for values, nothing in ((near, 0.0), (high, -np.inf), (low, np.inf)):
            np.putmask(values, void, nothing)
    parts = np.empty((len(near), 3, SIZE))
    parts[:, 0], parts[:, 2] = near, ~void
    np.multiply(near, near, out=parts[:, 1])
    sums = samples.together(np.add, parts)
    held[:, SUM : SQUARES + 1] += sums[:, :2]
    held[:, COUNT] += sums[:, 2]
    highest, lowest = held[:, HIGH], held[:, LOW]
    np.maximum(highest, samples.together(np.maximum, high), out=highest)
    np.minimum(lowest, samples.together(np.minimum, low), out=lowest)


def _count_minute(state: LineageState, samples: Sorted) -> None:
    void, amounts = np.isnan(samples.values), samples.values.copy()
    np.putmask(amounts, void, 0.0)
    parts = np.empty((len(void), 2, SIZE))
    parts[:, 0], parts[:, 1] = amounts, ~void
    for image, mine in by_image(state, samples.rows):
        some = parts if mine is None else parts[mine[samples.of]]
        image.sums = image.sums + np.add.reduce(some, axis=0)
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
    up, down = _siblings_do(state, taken)
    out = distance.excused(taken.off, samples.spread(up), samples.spread(down))
    out[samples.young] = 0.0
    return out


def _siblings_do(state: LineageState, taken: Taken) -> tuple[Array, Array]:
    """Just now, for each container of a batch; nothing where it is not yet held against them."""
    samples, parts = taken.samples, list(taken.shared.values())
    if len(parts) == 1 and np.array_equal(parts[0].rows, samples.rows):
        return parts[0].up[:, :SIZE], parts[0].down[:, :SIZE]
    up, down = np.zeros((len(samples.rows), SIZE)), np.zeros((len(samples.rows), SIZE))
    place = np.full(len(state.members), -1)
    for shared in parts:
        place[shared.rows] = np.arange(len(shared.rows))
        known = place[samples.rows]
        mine = known >= 0
        up[mine], down[mine] = shared.up[known[mine], :SIZE], shared.down[known[mine], :SIZE]
        place[shared.rows] = -1
    return up, down


def by_image(state: LineageState, rows: Whole) -> Iterator[tuple[Image, Flags | None]]:
    """Each image of these members, and which of them run it (None: all)."""
    names = _images(state, rows)
    different = sorted(set(names))
    for name in different:
        mine = None if len(different) == 1 else np.array([other == name for other in names])
        yield state.images[name], mine
