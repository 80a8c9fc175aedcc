"""What sets in: each container against what it was just like, live as in ``evaluate``.

The levels that follow a container, distance, residual, what lies beyond all seen, their
combination and the line are those of models/watch.py, and where the model in force knows a
lineage's history so is what they hold a container against (models/history.py). Until then the
scale is the baseline's and what departs together is learned row by row. Members come and go.
What comes of it is a word, no more: the rules of models/verdict.py ask for what stays.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.allowance import of_member
from models.baseline import LOCATION, SCALE
from models.budget import ROWS, Flags, Lift, Line, accounts, allowed, judge_row
from models.crowd import Crowd
from models.detection import Detection
from models.detectors import residual, unseen
from models.detectors.forest import Forest
from models.detectors.residual import Residual
from models.detectors.unseen import Range
from models.features import Array
from models.following import NEW_ROWS, Followed, arrived, follow
from models.history import History
from models.lineage import Image, LineageState
from models.magnitudes import Taken, usual
from models.members import HIGHEST, KNOWN, LAST, LEVELS, LOWEST, RECENT, WORTH, Whole
from models.runs import Runs
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


@dataclass(frozen=True)
class Followers:
    """Containers of which equally many samples came, at most ``steps``, and whose images have
    equally many: ``at`` are their places among those that spoke, image by image. ``histories``:
    what is known of each image's.
    """

    images: list[Image]
    states: list[LineageState]
    histories: list[History | None]
    steps: int
    at: Whole

    @functools.cached_property
    def of(self) -> Whole:
        """Which of the images is each one's."""
        return np.arange(len(self.images)).repeat(len(self.at) // len(self.images))


def known(image: Image, detection: Detection) -> bool:
    """Whether enough is known of an image to hold its containers against it."""
    needed = detection.learn_blocks, detection.learn_container_blocks
    return image.baseline.learned(*needed) >= 1.0


def judged(
    crowd: Crowd, taken: Taken, forests: Sequence[Forest | None], detection: Detection
) -> dict[int, dict[int, Onset]]:
    """The members, rows of the crowd, in which something sets in with these batches; by state.
    Levels and lines move on. ``forests``: the models in force, for each state.
    """
    found: dict[int, dict[int, Onset]] = {}
    for followers in _alike(crowd, taken, forests, detection):
        for row, onset in _judged(crowd, taken, followers, detection):
            found.setdefault(int(crowd.host[crowd.slot[row]]), {})[row] = onset
    return found


def _alike(
    crowd: Crowd, taken: Taken, forests: Sequence[Forest | None], detection: Detection
) -> Iterator[Followers]:
    """Images that are known, by how many samples and containers spoke of each."""
    steps = taken.containers.together(np.maximum, taken.samples.runs.length).tolist()
    counts = taken.containers.length.tolist()
    alike: dict[tuple[int, int], list[int]] = {}
    for at, slot in enumerate(taken.images.tolist()):
        if known(crowd.images[slot], detection):
            alike.setdefault((steps[at], counts[at]), []).append(at)
    for (most, count), images in alike.items():
        slots = taken.images[images].tolist()
        places = taken.containers.first[images][:, None] + np.arange(count)
        hosts = [int(crowd.host[slot]) for slot in slots]
        some, states = [crowd.images[slot] for slot in slots], [crowd.states[at] for at in hosts]
        models = [forests[at] for at in hosts]
        yield Followers(
            some, states, list(map(_history, some, states, models)), most, places.ravel()
        )


def _history(image: Image, state: LineageState, model: Forest | None) -> History | None:
    """What is known of an image's history. What another model knew of it is no measure any more:
    its containers are followed anew then.
    """
    history = None if model is None else model.history(state.group)
    name = "" if model is None or history is None else model.trees.uid
    if name != image.taught:
        image.taught = name
        rows = [state.members.rows[member.subject] for member in state.members.who
                if member.image == image.name]  # fmt: skip  # one expression
        state.members.account[rows, KNOWN] = accounts(len(rows))
        if history is not None:
            image.onset_tail, image.onset_lift = history.tail, Lift()
    return history


def _judged(
    crowd: Crowd, taken: Taken, followers: Followers, detection: Detection
) -> list[tuple[int, Onset]]:
    rows, seen = taken.samples.rows[followers.at], _side_by_side(taken, followers)
    centre, spread = (part[followers.at] for part in taken.usual)
    spread = _spread(crowd, rows, followers, spread)
    scale, own = Scale(centre, spread), centre - crowd.usual[crowd.slot[rows], LOCATION]
    new = crowd.account[rows, KNOWN][:, ROWS] == 0.0
    if new.any():
        _begin(crowd, followers, rows, new)
    followed, account = crowd.followed[rows].astype(np.float64), crowd.account[rows]
    edges = followed[:, (LOWEST, HIGHEST)].swapaxes(0, 1) + own
    scaled = scale.seen(np.concatenate([edges, seen]))
    shown, scaled = Range(scaled[0], scaled[1]), scaled[2:]
    before = Followed(followed[:, LEVELS], followed[:, RECENT], account[:, WORTH])
    after, off = follow(before, scaled)
    _, past = unseen.beyond(shown, scaled)
    told = _evidence(followers, off, past)
    told[np.isnan(seen).all(axis=2)] = np.nan
    followed[:, LEVELS], followed[:, RECENT] = after.levels, after.recent
    # Of 0.0 and -0.0 numpy takes either, as they happen to lie: 0.0 is added to have the one.
    followed[:, LOWEST] = np.fmin(followed[:, LOWEST], np.fmin.reduce(seen) - own) + 0.0
    followed[:, HIGHEST] = np.fmax(followed[:, HIGHEST], np.fmax.reduce(seen) - own) + 0.0
    account[:, WORTH] = after.rows
    alarms = _held(followers, account[:, KNOWN], told, detection)
    crowd.followed[rows], crowd.account[rows] = followed, account
    return [
        (int(rows[at]), _onset(beyond, off[step, at], scaled[step, at], scale, at))
        for at, (step, beyond) in alarms.items()
    ]


def _evidence(followers: Followers, off: Array, past: Array) -> Array:
    """Of each row, against what departs together in its image. Shape (steps, members)."""
    unusual = _residual(followers)
    by_image = len(off), len(followers.images), -1
    told = evidence(unusual, off.reshape(*by_image, *off.shape[2:]), past.reshape(by_image))
    return told.reshape(past.shape)


def _residual(followers: Followers) -> Residual:
    """What departs together, for each image."""
    if not any(followers.histories):
        return residual.together([image.together for image in followers.images])
    each = zip(followers.images, followers.histories, strict=True)
    return Residual(np.array([
        (image.together if history is None else history).residual.whitening
        for image, history in each
    ]))  # fmt: skip  # one expression


def _spread(crowd: Crowd, rows: Whole, followers: Followers, usual_: Array) -> Array:
    """One deviation of each container: of its history, where one is known, else the baseline's;
    both wider while it is not known how far the container is off its siblings.
    """
    if not any(followers.histories):
        return usual_
    unknown = np.full(usual_.shape[1], np.nan)
    each = np.array([unknown if one is None else one.spread for one in followers.histories])
    learned, base = each[followers.of], crowd.usual[crowd.slot[rows], SCALE]
    wider = np.sqrt(learned**2 + np.maximum(usual_**2 - base**2, 0.0))
    return np.where(np.isnan(learned), usual_, wider)


def _side_by_side(taken: Taken, followers: Followers) -> Array:
    """Samples ``(steps, members, features)``, NaN where a member has fewer, or is young."""
    runs, at = taken.samples.runs, followers.at
    step = np.arange(followers.steps)[:, None]
    absent = step >= runs.length[at]
    places = np.where(absent, 0, runs.first[at] + step)
    seen = taken.seen[places]
    seen[absent | taken.samples.young[places]] = np.nan
    return seen


def _begin(crowd: Crowd, followers: Followers, rows: Whole, new: Flags) -> None:
    """Nothing is known of the new ones but their image: its levels, its range."""
    met, of = rows[new], followers.of[new]
    ranges = list(map(_range, followers.images, followers.histories))
    crowd.followed[met] = 0.0
    crowd.followed[met, RECENT] = np.nan
    crowd.followed[met, LOWEST] = np.array([low for low, _ in ranges])[of]
    crowd.followed[met, HIGHEST] = np.array([high for _, high in ranges])[of]
    crowd.account[met, WORTH] = NEW_ROWS


def _range(image: Image, history: History | None) -> tuple[Array, Array]:
    """What was seen of an image, of a container at its siblings' level."""
    base = image.baseline
    if history is None:
        return base.low, base.high
    low, high = base.location + history.low, base.location + history.high
    return np.fmin(base.low, low), np.fmax(base.high, high)


def _held(
    followers: Followers, known: Array, told: Array, detection: Detection
) -> dict[int, tuple[int, float]]:
    """Hold evidence ``(steps, members)``, NaN where one is absent, against the images' lines, in
    order. The step at which a member was furthest past its line, and how far, of those it calls.
    """
    lines = [_line(*one, detection) for one in zip(followers.states, followers.images, strict=True)]
    alarms: dict[int, tuple[int, float]] = {}
    for step, side_by_side in enumerate(told):
        margins, called = judge_row(lines, followers.of, known, side_by_side)
        for at in np.flatnonzero(called).tolist():
            beyond = float(margins[at]) / lines[int(followers.of[at])].tail.excess
            if beyond > alarms.get(at, (0, -np.inf))[1]:
                alarms[at] = step, beyond
    for image, line in zip(followers.images, lines, strict=True):
        image.onset_tail, image.onset_lift = line.tail, line.lift
    return alarms


def _line(state: LineageState, image: Image, detection: Detection) -> Line:
    per_row = allowed(of_member(state, image, detection), state.interval_s)
    merge_rows = int(detection.onset_ticket_s / max(state.interval_s, 0.1))
    return Line(per_row, merge_rows, image.onset_tail, image.onset_lift)


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


def learn(crowd: Crowd, rows: Whole, detection: Detection) -> None:
    """What departs together, from the last row of each of these quiet members, image by image:
    one a block, so that what lasts does not speak many times.
    """
    judged_ = crowd.account[rows, KNOWN][:, ROWS] > 0.0
    # Where a history is known, levels are on its scale, and it has told what departs together.
    sure = np.array([not image.taught and known(image, detection) for image in crowd.images], bool)
    rows = rows[judged_ & sure[crowd.slot[rows]]]
    if not len(rows):
        return
    followed = crowd.followed[rows].astype(np.float64)
    last = Scale(*usual(crowd, rows)).seen(crowd.grid[rows, LAST][None])[0]
    after = Followed(followed[:, LEVELS], followed[:, RECENT], crowd.account[rows, WORTH])
    off = arrived(after, last)
    runs, slots = Runs.of_equal(crowd.slot[rows])
    images = [crowd.images[slot] for slot in slots.tolist()]
    for which, places in runs.stacks:
        some = [images[at] for at in np.arange(len(images))[which].tolist()]
        learned = residual.after([image.together for image in some], off[places.T])
        for image, together in zip(some, learned, strict=True):
            image.together = together
