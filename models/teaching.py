"""A lesson takes effect: at one place of a lineage's log, from its event time on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models import rhythm, spells
from models.baseline import Baseline
from models.detectors.rarity import teachable
from models.facts import Seen
from models.features import FEATURES, INDEX
from models.learning import meet_image, veto
from models.lineage import Before, LineageState
from models.records.lesson import Lesson, Teaching
from models.records.verdict import Level


def hear(state: LineageState, lesson: Lesson) -> None:
    """A lesson arrives: it waits for its time, or begins. Said twice it is one."""
    if not state.scope:
        state.scope, state.lineage, state.role = lesson.scope, lesson.lineage, lesson.role
    if state.lessons.find(lesson.uid) is None:
        state.lessons = state.lessons.awaiting(lesson)
        begin(state, max(state.now_ns, 1))


def begin(state: LineageState, at_ns: int) -> None:
    """Let end and begin what is due at this event time; call it before judging."""
    if at_ns < state.lessons.next_ns:
        return
    state.lessons = state.lessons.ended(at_ns)
    for lesson in state.lessons.due(at_ns):
        if lesson.what is Teaching.UNDO:
            _undo(state, lesson)
        else:
            state.lessons = state.lessons.holding(lesson)
            if lesson.what is Teaching.BASELINE:
                _teach(state, lesson)
            elif lesson.what is Teaching.CONFIRM:
                _condemn(state, lesson)
    state.facts.dismissed = state.lessons.dismissed
    state.facts.condemned = state.lessons.condemned


# ---- a reviewed baseline -------------------------------------------------------------------


def _teach(state: LineageState, lesson: Lesson) -> None:
    meet_image(state, lesson.image, max(state.now_ns, lesson.from_ns))
    image = state.images[lesson.image]
    new = tuple(key for key in filter(teachable, lesson.facts) if not state.facts.normal(key))
    trials = lesson.container_blocks - state.facts.total if lesson.in_full else 0.0
    image.before = Before(lesson.uid, image.baseline, new, max(trials, 0.0))
    image.baseline, image.pending = taught(image.baseline, lesson), ()
    state.facts.total += image.before.trials
    seen = dict(state.facts.seen)
    for key in new:
        known = seen.get(key, Seen(state.now_ns, state.now_ns, 2, 2, (), normal=True))
        seen[key] = replace(known, normal=True)
    state.facts.seen = seen


def taught(known: Baseline, lesson: Lesson) -> Baseline:
    """The baseline that a lesson makes of one: what it does not name stays as it is."""
    names = ("location", "within", "low", "high", "blocks")
    made = {name: getattr(known, name).copy() for name in names}
    for one in lesson.usual:
        at = INDEX.get(one.feature)
        if at is None or FEATURES[at].unit != one.unit:
            continue  # another release's feature, or another meaning of ours
        floor = FEATURES[at].floor
        off = one.usual + one.deviation * max(one.usual, floor)
        low, place, high, beyond = np.arcsinh(np.array([one.low, one.usual, one.high, off]) / floor)
        made["location"][at], made["low"][at], made["high"][at] = place, low, high
        made["within"][at] = (beyond - place) / (1.0 + 2.0 / max(one.blocks, 1.0))
        made["blocks"][at] = one.blocks
    after = replace(known, **made)
    if not lesson.in_full:
        return after.inherited()
    return replace(after, container_blocks=max(known.container_blocks, lesson.container_blocks))


def _undo(state: LineageState, lesson: Lesson) -> None:
    """As if the other had not been said, but for what was learned since from telemetry alone:
    a baseline goes back to what it was.
    """
    state.lessons = state.lessons.without(lesson.uid).without(lesson.undoes)
    for image in state.images.values():
        was = image.before
        if was is None or was.lesson != lesson.undoes:
            continue
        image.baseline, image.pending, image.before = was.baseline, (), None
        state.facts.total -= min(was.trials, state.facts.total)
        seen = dict(state.facts.seen)
        for key in was.facts:
            known = seen.pop(key, None)
            if known is not None and known.by:
                seen[key] = replace(known, normal=False)
        state.facts.seen = seen


# ---- an incident that was real --------------------------------------------------------------


def _condemn(state: LineageState, lesson: Lesson) -> None:
    """What waits teaches nothing; what it alone has shown since then is forgotten, and none of
    its facts is normal.
    """
    veto(state, lesson.image, Level.COMPROMISED.rank)
    image = state.images.get(lesson.image)
    if image is not None and lesson.since_ns:
        image.rhythm = rhythm.before(image.rhythm, lesson.since_ns)
        image.spells = spells.before(image.spells, lesson.since_ns)
    told, only = frozenset(lesson.facts), {lesson.subject}
    seen = {}
    for key, known in state.facts.seen.items():
        since = known.first_ns >= lesson.since_ns > 0
        if key in told:
            seen[key] = replace(known, normal=False)
        elif not (since and known.by and only.issuperset(known.by)):
            seen[key] = known
    state.facts.seen = seen
    state.facts.fresh = {
        key: others for key, by in state.facts.fresh.items()
        if (others := tuple(one for one in by if one != lesson.subject))
    }  # fmt: skip  # one condition
