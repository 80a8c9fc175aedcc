"""The whole path of a record: live, replay and evaluation all run this.

Groups are independent of each other, and a group's verdicts follow from its own records in
their order alone: however the log is cut into calls, they are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np

from models import onset
from models.crowd import Crowd
from models.detection import Detection
from models.detectors.forest import Forest
from models.errors import MalformedRecord
from models.features import NAMES, Array
from models.judging import judge_members, past_line, weighed_of
from models.learning import (
    MINUTE_NS,
    block_end_ns,
    close_blocks,
    close_minute,
    forget,
    meet_image,
)
from models.lineage import LineageState
from models.magnitudes import Taken, remembered, take
from models.magnitudes import deviations as deviations_of
from models.members import Whole
from models.pieces import Bench, Said
from models.records.lesson import Lesson
from models.records.telemetry import Batch, Sightings, Tick
from models.records.verdict import Finding, Level, Summary, Verdict
from models.shadow import tally
from models.siblings import weigh
from models.sightings import notice
from models.silence import next_silence_ns, silent
from models.teaching import begin, hear

MOST_AHEAD_NS: Final = 300 * 10**9
_LOOK_NS: Final = 5 * 10**9
_SIDE_BY_SIDE: Final = 6_144
"""Members, or samples, that are judged side by side: more save nothing, and leave the cache."""


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
        return _turn_of(self.forests, self.own, at_ns, lineage)

    def shadow(self, at_ns: int, lineage: str = "") -> Forest | None:
        """The forest that scores beside it."""
        return _turn_of(self.shadows, self.own_shadows, at_ns, lineage)

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


def _turn_of(fleet: Turns, own: Mapping[str, Turns], at_ns: int, lineage: str) -> Forest | None:
    of_its_own = _begun(own[lineage], at_ns) if lineage in own else None
    return of_its_own or _begun(fleet, at_ns)


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

    The i-th records of all groups make a wave, which is let in together: the same is done to
    all of a wave's containers by one call. No state that was passed in changes.
    """
    judged = Judgement()
    queues: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        queues.setdefault(arrival.group, []).append(arrival)
    waiting = [(group, states.get(group), queue) for group, queue in queues.items()]
    for some in _crowded(waiting):
        _judge_crowd(some, core, judged)
    return judged


Waiting = list[tuple[str, LineageState | None, list[Arrival]]]


def _crowded(waiting: Waiting) -> Iterator[Waiting]:
    """Some lineages at a time: so many that numpy has something to do, and all fits a cache.
    Who has most to come goes first: a wave is then of the first of them.
    """
    some: Waiting = []
    rows = 0
    for one in sorted(waiting, key=lambda one: -len(one[2])):
        _, state, queue = one
        if state is None and all(isinstance(arrival.record, Tick) for arrival in queue):
            continue
        more = max(0 if state is None else len(state.members), *map(_rows, queue))
        if some and rows + more > _SIDE_BY_SIDE:
            yield some
            some, rows = [], 0
        some.append(one)
        rows += more
    if some:
        yield some


def _rows(arrival: Arrival) -> int:
    return len(arrival.record.samples) if isinstance(arrival.record, Batch) else 1


def _judge_crowd(waiting: Waiting, core: Core, judged: Judgement) -> None:
    alone = len(waiting) == 1
    queues = [queue for _, _, queue in waiting]
    states = [LineageState() if state is None else state.copy(members=alone)
              for _, state, _ in waiting]  # fmt: skip  # one expression
    crowd = Crowd.of(states)  # whose arrays are copies, unless there is but one
    said = Said(judged.verdicts, judged.findings)
    for turn in range(len(queues[0])):
        arrivals = [queue[turn] for queue in queues if turn < len(queue)]
        wave = _Wave.of(states[: len(arrivals)], arrivals, core, said)
        crowd = _judge_wave(crowd, wave, judged)
    for (group, _, _), state in zip(waiting, states, strict=True):
        if not alone:
            state.members.own()
        judged.states[group] = state


def tick(states: Mapping[str, LineageState], tick: Tick, core: Core) -> Judgement:
    """Let time pass for all groups of a partition: pass those that the caller holds (of which
    only those with ``due_ns <= tick.at_ns`` can change), get those that changed.
    """
    due = [group for group, state in states.items() if state.due_ns <= tick.at_ns]
    return judge(states, [Arrival(group, tick, tick.at_ns) for group in due], core)


@dataclass(frozen=True, slots=True)
class Looked:
    """What judging sees of a batch: ``deviations`` (samples that count, features), finite, as the
    forest does; and of each container, by subject, what it was like (samples, features), as
    onsets do, NaN where nothing was measured or it was young.
    """

    deviations: Array
    seen: dict[str, Array]


def look(states: Mapping[str, LineageState], batch: Batch, core: Core | None = None) -> Looked:
    """What is seen of a batch. ``states`` are those before it; nothing changes. The trainer
    collects its rows by this very function. A measurement that is missing counts among deviations
    as its recent value, one of which nothing is known as 0.
    """
    state = states[batch.group].copy() if batch.group in states else LineageState()
    met = _let_in(state, batch, batch.at_ns)
    crowd, detection = Crowd.of([state]), (core or Core()).detection
    taken = take(crowd, {0: batch}, {0: met}, detection)
    samples = taken.samples
    seen = np.where(samples.young[:, None], np.nan, taken.seen)
    runs = zip(samples.rows.tolist(), samples.runs.first, samples.runs.last, strict=True)
    who = state.members.who
    parts = {who[row].subject: seen[first : last + 1] for row, first, last in runs}
    return Looked(deviations_of(crowd, taken, detection), parts)


def deviations(states: Mapping[str, LineageState], batch: Batch, core: Core | None = None) -> Array:
    """What the forest sees of a batch: see :func:`look`."""
    return look(states, batch, core).deviations


@dataclass(frozen=True, slots=True)
class _Wave:
    """One record of each of some lineages; ``forests``: whose turn it is for each."""

    states: list[LineageState]
    arrivals: list[Arrival]
    times_ns: list[int]
    core: Core
    forests: list[Forest | None]
    said: Said

    @classmethod
    def of(
        cls, states: list[LineageState], arrivals: list[Arrival], core: Core, said: Said
    ) -> _Wave:
        times_ns = [arrival.record.at_ns for arrival in arrivals]
        models = core.models
        forests = _turns(states, times_ns, core, models.forests, models.own)
        return cls(states, arrivals, times_ns, core, forests, said)

    def shadows(self) -> list[Forest | None]:
        """The forests that score beside."""
        models = self.core.models
        return _turns(self.states, self.times_ns, self.core, models.shadows, models.own_shadows)

    def bench(self, at: int) -> Bench:
        arrived_ns = self.arrivals[at].arrived_ns
        return Bench(self.states[at], self.core.detection, arrived_ns, self.forests[at], self.said)


def _turns(
    states: list[LineageState], times_ns: list[int], core: Core, fleet: Turns,
    own: Mapping[str, Turns],
) -> list[Forest | None]:  # fmt: skip  # two lines say as much
    """The forest whose turn it is, for a record of each state at its time."""
    if not (fleet or own) or "forest" not in core.detection.detectors:
        return [None] * len(states)
    if not own and min(times_ns) >= max(from_ns for from_ns, _ in fleet):
        return [_begun(fleet, times_ns[0])] * len(states)  # the last one's turn, for all
    return [
        _turn_of(fleet, own, at_ns, state.lineage)
        for state, at_ns in zip(states, times_ns, strict=True)
    ]


def _judge_wave(crowd: Crowd, wave: _Wave, judged: Judgement) -> Crowd:
    """The lineages of the wave are the first of the ``crowd``."""
    batches: dict[int, Batch] = {}
    met: dict[int, Whole] = {}
    states = wave.states
    for at, arrival in enumerate(wave.arrivals):
        if isinstance(arrival.record, Batch):
            batches[at] = arrival.record
            met[at] = _let_in(states[at], arrival.record, wave.times_ns[at])
    if not crowd.still(states):
        crowd = Crowd.of(states)
    crowd = crowd.first(len(states))
    if batches:
        taken = take(crowd, batches, met, wave.core.detection)
        judged.duplicates += sum(taken.duplicates.values())
        _judge_batches(crowd, taken, wave)
    passing = [
        at for at, arrival in enumerate(wave.arrivals)
        if at in batches or _judge_other(wave.bench(at), arrival.record)
    ]  # fmt: skip  # a condition a line
    crowd, summaries = _pass_time(crowd, passing, wave)
    judged.summaries += summaries
    return crowd


def _let_in(state: LineageState, batch: Batch, at_ns: int) -> Whole:
    """Who speaks; the rows of a batch's members in the state. ``at_ns``: the batch's time."""
    _enter(state, batch, at_ns)
    begin(state, state.now_ns)
    return state.members.met(batch.members, at_ns)


def _enter(state: LineageState, record: Batch | Sightings, at_ns: int) -> None:
    if not state.block_ns:
        state.scope, state.lineage, state.role = record.scope, record.lineage, record.role
        state.block_ns = at_ns
        state.minute_ns = at_ns - at_ns % MINUTE_NS
    state.now_ns = max(state.now_ns, at_ns)
    for member in record.members:
        if member.image not in state.images:
            meet_image(state, member.image, at_ns)


def _judge_batches(crowd: Crowd, taken: Taken, wave: _Wave) -> None:
    rows = taken.samples.rows
    if not len(rows):
        return
    detection, host = wave.core.detection, crowd.host[crowd.slot[rows]]
    forests, shadows = wave.forests, wave.shadows()
    scored = np.array([forest is not None for forest in forests])
    if scored.any() or any(shadow is not None for shadow in shadows):
        seen, of = deviations_of(crowd, taken, detection), taken.samples.runs.spread(host)
        surprise = _surprise(forests, seen, of)
        _tally(crowd, taken, surprise, shadows, _surprise(shadows, seen, of))
        felt = remembered(crowd.surprise[rows], surprise, taken)
        crowd.surprise[rows] = np.where(scored[host], felt, crowd.surprise[rows])
    weighed = weigh(crowd, taken.shared, detection)
    subjects = past_line(crowd, taken.shared, weighed, scored)
    onsets = {}
    if "onset" in detection.detectors:
        onsets = onset.judged(crowd, taken, forests, detection)
    for at in np.flatnonzero(np.bincount(host)).tolist():
        if at in subjects or at in onsets or wave.states[at].cases:
            bench, first = wave.bench(at), int(crowd.start[at])
            found = {row - first: one for row, one in onsets.get(at, {}).items()}
            who = [*subjects.get(at, ()), *(first + row for row in found)]
            named = [bench.state.members.who[row - first].subject for row in who]
            own = weighed_of(crowd, taken.shared, weighed, at)
            judge_members(replace(bench, onsets=found), named, own)


def _surprise(forests: Sequence[Forest | None], rows: Array, host: Whole) -> Array:
    """What the forests say of rows, each of a lineage's own: by one call a forest."""
    distinct = {id(forest): forest for forest in forests if forest is not None}
    if len(distinct) == 1 and None not in forests:
        (forest,) = distinct.values()
        return forest.surprise(rows)
    out = np.zeros(len(rows))
    for forest in distinct.values():
        mine = np.array([other is forest for other in forests])[host]
        out[mine] = forest.surprise(rows[mine])
    return out


def _tally(crowd: Crowd, taken: Taken, active: Array, shadows: Sequence[Forest | None],
           shadow: Array) -> None:  # fmt: skip  # two lines
    for at, slot in enumerate(taken.images.tolist()):
        beside = shadows[int(crowd.host[slot])]
        if beside is not None:
            mine = taken.samples_of(at)
            tally(crowd.images[slot], active[mine], shadow[mine], beside.trees.uid)


def _judge_other(bench: Bench, record: Batch | Sightings | Tick | Lesson) -> bool:
    """Judge what is no batch; whether time may have passed by it."""
    state, detection = bench.state, bench.detection
    if isinstance(record, Tick) and record.at_ns < state.due_ns:
        return False
    if isinstance(record, Lesson):
        hear(state, record)
    elif isinstance(record, Sightings):
        _enter(state, record, record.at_ns)
        begin(state, state.now_ns)
        touched = notice(state, record, detection)
        if touched:
            judge_members(bench, touched, {})
    else:
        state.now_ns = max(state.now_ns, record.at_ns)
        begin(state, state.now_ns)
        judge_members(bench, silent(state, detection), {})
    return True


def _pass_time(crowd: Crowd, passing: list[int], wave: _Wave) -> tuple[Crowd, list[Summary]]:
    """Close what is due of these states, then say when something is due next.

    The crowd may be another afterwards, which then holds the arrays of its states.
    """
    if not passing:
        return crowd, []
    detection, states = wave.core.detection, [wave.states[at] for at in passing]
    block_ends_ns = [block_end_ns(state, detection) for state in states]
    closing = [
        at for at, state, end_ns in zip(passing, states, block_ends_ns, strict=True)
        if state.now_ns >= end_ns
    ]  # fmt: skip  # a condition a line
    if closing:
        if not crowd.still(crowd.states):  # sightings may tell of somebody new
            crowd = Crowd.of(crowd.states)
        close_blocks(crowd, closing, detection)
        forget(crowd, closing, detection)
        block_ends_ns = [block_end_ns(state, detection) for state in states]
    summaries: list[Summary] = []
    for at, state in zip(passing, states, strict=True):
        if state.now_ns >= state.minute_ns + MINUTE_NS:
            forest = wave.forests[at]
            summaries += close_minute(state, detection, forest.trees.uid if forest else "")
    silences_ns = next_silence_ns(states, detection)
    for state, end_ns, silence_ns in zip(states, block_ends_ns, silences_ns, strict=True):
        state.due_ns = _due_ns(state, end_ns, silence_ns)
    return crowd, summaries


def _due_ns(state: LineageState, block_end_ns: int, silence_ns: int) -> int:
    due_ns = min(block_end_ns, state.minute_ns + MINUTE_NS, silence_ns, state.lessons.next_ns)
    if any(case.level > Level.QUIET.rank for case in state.cases.values()):
        return min(due_ns, state.now_ns + _LOOK_NS)
    return due_ns
