"""What sets in: each container against what it was just like, live as in ``evaluate``.

The levels that follow a container, distance, residual, what lies beyond all seen, their
combination and the line are those of models/watch.py; here the scale is the baseline's, what
departs together is learned row by row, and members come and go. What comes of it is a word,
no more: the rules of models/verdict.py ask for what stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.allowance import of_member
from models.budget import ROWS, Flags, Line, allowed
from models.detection import Detection
from models.detectors import unseen
from models.detectors.unseen import Range
from models.features import Array
from models.following import NEW_ROWS, Followed, arrived, follow
from models.lineage import Image, LineageState
from models.magnitudes import Taken, by_image, usual
from models.members import HIGHEST, KNOWN, LAST, LEVELS, LOWEST, RECENT, WORTH, Whole
from models.scale import Scale
from models.watch import NEAR, evidence

_MOST_TOLD = 3


@dataclass(frozen=True, slots=True)
class Onset:
    """How far past the line a container's evidence is, in excesses of its tail, and in what it
    departs most: features, their values and what they were just before (transformed).
    """

    beyond: float
    features: tuple[int, ...]
    values: tuple[float, ...]
    before: tuple[float, ...]


def known(image: Image, detection: Detection) -> bool:
    """Whether enough is known of an image to hold its containers against it."""
    needed = detection.learn_blocks, detection.learn_container_blocks
    return image.baseline.learned(*needed) >= 1.0


def judged(state: LineageState, taken: Taken, detection: Detection) -> dict[int, Onset]:
    """The members in which something sets in with this batch. Levels and lines move on."""
    found: dict[int, Onset] = {}
    for image, mine in by_image(state, taken.samples.rows):
        if known(image, detection):
            found |= _of_image(state, image, taken, mine, detection)
    return found


def _of_image(state: LineageState, image: Image, taken: Taken, mine: Flags | None,
              detection: Detection) -> dict[int, Onset]:  # fmt: skip  # two lines
    samples, members = taken.samples, state.members
    chosen = np.flatnonzero(mine) if mine is not None else np.arange(len(samples.rows))
    rows, seen = samples.rows[chosen], _side_by_side(taken, chosen)
    centre, spread = (part[chosen] for part in taken.usual)
    scale, own = Scale(centre, spread), centre - image.baseline.location
    new = members.account[rows, KNOWN][:, ROWS] == 0.0
    if new.any():
        _begin(state, image, rows[new])
    followed, account = members.followed[rows].astype(np.float64), members.account[rows]
    edges = followed[:, (LOWEST, HIGHEST)].swapaxes(0, 1) + own
    scaled = scale.seen(np.concatenate([edges, seen]))
    shown, scaled = Range(scaled[0], scaled[1]), scaled[2:]
    before = Followed(followed[:, LEVELS], followed[:, RECENT], account[:, WORTH])
    after, off = follow(before, scaled)
    _, past = unseen.beyond(shown, scaled)
    told = evidence(image.together.residual, off, past)
    told[np.isnan(seen).all(axis=2)] = np.nan
    followed[:, LEVELS], followed[:, RECENT] = after.levels, after.recent
    followed[:, LOWEST] = np.fmin(followed[:, LOWEST], np.fmin.reduce(seen) - own)
    followed[:, HIGHEST] = np.fmax(followed[:, HIGHEST], np.fmax.reduce(seen) - own)
    account[:, WORTH] = after.rows
    alarms = _held(state, image, account[:, KNOWN], told, detection)
    members.followed[rows], members.account[rows] = followed, account
    return {
        int(rows[at]): _onset(beyond, off[step, at], scaled[step, at], scale, at)
        for at, (step, beyond) in alarms.items()
    }


def _side_by_side(taken: Taken, chosen: Whole) -> Array:
    """Samples ``(steps, members, features)``, NaN where a member has fewer, or is young."""
    samples = taken.samples
    step = np.arange(len(samples.of)) - samples.first[samples.of]
    place = np.full(len(samples.rows), -1)
    place[chosen] = np.arange(len(chosen))
    mine = (place[samples.of] >= 0) & ~samples.young
    rows = np.full((int(step.max(initial=0)) + 1, len(chosen), taken.seen.shape[1]), np.nan)
    rows[step[mine], place[samples.of[mine]]] = taken.seen[mine]
    return rows


def _begin(state: LineageState, image: Image, rows: Whole) -> None:
    """Nothing is known of these members but their image: its levels, its range."""
    members = state.members
    members.followed[rows] = 0.0
    members.followed[rows, RECENT] = np.nan
    members.followed[rows, LOWEST] = image.baseline.low
    members.followed[rows, HIGHEST] = image.baseline.high
    members.account[rows, WORTH] = NEW_ROWS


def _held(state: LineageState, image: Image, known: Array, told: Array,
          detection: Detection) -> dict[int, tuple[int, float]]:  # fmt: skip  # two lines
    """Hold evidence ``(steps, members)``, NaN where one is absent, against the image's line, in
    order. The step at which a member was furthest past it, and how far, of those it calls.
    """
    per_row = allowed(of_member(state, image, detection), state.interval_s)
    merge_rows = int(detection.onset_ticket_s / max(state.interval_s, 0.1))
    line = Line(per_row, merge_rows, image.onset_tail, image.onset_lift)
    alarms: dict[int, tuple[int, float]] = {}
    for step, side_by_side in enumerate(told):
        margins, called = line.judge(known, side_by_side)
        for at in np.flatnonzero(called).tolist():
            beyond = float(margins[at]) / line.tail.excess
            if beyond > alarms.get(at, (0, -np.inf))[1]:
                alarms[at] = step, beyond
    image.onset_tail, image.onset_lift = line.tail, line.lift
    return alarms


def _onset(beyond: float, off: Array, scaled: Array, scale: Scale, at: int) -> Onset:
    """``off`` (horizons, features) and ``scaled`` (features,) of the row that was furthest."""
    near = np.abs(off[:NEAR]).max(axis=0)
    top = np.argsort(-near, kind="stable")[:_MOST_TOLD].tolist()
    top = [feature for feature in top if near[feature] >= 0.5 * near[top[0]]]
    horizon = np.abs(off[:NEAR]).argmax(axis=0)
    change = off[horizon, np.arange(off.shape[1])]
    restored = scale.restored(np.array([scaled, scaled - change]), at)
    return Onset(
        beyond, tuple(top), tuple(float(restored[0, feature]) for feature in top),
        tuple(float(restored[1, feature]) for feature in top),
    )  # fmt: skip  # short enough


def learn(state: LineageState, image: Image, rows: Whole, detection: Detection) -> None:
    """What departs together, from the last row of each of these quiet members: one a block,
    so that what lasts does not speak many times.
    """
    rows = rows[state.members.account[rows, KNOWN][:, ROWS] > 0.0]
    if len(rows) and known(image, detection):
        followed = state.members.followed[rows].astype(np.float64)
        last = Scale(*usual(state, rows)).seen(state.members.grid[rows, LAST][None])[0]
        worth = state.members.account[rows, WORTH]
        after = Followed(followed[:, LEVELS], followed[:, RECENT], worth)
        image.together = image.together.after(arrived(after, last))
