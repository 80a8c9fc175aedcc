"""The whole path of a record: live, replay and evaluation all run this.

Groups are independent of each other, and a group's verdicts follow from its own records in
their order alone: however the log is cut into calls, they are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np

from models import magnitudes, onset
from models.detection import Detection
from models.detectors.forest import Forest
from models.errors import MalformedRecord
from models.features import NAMES, Array
from models.judging import judge_members, past_line
from models.learning import (
    MINUTE_NS,
    block_s,
    close_block,
    close_minute,
    forget,
    meet_image,
)
from models.lineage import LineageState
from models.magnitudes import Taken, remembered, take
from models.pieces import Bench, Said
from models.records.lesson import Lesson
from models.records.telemetry import Batch, Sightings, Tick
from models.records.verdict import Finding, Level, Summary, Verdict
from models.shadow import tally
from models.siblings import Weighed, weigh
from models.sightings import notice
from models.silence import next_silence_ns, silent
from models.teaching import begin, hear

MOST_AHEAD_NS: Final = 300 * 10**9
_LOOK_NS: Final = 5 * 10**9


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record of one group; ``arrived_ns`` is the log's time for it. A Tick that arrives
    under a group concerns this group alone; see :func:`tick` for a partition's.
    """

    group: str
    record: Batch | Sightings | Tick | Lesson
    arrived_ns: int


@dataclass(slots=True)
class Judgement:
    """What became of some arrivals. ``states`` holds the new values of the groups that
    changed; ``duplicates`` counts samples dropped for being at or before their member's last.
    """

    states: dict[str, LineageState] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    duplicates: int = 0


Turns = tuple[tuple[int, Forest | None], ...]


@dataclass(frozen=True, slots=True)
class Models:
    """Forests, each with the event time from which it counts; None, or none yet, is fine:
    the distance then carries alone. ``shadows`` score beside them and decide nothing. A lineage
    whose history has earned it has forests of its ``own`` (and ``own_shadows``), which come
    before the fleet's while they last.
    """

    forests: Turns = ()
    shadows: Turns = ()
    own: Mapping[str, Turns] = field(default_factory=dict)
    own_shadows: Mapping[str, Turns] = field(default_factory=dict)

    def active(self, at_ns: int, lineage: str = "") -> Forest | None:
        """The forest that counts for an event time: the one that began last."""
        own = _begun(self.own[lineage], at_ns) if lineage in self.own else None
        return own or _begun(self.forests, at_ns)

    def shadow(self, at_ns: int, lineage: str = "") -> Forest | None:
        """The forest that scores beside it."""
        own = _begun(self.own_shadows[lineage], at_ns) if lineage in self.own_shadows else None
        return own or _begun(self.shadows, at_ns)

    def __bool__(self) -> bool:
        return bool(self.forests or self.shadows or self.own or self.own_shadows)

    def __post_init__(self) -> None:
        owned = (*self.own.values(), *self.own_shadows.values())
        for _, forest in chain(self.forests, self.shadows, *owned):
            if forest is not None and forest.trees.features != NAMES:
                raise MalformedRecord(
                    "out-of-range",
                    f"a forest of features {forest.trees.features}: this release judges {NAMES}",
                    "models",
                )


def _begun(turns: Turns, at_ns: int) -> Forest | None:
    begun = [(from_ns, at) for at, (from_ns, _) in enumerate(turns) if from_ns <= at_ns]
    return turns[max(begun)[1]][1] if begun else None


@dataclass(frozen=True, slots=True)
class Core:
    """What judging needs besides states and records; never changes under a call."""

    models: Models = field(default_factory=Models)
    detection: Detection = field(default_factory=Detection)


def check_arrival(record: Batch | Sightings | Tick | Lesson, arrived_ns: int) -> None:
    """Refuse what claims to be from the future; call it before judging.

    Raises: MalformedRecord("misdated") beyond five minutes after its arrival.
    """
    ahead_ns = record.at_ns - arrived_ns
    if ahead_ns > MOST_AHEAD_NS:
        problem = f"{ahead_ns / 1e9:.0f} s after its arrival: set the clock of that host right"
        raise MalformedRecord("misdated", problem, "at_ns")


def judge(states: Mapping[str, LineageState], arrivals: Sequence[Arrival], core: Core) -> Judgement:
    """Judge what has arrived together; ``states`` lacks the groups that are new.

    The i-th records of all groups make a wave: each is let in by itself, then one call of
    the forest sees all of them. No state that was passed in changes.
    """
    judged = Judgement()
    queues: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        queues.setdefault(arrival.group, []).append(arrival)
    for group, queue in queues.items():
        known = states.get(group)
        if known is not None:
            judged.states[group] = known.copy()
        elif not all(isinstance(arrival.record, Tick) for arrival in queue):
            judged.states[group] = LineageState()
    longest = max(map(len, queues.values()), default=0)
    for turn in range(longest):
        wave = [
            (judged.states[group], queue[turn])
            for group, queue in queues.items()
            if turn < len(queue) and group in judged.states
        ]
        _wave(wave, core, judged)
    return judged


def tick(states: Mapping[str, LineageState], tick: Tick, core: Core) -> Judgement:
    """Let time pass for all groups of a partition: pass those that the caller holds (of which
    only those with ``due_ns <= tick.at_ns`` can change), get those that changed.
    """
    due = [group for group, state in states.items() if state.due_ns <= tick.at_ns]
    return judge(states, [Arrival(group, tick, tick.at_ns) for group in due], core)


def deviations(states: Mapping[str, LineageState], batch: Batch, core: Core | None = None) -> Array:
    """What the forest sees of a batch. Shape (samples that count, features), finite.

    ``states`` are those before the batch; nothing changes. The trainer collects its rows by
    this very function. A measurement that is missing counts as its recent value, one of
    which nothing is known as 0.
    """
    state = states[batch.group].copy() if batch.group in states else LineageState()
    _enter(state, batch)
    begin(state, state.now_ns)
    detection = (core or Core()).detection
    return magnitudes.deviations(state, take(state, batch, detection), detection)


def _wave(wave: list[tuple[LineageState, Arrival]], core: Core, judged: Judgement) -> None:
    taken: list[Taken | None] = []
    for state, arrival in wave:
        record = arrival.record
        if isinstance(record, Batch):
            _enter(state, record)
            begin(state, state.now_ns)
            taken.append(take(state, record, core.detection))
        else:
            taken.append(None)
    surprises, shadows = _surprises(wave, taken, core)
    for at, (state, arrival) in enumerate(wave):
        batch, shadow = taken[at], shadows[at]
        if batch is not None and shadow is not None:
            beside = core.models.shadow(arrival.record.at_ns, state.lineage)
            assert beside is not None
            tally(state, batch, surprises[at], shadow, beside.trees.uid)
        _conclude(state, arrival, batch, surprises[at], core, judged)


Scored = list[Array | None]


def _surprises(wave: list[tuple[LineageState, Arrival]], taken: list[Taken | None],
               core: Core) -> tuple[Scored, Scored]:  # fmt: skip  # two lines
    """What the active forests and their shadows say of all rows of a wave."""
    models = core.models
    none: Scored = [None] * len(wave)
    if not models or "forest" not in core.detection.detectors:
        return none, none
    rows = {
        at: magnitudes.deviations(wave[at][0], batch, core.detection)
        for at, batch in enumerate(taken)
        if batch is not None and len(batch.off)
    }
    due = [(arrival.record.at_ns, state.lineage) for state, arrival in wave]
    active = _scored(rows, [models.active(*one) for one in due])
    if not models.shadows and not models.own_shadows:
        return active, none
    return active, _scored(rows, [models.shadow(*one) for one in due])


def _scored(rows: dict[int, Array], forests: list[Forest | None]) -> Scored:
    """The surprise of each batch's rows, by one call a forest."""
    out: Scored = [None] * len(forests)
    for forest in {id(forest): forest for forest in forests if forest is not None}.values():
        mine = [(at, part) for at, part in rows.items() if forests[at] is forest]
        if mine:
            surprise = forest.surprise(np.concatenate([part for _, part in mine]))
            ends = np.cumsum([len(part) for _, part in mine])[:-1]
            for (at, _), part in zip(mine, np.split(surprise, ends), strict=True):
                out[at] = part
    return out


def _enter(state: LineageState, record: Batch | Sightings) -> None:
    if not state.block_ns:
        state.scope, state.lineage, state.role = record.scope, record.lineage, record.role
        state.block_ns = record.at_ns
        state.minute_ns = record.at_ns - record.at_ns % MINUTE_NS
    state.now_ns = max(state.now_ns, record.at_ns)
    for member in record.members:
        if member.image not in state.images:
            meet_image(state, member.image, record.at_ns)


def _conclude(state: LineageState, arrival: Arrival, taken: Taken | None,
              surprise: Array | None, core: Core, judged: Judgement) -> None:  # fmt: skip
    record, detection = arrival.record, core.detection
    if isinstance(record, Tick) and record.at_ns < state.due_ns:
        return
    forest = core.models.active(record.at_ns, state.lineage)
    if "forest" not in detection.detectors:
        forest = None
    model = forest.trees.uid if forest is not None else ""
    said = Said(judged.verdicts, judged.findings)
    bench = Bench(state, detection, arrival.arrived_ns, forest, said)
    if taken is not None:
        judged.duplicates += taken.duplicates
        _judge_batch(bench, taken, surprise)
    elif isinstance(record, Lesson):
        hear(state, record)
    elif isinstance(record, Sightings):
        _enter(state, record)
        begin(state, state.now_ns)
        touched = notice(state, record, detection)
        if touched:
            judge_members(bench, touched, {})
    else:
        state.now_ns = max(state.now_ns, record.at_ns)
        begin(state, state.now_ns)
        judge_members(bench, silent(state, detection), {})
    judged.summaries += _pass_time(state, detection, model)


def _judge_batch(bench: Bench, taken: Taken, surprise: Array | None) -> None:
    state, rows = bench.state, taken.samples.rows
    if not len(rows):
        return
    if surprise is not None:
        state.members.surprise[rows] = remembered(state.members.surprise[rows], surprise, taken)
    weighed: dict[str, Weighed] = {}
    subjects: list[str] = []
    for name, shared in taken.shared.items():
        image = state.images[name]
        weighed[name] = weigh(state, image, shared, bench.detection)
        subjects += past_line(state, image, weighed[name], surprised=surprise is not None)
    watched = "onset" in bench.detection.detectors
    onsets = onset.judged(state, taken, bench.detection) if watched else {}
    subjects += [state.members.who[row].subject for row in onsets]
    if subjects or state.cases:
        judge_members(replace(bench, onsets=onsets), subjects, weighed)


def _pass_time(state: LineageState, detection: Detection, model: str) -> list[Summary]:
    """Close what is due, then say when something is due next."""
    summaries: list[Summary] = []
    block_ns = int(block_s(state, detection) * 1e9)
    if state.now_ns >= state.block_ns + block_ns:
        close_block(state, detection)
        forget(state, detection)
    if state.now_ns >= state.minute_ns + MINUTE_NS:
        summaries = close_minute(state, detection, model)
    due = [
        state.block_ns + block_ns,
        state.minute_ns + MINUTE_NS,
        next_silence_ns(state, detection),
        state.lessons.next_ns,
    ]
    if any(case.level > Level.QUIET.rank for case in state.cases.values()):
        due.append(state.now_ns + _LOOK_NS)
    state.due_ns = min(due)
    return summaries
