"""What passing time does: blocks close and teach, minutes are summed up, the idle forgotten.

Learning never scores, and nothing that is condemned, or near it, teaches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from models import onset, rhythm, spells
from models.allowance import daily
from models.baseline import BLOCKS, LOCATION, Block, block_of, folded, known_or_0, pooled
from models.budget import allowed
from models.contract import HOST_PREFIX
from models.crowd import Crowd
from models.detection import Detection
from models.features import FEATURES, SIZE, Array
from models.lineage import Case, Image, LineageState
from models.members import COUNT, HIGH, LEVEL, LOW, SQUARES, SUM, Whole
from models.records.verdict import Family, Level, Summary
from models.runs import Runs
from models.siblings import ODD

MINUTE_NS = 60 * 10**9
_MOST_IMAGES = 8
_LEAST_LEVEL_WEIGHT = 0.05
_CONDEMNED: Final = (Level.COMPROMISED.rank,)
_DOUBTED: Final = (Level.CORRUPTED.rank, Level.SUSPECT.rank)


def block_s(state: LineageState, detection: Detection) -> float:
    """How long a block lasts: some samples a container, within bounds."""
    length = detection.block_intervals * (state.interval_s or 1.0)
    return min(max(length, detection.block_least_s), detection.block_most_s)


def block_end_ns(state: LineageState, detection: Detection) -> int:
    """When the open block is to end."""
    return state.block_ns + int(block_s(state, detection) * 1e9)


def meet_image(state: LineageState, name: str, at_ns: int) -> None:
    """A new version of a known lineage starts from the newest one's baseline, trust anew."""
    if name in state.images:
        return
    known = [image for image in state.images.values() if image.baseline.container_blocks]
    newest = max(known, key=lambda image: (image.first_ns, image.name), default=None)
    image = Image(name, at_ns)
    if newest is not None:
        image.baseline, image.tail, image.line, image.lift, image.rhythm, image.spells = (
            newest.baseline.inherited(), newest.tail, newest.line, newest.lift, newest.rhythm,
            newest.spells,
        )  # fmt: skip  # one thought
        image.together, image.onset_tail, image.onset_lift, image.taught = (
            newest.together, newest.onset_tail, newest.onset_lift, newest.taught,
        )  # fmt: skip  # one thought
    state.images[name] = image


def learned(state: LineageState, image: Image, detection: Detection) -> float:
    """How much is known of an image, magnitudes and facts, 0 to 1."""
    magnitudes = image.baseline.learned(detection.learn_blocks, detection.learn_container_blocks)
    return min(magnitudes, state.facts.learned(detection.learn_container_blocks))


def close_blocks(crowd: Crowd, hosts: Sequence[int], detection: Detection) -> None:
    """The open blocks of these states end: what they have to teach waits, what has waited long
    enough teaches.
    """
    closing = np.zeros(len(crowd.states), bool)
    closing[hosts] = True
    slots = np.flatnonzero(closing[crowd.host]).tolist()
    (rows,) = closing[crowd.host][crowd.slot].nonzero()
    teachers = _by_image(crowd, _teachers(crowd, rows, hosts, detection))
    _teach(crowd, teachers)
    _fold([crowd.images[slot] for slot in slots], detection)
    onset.learn(crowd, teachers, detection)
    peaks = _peaks(crowd, _by_image(crowd, rows), hosts)
    for slot in slots:
        state = crowd.states[int(crowd.host[slot])]
        _draw_line(state, crowd.images[slot], peaks.get(slot), detection)
    _close_facts(crowd, rows, hosts, detection)
    crowd.grid[rows[:, None], _OPEN] = _EMPTY
    crowd.peak[rows] = 0.0
    for at in hosts:
        crowd.states[at].block_ns = crowd.states[at].now_ns


_OPEN: Final = np.array([SUM, SQUARES, COUNT, HIGH, LOW])
_EMPTY: Final = np.array([0.0, 0.0, 0.0, -np.inf, np.inf])[:, None]
"""What a block is before its first sample."""


def _by_image(crowd: Crowd, rows: Whole) -> Whole:
    """The same rows, those of an image one after the other."""
    slot = crowd.slot[rows]
    mixed = len(rows) > 1 and bool((slot[1:] < slot[:-1]).any())
    return rows[np.argsort(slot, kind="stable")] if mixed else rows


def _draw_line(state: LineageState, image: Image, peak: float | None, detection: Detection) -> None:
    length_s = block_s(state, detection)
    if peak is not None and image.baseline.container_blocks >= detection.learn_container_blocks:
        image.tail = image.tail.after(peak)
    share = allowed(daily(state, image, detection), length_s)
    image.lift = image.lift.after(image.tail.excess, share)
    target = image.tail.line(share, image.lift, detection.line_least, detection.line_most)
    # What grows slowly must not lift the line ahead of itself.
    image.line = min(target, image.line + detection.line_rise_per_min * length_s / 60.0)
    image.lasting = np.zeros(SIZE)


def _peaks(crowd: Crowd, rows: Whole, hosts: Sequence[int]) -> dict[int, float]:
    """The largest evidence in the open block, by image's slot: of those with whom no more than
    noise is going on, who else doesn't move the line.
    """
    involved = _rows_of(crowd, hosts, _involved)
    calm = rows[~np.isin(rows, involved)] if involved else rows
    runs, slots = Runs.of_equal(crowd.slot[calm])
    return dict(zip(slots.tolist(), runs.most(crowd.peak[calm]).tolist(), strict=True))


def _accused(_: LineageState, case: Case) -> bool:
    return case.level >= Level.CORRUPTED.rank


def _involved(state: LineageState, case: Case) -> bool:
    return _accused(state, case) or bool(case.recents)


def _rows_of(
    crowd: Crowd, hosts: Sequence[int], which: Callable[[LineageState, Case], bool]
) -> list[int]:
    """The rows of those of whose case it is true."""
    found = []
    for at in hosts:
        state = crowd.states[at]
        for subject, case in state.cases.items():
            row = state.members.rows.get(subject)
            if row is not None and which(state, case):
                found.append(int(crowd.start[at]) + row)
    return found


def _teachers(crowd: Crowd, rows: Whole, hosts: Sequence[int], detection: Detection) -> Whole:
    """Those of these members that may teach: measured, neither condemned nor near it.

    While an image, or a container, is so new that no resource condemns it alone, being near
    is no bar: what is odd then is that we know so little. Nor is it for those who are
    :func:`_asked_for_more`.
    """
    slot = crowd.slot[rows]
    new = np.maximum.reduce(crowd.usual[:, BLOCKS], axis=1) < detection.settle_blocks
    line = ODD * np.array([image.line for image in crowd.images])
    age_s = (crowd.last_ns[rows] - crowd.since_ns[rows]) / 1e9
    near = np.where(new[slot] | (age_s < detection.settle_s), np.inf, line[slot])
    counts = np.maximum.reduce(crowd.grid[rows, COUNT], axis=1)
    calm = (crowd.peak[rows] < near) | np.isin(rows, _asked_for_more(crowd, hosts, detection))
    fit = rows[(counts >= 2) & calm]
    barred = _rows_of(crowd, hosts, _accused)
    for at in hosts:
        rows_of, first = crowd.states[at].members.rows, int(crowd.start[at])
        told = crowd.states[at].lessons.barred
        barred += [first + rows_of[subject] for subject in told if subject in rows_of]
    return np.asarray(fit[~np.isin(fit, barred)]) if barred else fit


def _asked_for_more(crowd: Crowd, hosts: Sequence[int], detection: Detection) -> list[int]:
    """The rows of those without siblings who have had more to do than usual for as long as a
    fact of one alone takes to become normal, and have shown nothing else: what comes to all
    siblings the median learns; one alone would be odd for ever, and what then befalls it, too.
    """
    patience_ns = int(detection.learn_minutes_alone * 60e9)

    def asked(state: LineageState, case: Case) -> bool:
        # Whatever a host's magnitudes are is what its containers do; theirs is what comes in.
        host = state.lineage.startswith(HOST_PREFIX)
        since_ns = [at for name, at in case.past_ns.items() if host or name == Family.INGRESS]
        long = state.now_ns - min(since_ns, default=state.now_ns) >= patience_ns
        return long and not _involved(state, case)

    members = np.bincount(crowd.slot, minlength=len(crowd.images))
    return [row for row in _rows_of(crowd, hosts, asked) if members[crowd.slot[row]] == 1]


def _teach(crowd: Crowd, rows: Whole) -> None:
    """What these members have shown in the open block waits, and moves their own levels."""
    if not len(rows):
        return
    runs, slots = Runs.of_equal(crowd.slot[rows])
    images = [crowd.images[slot] for slot in slots.tolist()]
    grid = crowd.grid[rows]
    means, spreads = _moments(grid)
    levels = crowd.trust(rows)[:, None] * grid[:, LEVEL]
    high, low = grid[:, HIGH], grid[:, LOW]
    high, low = np.where(np.isinf(high), np.nan, high), np.where(np.isinf(low), np.nan, low)
    usual = np.array([image.baseline.lasting for image in images])
    lasting = np.array([image.lasting for image in images])
    lasting = np.minimum(lasting, 2.0 * np.maximum(usual, 1.0))
    made = np.empty((len(images), 6, SIZE))
    for which, places in runs.stacks:
        one = places.T
        made[which] = pooled(
            means[one], spreads[one], low[one], high[one], levels[one], lasting[which]
        )
    for at, image in enumerate(images):
        end_ns = crowd.states[int(crowd.host[slots[at]])].now_ns
        block = block_of(end_ns, made[at], int(runs.length[at]))
        image.pending = (*image.pending, block)
    alone = np.array([image.baseline.container_blocks < 1 for image in images])
    fit = runs.spread(~alone | (runs.length > 1))
    _own_levels(crowd, rows[fit], means[fit])


def _fold(images: Sequence[Image], detection: Detection) -> None:
    """Let the blocks that have waited long enough teach."""
    ready: list[tuple[Image, list[Block]]] = []
    for image in images:
        settled = image.baseline.most_blocks >= detection.learn_blocks
        waiting = detection.delay_blocks if settled else 0
        some = max(len(image.pending) - waiting, 0)
        if some:
            ready.append((image, list(image.pending[:some])))
            image.pending = image.pending[some:]
    while ready:
        old = [image.baseline for image, _ in ready]
        after = folded(old, [blocks.pop(0) for _, blocks in ready])
        for (image, _), baseline in zip(ready, after, strict=True):
            image.baseline = baseline
        ready = [(image, blocks) for image, blocks in ready if blocks]


def _moments(grid: Array) -> tuple[Array, Array]:
    """Mean and spread of each container's block; NaN with fewer than two samples."""
    count = np.where(grid[:, COUNT] >= 2, grid[:, COUNT], np.nan)
    mean = grid[:, SUM] / count
    spread = np.sqrt(np.maximum(grid[:, SQUARES] / count - mean**2, 0.0))
    return mean, spread


def _own_levels(crowd: Crowd, rows: Whole, means: Array) -> None:
    """Each container's level above its image's: 1/n at first, slowly later."""
    weight = np.maximum(1.0 / (crowd.taught[rows] + 1.0), _LEAST_LEVEL_WEIGHT)[:, None]
    void, level = np.isnan(means), crowd.grid[rows, LEVEL]
    together = np.where(void, 0.0, means - crowd.usual[crowd.slot[rows], LOCATION])
    step = known_or_0(together - level)
    crowd.grid[rows, LEVEL] = level + weight * np.where(void, 0.0, step)
    crowd.taught[rows] += 1.0


def _close_facts(crowd: Crowd, rows: Whole, hosts: Sequence[int], detection: Detection) -> None:
    host, states = crowd.host[crowd.slot[rows]], [crowd.states[at] for at in hosts]
    stale_ns = np.zeros(len(crowd.states), np.int64)
    stale_ns[hosts] = [
        state.now_ns - int(max(15.0, 5.0 * state.interval_s) * 1e9) for state in states
    ]
    awake = np.bincount(host[crowd.last_ns[rows] >= stale_ns[host]], minlength=len(stale_ns))
    for at, state in zip(hosts, states, strict=True):
        vetoed, doubted = (
            [key for case in state.cases.values() if case.level in ranks for key in case.recents]
            for ranks in (_CONDEMNED, _DOUBTED)
        )
        state.facts.close(
            state.now_ns, int(awake[at]), learning=learning(state, detection),
            alone_ns=int(detection.learn_minutes_alone * 60e9), most=detection.most_facts,
            vetoed=vetoed, doubted=doubted,
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
            known.spells = spells.before(known.spells, state.now_ns - rhythm.APART_NS)


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
    containers = sum(member.image == image.name for member in state.members.who)
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


def forget(crowd: Crowd, hosts: Sequence[int], detection: Detection) -> None:
    """Drop members that have been silent for long, and old images without any."""
    host = crowd.host[crowd.slot]
    oldest = np.full(len(crowd.states), np.iinfo(np.int64).min)
    oldest[hosts] = [crowd.states[at].now_ns - int(detection.forget_s * 1e9) for at in hosts]
    kept = np.maximum(crowd.last_ns, crowd.since_ns) >= oldest[host]
    for at in np.flatnonzero(np.bincount(host[~kept])).tolist():
        state = crowd.states[at]
        state.members.keep(kept[crowd.start[at] : crowd.start[at + 1]])
        state.cases = {s: case for s, case in state.cases.items() if s in state.members.rows}
    for at in hosts:
        if len(crowd.states[at].images) > _MOST_IMAGES:
            _forget_images(crowd.states[at])


def _forget_images(state: LineageState) -> None:
    used = {member.image for member in state.members.who}
    idle = sorted(
        (image.first_ns, name) for name, image in state.images.items() if name not in used
    )
    for _, name in idle[: max(len(state.images) - _MOST_IMAGES, 0)]:
        del state.images[name]
