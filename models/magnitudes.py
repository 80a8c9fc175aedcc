"""Samples → departures from what is normal, in each container's short memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.baseline import BETWEEN, CLIP, LOCATION, SCALE
from models.crowd import Crowd
from models.detection import Detection
from models.detectors import distance
from models.features import BOTH_WAYS, IDLE, SIZE, Array, measured, transform
from models.members import COUNT, FAST, HIGH, LAST, LEVEL, LOW, SLOW, SQUARES, SUM, Whole
from models.records.telemetry import Batch
from models.runs import Runs, as_one
from models.siblings import Shared, share, young_ns

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sorted:
    """Samples of a crowd by image, container and time, those that count. Each of the ``runs``
    are one container's, of the crowd's row ``rows``. ``passed_s``: the time that a sample
    stands for, 0 while its container is ``young``.
    """

    values: Array
    times_ns: Whole
    rows: Whole
    runs: Runs
    passed_s: Array
    young: Flags

    def __len__(self) -> int:
        return len(self.times_ns)


@dataclass(frozen=True, slots=True)
class Fading:
    """How exponential memories fade over a batch: ``weight`` of each sample, and how far what
    was before has ``lasted``. Shapes (memories, samples) and (memories, containers).
    """

    weight: Array
    lasted: Array


@dataclass(frozen=True, slots=True)
class Taken:
    """What batches came to, of all that were let in together. ``seen``: the samples as
    detectors see them (NaN: no measurement) and ``off``: signed departures, (samples,
    features); ``usual``: centre and scale of each container, (containers, features) both;
    ``images``: the crowd's images that spoke, each with a run of the ``containers``;
    ``shared``: what siblings do; ``duplicates``: of each batch's state; ``fading``: of the
    fast and the slow memory.
    """

    samples: Sorted
    usual: tuple[Array, Array]
    seen: Array
    off: Array
    images: Whole
    containers: Runs
    shared: Shared
    duplicates: Mapping[int, int]
    fading: Fading

    def rows_of(self, image: int) -> slice:
        """The places among ``samples.rows`` of the image at this place among ``images``."""
        first = int(self.containers.first[image])
        return slice(first, first + int(self.containers.length[image]))

    def samples_of(self, image: int) -> slice:
        """The same among the samples."""
        rows, runs = self.rows_of(image), self.samples.runs
        return slice(int(runs.first[rows.start]), int(runs.last[rows.stop - 1]) + 1)


def take(
    crowd: Crowd, batches: Mapping[int, Batch], met: Mapping[int, Whole], detection: Detection
) -> Taken:
    """Let batches into the short memory; no learning, no judging yet.

    ``batches``: by place of their state in the crowd; ``met``: the rows of their members in
    that state.
    """
    samples, duplicates = _sorted(crowd, batches, met, detection)
    rows, runs = samples.rows, samples.runs
    fading = _fading(samples, np.array([detection.fast_s, detection.slow_s]))
    seen, held = transform(samples.values), crowd.grid.take(rows, axis=0)  # written back below
    normal = usual(crowd, rows)
    off = runs.each_with(np.subtract, seen, normal[0])
    off = distance.bounded(runs.each_with(np.divide, off, normal[1]))
    void = np.isnan(off)
    if void.any():
        recent = held[:, FAST].copy()
        recent[:, IDLE] = 0.0
        off = np.where(void, runs.spread(recent), off)
    _remember(held, fading, runs, off)
    amounts = _add_up(held, samples, seen, normal)
    held[:, LAST] = runs.ends(seen)
    crowd.grid[rows] = held
    crowd.last_ns[rows] = runs.ends(samples.times_ns)
    containers, images = Runs.of_equal(crowd.slot[rows])
    _count_minute(crowd, images, containers, amounts, runs.length)
    for at in batches:
        _awake(crowd, at, rows)
    shared = share(crowd, images, detection)
    return Taken(samples, normal, seen, off, images, containers, shared, duplicates, fading)


def _sorted(
    crowd: Crowd, batches: Mapping[int, Batch], met: Mapping[int, Whole], detection: Detection
) -> tuple[Sorted, dict[int, int]]:
    """The samples that are new, in order; and how many were not, of each batch."""
    tables = [batch.samples for batch in batches.values()]
    host = np.array(list(batches)).repeat([len(table) for table in tables])
    index = np.concatenate([met[at][batch.samples.index] + crowd.start[at]
                            for at, batch in batches.items()])  # fmt: skip  # one expression
    times = np.concatenate([table.times_ns for table in tables])
    slot, order = crowd.slot[index], None
    if not _ascends(slot, index, times):
        order = np.lexsort((times, index, slot))
        index, times, host = index[order], times[order], host[order]
    before = crowd.last_ns[index]
    first = np.ones(len(index), bool)
    np.not_equal(index[1:], index[:-1], out=first[1:])
    fresh = times > before
    fresh[1:] &= first[1:] | (times[1:] != times[:-1])
    duplicates: dict[int, int] = {}
    if not fresh.all():
        counts = np.bincount(host[~fresh], minlength=len(crowd.states))
        duplicates = {at: int(counts[at]) for at in np.flatnonzero(counts).tolist()}
        order = fresh.nonzero()[0] if order is None else order[fresh]
        index, times, host, before = index[fresh], times[fresh], host[fresh], before[fresh]
    runs, rows = Runs.of_equal(index)
    if not runs.single:
        begun, before = before[runs.first], np.empty_like(times)
        before[1:], before[runs.first] = times[:-1], begun
    interval_s = np.array([crowd.states[at].interval_s for at in batches])
    limit_ns = np.zeros(len(crowd.states), np.int64)
    limit_ns[list(batches)] = young_ns(interval_s, detection)
    young = times - crowd.since_ns[index] < limit_ns[host]
    passed_s = _passed_s(crowd, batches, host, times, before)
    passed_s[young] = 0.0
    values = measured(*tables)
    values = values if order is None else values.take(order, axis=0)
    return Sorted(values, times, rows, runs, passed_s, young), duplicates


def _ascends(slot: Whole, index: Whole, times: Whole) -> bool:
    """Whether samples lie as they are to: where batches come often they do, and sorting takes
    longer than to look.
    """
    image, container = slot[1:] - slot[:-1], index[1:] - index[:-1]
    later = (container > 0) | ((container == 0) & (times[1:] >= times[:-1]))
    return bool(((image > 0) | ((image == 0) & later)).all())


def _passed_s(
    crowd: Crowd, batches: Mapping[int, Batch], host: Whole, times: Whole, before: Whole
) -> Array:
    """The time that each sample stands for; after a pause, not the whole of it.

    ``before``: when the same container's last one was, 0 when there was none.
    """
    passed, known = (times - before) / 1e9, before > 0
    most = np.zeros(len(crowd.states))
    runs, hosts = Runs.of_equal(host[known])
    now = dict(zip(hosts.tolist(), runs.middle(passed[known]).tolist(), strict=True))
    for at, batch in batches.items():
        state = crowd.states[at]
        usual_s = state.interval_s or batch.interval_s
        if at in now:
            state.interval_s = usual_s + 0.2 * (min(max(now[at], 0.1), 120.0) - usual_s)
        most[at] = 2.0 * max(usual_s, batch.interval_s)
    return np.minimum(passed, most[host])


def usual(crowd: Crowd, rows: Whole) -> tuple[Array, Array]:
    """Centre and scale for each of these members. Shapes (rows, features)."""
    trust = crowd.trust(rows)[:, None]
    own = own_level(trust * crowd.grid[rows, LEVEL])
    base = crowd.usual[crowd.slot[rows]]
    spread = np.sqrt(base[:, SCALE] ** 2 + ((1.0 - trust) * base[:, BETWEEN]) ** 2)
    return base[:, LOCATION] + own, spread


def own_level(level: Array) -> Array:
    """How far above its image's level a container may be. One that has been below may still
    rise to what its siblings have: a cache that fills is no leak.
    """
    return np.where(BOTH_WAYS, level, np.maximum(level, 0.0))


def _fading(samples: Sorted, memories_s: Array) -> Fading:
    """Samples are irregular in time, and of several containers at once.

    ``memories_s``: (memories,).
    """
    passed_s, runs, memories_s = samples.passed_s, samples.runs, memories_s[:, None]
    weight = -np.expm1(-passed_s / memories_s)
    if runs.single:
        return Fading(weight, np.exp(-passed_s / memories_s))
    clock = runs.added_up(passed_s)
    whole = runs.ends(clock)
    weight *= np.exp((clock - runs.spread(whole)) / memories_s)
    return Fading(weight, np.exp(-whole / memories_s))


def _remember(held: Array, fading: Fading, runs: Runs, off: Array) -> None:
    """Let departures into the fast and the slow memory."""
    stacks = runs.side_by_side(off)
    for memory, weight, lasted in zip((FAST, SLOW), fading.weight, fading.lasted, strict=True):
        held[:, memory] *= lasted[:, None]
        weights = runs.side_by_side(weight)
        for (which, _), ours, stack in zip(runs.stacks, weights, stacks, strict=True):
            held[which, memory] += as_one(np.add, ours[:, :, None] * stack)


def remembered(before: Array, values: Array, taken: Taken) -> Array:
    """The fast memory of one value a sample. Shapes (containers,) and (samples,)."""
    weight, lasted = taken.fading.weight[0], taken.fading.lasted[0]
    return np.asarray(lasted * before + taken.samples.runs.together(np.add, weight * values))


def _add_up(held: Array, samples: Sorted, seen: Array, normal: tuple[Array, Array]) -> Array:
    """What the open block has seen of each container; a wild value counts as a near one.

    Returns what was measured in each feature's own unit, and how often: (containers, 2,
    features).
    """
    centre, limit, runs = normal[0], CLIP * normal[1], samples.runs
    unknown = np.isnan(centre)
    lowest = np.where(unknown, -np.inf, centre - limit)
    highest = np.where(unknown, np.inf, centre + limit)
    amounts = np.empty((len(runs), 2, SIZE))
    parts = (runs.side_by_side(part) for part in (samples.values, seen, samples.young))
    for (which, _), values, wild, young in zip(runs.stacks, *parts, strict=True):
        near = high = low = np.minimum(np.maximum(wild, lowest[which]), highest[which])
        missing = np.isnan(values)
        void, known = missing | young[:, :, None], values
        if missing.any():
            known = np.where(missing, 0.0, values)
        if void.any():
            near, high, low = (np.where(void, nothing, near) for nothing in (0.0, -np.inf, np.inf))
        held[which, SUM] += as_one(np.add, near)
        held[which, SQUARES] += as_one(np.add, near * near)
        held[which, COUNT] += _counted(void)
        held[which, HIGH] = np.maximum(held[which, HIGH], as_one(np.maximum, high))
        held[which, LOW] = np.minimum(held[which, LOW], as_one(np.minimum, low))
        amounts[which, 0], amounts[which, 1] = as_one(np.add, known), _counted(missing)
    return amounts


def _counted(void: Flags) -> Array:
    """How often something was there. Shapes (samples, containers, features) and (containers,
    features).
    """
    if void.any():
        return np.asarray((~void).sum(axis=0, dtype=np.float64))
    return np.full(void.shape[1:], float(len(void)))


def _count_minute(
    crowd: Crowd, images: Whole, containers: Runs, amounts: Array, samples: Whole
) -> None:
    """Add to the open minute of these images what each container of theirs has come to."""
    some = [crowd.images[at] for at in images.tolist()]
    if not some:
        return
    sums = np.array([image.sums for image in some]) + containers.together(np.add, amounts)
    counts = containers.together(np.add, samples).tolist()
    for image, whole, count in zip(some, sums, counts, strict=True):
        image.sums = whole.copy()  # a slice keeps the whole alive
        image.samples += count


def _awake(crowd: Crowd, at: int, rows: Whole) -> None:
    """Who speaks is not silent, and may be called so again."""
    state = crowd.states[at]
    for subject in [subject for subject, case in state.cases.items() if case.silent]:
        row = state.members.rows.get(subject)
        speaks = row is not None and bool((rows == crowd.start[at] + row).any())
        state.cases[subject].silent = not speaks


def deviations(crowd: Crowd, taken: Taken, detection: Detection) -> Array:
    """What the forest sees of batches: departures less what siblings do together just now.
    Shape (samples, features), finite; 0 while a container is young.
    """
    samples = taken.samples
    if "distance" not in detection.detectors:
        return np.where(samples.young[:, None], 0.0, taken.off)
    up, down = _siblings_do(crowd, taken)
    out = distance.excused(taken.off, samples.runs.spread(up), samples.runs.spread(down))
    out[samples.young] = 0.0
    return out


def _siblings_do(crowd: Crowd, taken: Taken) -> tuple[Array, Array]:
    """Just now, for each container of a batch; nothing where it is not yet held against them."""
    rows, shared = taken.samples.rows, taken.shared
    if np.array_equal(shared.rows, rows):
        return shared.up[:, :SIZE], shared.down[:, :SIZE]
    up, down = np.zeros((len(rows), SIZE)), np.zeros((len(rows), SIZE))
    place = np.full(len(crowd), -1)
    place[shared.rows] = np.arange(len(shared.rows))
    known = place[rows]
    mine = known >= 0
    up[mine], down[mine] = shared.up[known[mine], :SIZE], shared.down[known[mine], :SIZE]
    return up, down
