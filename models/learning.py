"""What passing time does: blocks close and teach, minutes are summed up, the idle forgotten.

Learning never scores, and nothing that is condemned, or near it, teaches.
"""

from __future__ import annotations

import numpy as np

from models import onset, rhythm
from models.allowance import daily
from models.baseline import Block, fold, known_or_0, pooled
from models.budget import allowed
from models.detection import Detection
from models.features import FEATURES, SIZE, Array
from models.lineage import Image, LineageState
from models.members import COUNT, HIGH, LEVEL, LOW, SQUARES, SUM, Whole
from models.records.verdict import Level, Summary
from models.siblings import ODD

MINUTE_NS = 60 * 10**9
_MOST_IMAGES = 8
_LEAST_LEVEL_WEIGHT = 0.05


def block_s(state: LineageState, detection: Detection) -> float:
    """How long a block lasts: some samples a container, within bounds."""
    length = detection.block_intervals * (state.interval_s or 1.0)
    return min(max(length, detection.block_least_s), detection.block_most_s)


def meet_image(state: LineageState, name: str, at_ns: int) -> None:
    """A new version of a known lineage starts from the newest one's baseline, trust anew."""
    if name in state.images:
        return
    known = [image for image in state.images.values() if image.baseline.container_blocks]
    newest = max(known, key=lambda image: (image.first_ns, image.name), default=None)
    image = Image(name, at_ns)
    if newest is not None:
        image.baseline, image.tail, image.line, image.lift, image.rhythm = (
            newest.baseline.inherited(), newest.tail, newest.line, newest.lift, newest.rhythm,
        )  # fmt: skip  # one thought
        image.together, image.onset_tail, image.onset_lift = (
            newest.together, newest.onset_tail, newest.onset_lift,
        )  # fmt: skip  # one thought
    state.images[name] = image


def learned(state: LineageState, image: Image, detection: Detection) -> float:
    """How much is known of an image, magnitudes and facts, 0 to 1."""
    magnitudes = image.baseline.learned(detection.learn_blocks, detection.learn_container_blocks)
    return min(magnitudes, state.facts.learned(detection.learn_container_blocks))


def close_block(state: LineageState, detection: Detection) -> None:
    """The open block ends: what it has to teach waits, what has waited long enough teaches."""
    length_s = block_s(state, detection)
    for image in state.images.values():
        rows = _teachers(state, image, detection)
        _teach(state, image, rows, detection)
        onset.learn(state, image, rows, detection)
        calm = _rows_of(state, image)
        if state.cases:
            calm = [row for row in calm if not _involved(state, row)]
        if calm and image.baseline.container_blocks >= detection.learn_container_blocks:
            image.tail = image.tail.after(float(state.members.peak[calm].max()))
        share = allowed(daily(state, image, detection), length_s)
        image.lift = image.lift.after(image.tail.excess, share)
        target = image.tail.line(share, image.lift, detection.line_least, detection.line_most)
        # What grows slowly must not lift the line ahead of itself.
        image.line = min(target, image.line + detection.line_rise_per_min * length_s / 60.0)
        image.lasting = np.zeros(SIZE)
    _close_facts(state, detection)
    grid = state.members.grid
    for channel in (SUM, SQUARES, COUNT):
        grid[:, channel] = 0.0
    grid[:, HIGH], grid[:, LOW] = -np.inf, np.inf
    state.members.peak[:] = 0.0
    state.block_ns = state.now_ns


def _rows_of(state: LineageState, image: Image) -> list[int]:
    name = image.name
    return [row for row, member in enumerate(state.members.who) if member.image == name]


def _accused(state: LineageState, row: int) -> bool:
    case = state.cases.get(state.members.who[row].subject)
    return case is not None and case.level >= Level.CORRUPTED.rank


def _involved(state: LineageState, row: int) -> bool:
    """Whether more than noise is going on with a container: then it doesn't move the line."""
    case = state.cases.get(state.members.who[row].subject)
    return case is not None and bool(case.level >= Level.CORRUPTED.rank or case.recents)


def _teachers(state: LineageState, image: Image, detection: Detection) -> Whole:
    """Members that may teach: measured, neither condemned nor near it.

    While an image, or a container, is so new that no resource condemns it alone, being near
    is no bar: what is odd then is that we know so little.
    """
    members = state.members
    new = image.baseline.blocks.max() < detection.settle_blocks
    age_s = (members.last_ns - members.since_ns) / 1e9
    near = np.where(new | (age_s < detection.settle_s), np.inf, ODD * image.line)
    fit = (members.grid[:, COUNT].max(axis=1) >= 2) & (members.peak < near)
    return np.array([
        row for row in fit.nonzero()[0].tolist()
        if members.who[row].image == image.name and not _accused(state, row)
        and members.who[row].subject not in state.lessons.barred
    ], np.int64)  # fmt: skip  # a condition a line


def _teach(state: LineageState, image: Image, rows: Whole, detection: Detection) -> None:
    members = state.members
    if len(rows):
        means, spreads = _moments(members.grid[rows])
        levels = members.trust()[rows][:, None] * members.grid[rows, LEVEL]
        high, low = members.grid[rows, HIGH], members.grid[rows, LOW]
        high, low = np.where(np.isinf(high), np.nan, high), np.where(np.isinf(low), np.nan, low)
        lasting = np.minimum(image.lasting, 2.0 * np.maximum(image.baseline.lasting, 1.0))
        block = pooled(means, spreads, low, high, levels, lasting[None], state.now_ns)
        if block is not None:
            image.pending = (*image.pending, block)
        _own_levels(state, image, rows, means)
    settled = image.baseline.blocks.max() >= detection.learn_blocks
    waiting = detection.delay_blocks if settled else 0
    ready: tuple[Block, ...] = image.pending[: max(len(image.pending) - waiting, 0)]
    for block in ready:
        image.baseline = fold(image.baseline, block)
    image.pending = image.pending[len(ready) :]


def _moments(grid: Array) -> tuple[Array, Array]:
    """Mean and spread of each container's block; NaN with fewer than two samples."""
    count = np.where(grid[:, COUNT] >= 2, grid[:, COUNT], np.nan)
    mean = grid[:, SUM] / count
    spread = np.sqrt(np.maximum(grid[:, SQUARES] / count - mean**2, 0.0))
    return mean, spread


def _own_levels(state: LineageState, image: Image, rows: Whole, means: Array) -> None:
    """Each container's level above its image's: 1/n at first, slowly later."""
    if len(rows) < 2 and image.baseline.container_blocks < 1:
        return
    members = state.members
    weight = np.maximum(1.0 / (members.taught[rows] + 1.0), _LEAST_LEVEL_WEIGHT)[:, None]
    together = np.where(np.isnan(means), 0.0, means - image.baseline.location)
    step = known_or_0(together - members.grid[rows, LEVEL])
    members.grid[rows, LEVEL] += weight * np.where(np.isnan(means), 0.0, step)
    members.taught[rows] += 1.0


def _close_facts(state: LineageState, detection: Detection) -> None:
    stale_ns = state.now_ns - int(max(15.0, 5.0 * state.interval_s) * 1e9)
    members = int((state.members.last_ns >= stale_ns).sum())
    vetoed = [
        key for case in state.cases.values() if case.level >= Level.CORRUPTED.rank
        for key in case.recents
    ]  # fmt: skip  # short enough
    state.facts.close(
        state.now_ns, members, learning=learning(state, detection), vetoed=vetoed,
        alone_ns=int(detection.learn_minutes_alone * 60e9), most=detection.most_facts,
    )  # fmt: skip  # short enough


def learning(state: LineageState, detection: Detection) -> bool:
    """Whether a lineage's facts are still being learned for the first time."""
    return state.facts.total < detection.learn_container_blocks


def veto(state: LineageState, image: str, level: int) -> None:
    """An incident: what waited teaches nothing, and where it takes facts to explain it, what
    was seen in it is no habit either.
    """
    known = state.images.get(image)
    if known is not None:
        known.pending = ()
        if level >= Level.COMPROMISED.rank:
            known.rhythm = rhythm.vetoed(known.rhythm, state.now_ns)


def close_minute(state: LineageState, detection: Detection, model: str) -> list[Summary]:
    """What each image did in the minute that ends; nothing of one that gave no sample."""
    summaries = []
    for image in sorted(state.images.values(), key=lambda image: image.name):
        if image.samples:
            summaries.append(_summary(state, image, detection, model))
        image.sums, image.samples, image.load = np.zeros((2, SIZE)), 0, 0.0
        image.shadow = None
    state.minute_ns = state.now_ns - state.now_ns % MINUTE_NS
    return summaries


def _summary(state: LineageState, image: Image, detection: Detection, model: str) -> Summary:
    """Totals: mean over the samples, times the containers where a feature adds up."""
    containers = len(_rows_of(state, image))
    means = image.sums[0] / np.maximum(image.sums[1], 1.0)
    totals = {
        feature.name: float(means[at]) * (containers if feature.additive else 1)
        for at, feature in enumerate(FEATURES)
        if image.sums[1, at]
    }
    return Summary(
        state.scope, state.lineage, state.role, image.name, state.now_ns, containers,
        image.samples, min(image.load, 1.0), learned(state, image, detection), totals, model,
        image.shadow,
    )  # fmt: skip  # in the order of the class


def forget(state: LineageState, detection: Detection) -> None:
    """Drop members that have been silent for long, and old images without any."""
    members = state.members
    known = np.maximum(members.last_ns, members.since_ns)
    kept = known >= state.now_ns - int(detection.forget_s * 1e9)
    if not kept.all():
        members.keep(kept)
        state.cases = {s: case for s, case in state.cases.items() if s in members.rows}
    used = {member.image for member in members.who}
    idle = sorted(
        (image.first_ns, name) for name, image in state.images.items() if name not in used
    )
    for _, name in idle[: max(len(state.images) - _MOST_IMAGES, 0)]:
        del state.images[name]
