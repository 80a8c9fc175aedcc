"""Frames, a host's containers each, become batches, an image's containers each. Pure.

Rows are never touched one by one: a frame's table is kept as it came, and all that wait
are put side by side, sorted by group once, and cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.contract import telemetry_key
from models.records.facts import Connection, Coverage, Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.samples import Samples
from models.records.telemetry import Batch, Member, Sightings
from producers.gather.inventory import (
    Group,
    Inventory,
    Name,
    Subject,
    host_entry,
    unknown_entry,
)
from producers.gather.ledger import Lot
from producers.gather.places import NOWHERE, Place
from producers.gather.watch import HostKey

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Layout = tuple[float, tuple[str, ...]]
"""Interval in seconds and features: only what shares both can lie side by side."""

MOST_HELD: Final = 50_000
"""Samples and observations that may wait for an inventory; more go out as unknown."""
MOST_STRANGERS: Final = 10_000
"""Containers remembered as unknown."""
MOST_SIGHTINGS: Final = 1_000
"""Observations in one record."""
MOST_VALUES: Final = 33_000
"""Values in one batch, a member taken for twenty: keeps it under a megabyte."""
MOST_BATCHES: Final = 16
"""Flushed when the rows of so many full batches wait, whatever their age."""


@dataclass(frozen=True, slots=True)
class Made:
    """One record for the telemetry topic, with its key and the name of its kind."""

    key: str
    kind: str
    record: Batch | Sightings


@dataclass(slots=True)
class _Table:
    """One frame's samples; ``numbers`` are its rows' subjects as the inventory counts."""

    numbers: Ints
    times_ns: Ints
    columns: Floats


@dataclass(slots=True)
class _Plan:
    """The numbers of a host's subjects, as long as neither they nor the inventory change.
    -1 stands for an unknown one.
    """

    subjects: tuple[str, ...]
    version: int
    numbers: Ints
    complete: bool


@dataclass(slots=True)
class _Held:
    """What waits for the inventory of one container: frames that hold nothing else."""

    until_ns: int
    parts: list[Frame] = field(default_factory=list)
    lots: dict[int, Lot] = field(default_factory=dict)


class Regrouper:
    """Takes frames in, hands batches and sightings out.

    ``batch_samples``: rows in a batch at most. ``unknown_wait_ns``: how long telemetry
    waits for the inventory of its container before it goes out under lineage "unknown".
    ``place_of``: where an address is.
    """

    def __init__(
        self, inventory: Inventory, batch_samples: int, unknown_wait_ns: int,
        place_of: Callable[[str], Place] = lambda _address: NOWHERE,
    ) -> None:  # fmt: skip  # one argument a line tells no more
        self.inventory = inventory
        self._place_of = place_of
        self.rows = 0
        self.held = 0
        self._most, self._wait_ns = batch_samples, unknown_wait_ns
        self._tables: dict[Layout, list[_Table]] = {}
        self._layouts: dict[HostKey, Layout] = {}
        self._sightings: dict[Group, list[tuple[Subject, Observation]]] = {}
        self._plans: dict[HostKey, _Plan] = {}
        self._held: dict[Name, _Held] = {}
        self._strangers: dict[Name, None] = {}
        self._spoken: set[HostKey] = set()
        self._settled: list[Lot] = []

    @property
    def full(self) -> bool:
        return self.rows >= self._most * MOST_BATCHES

    @property
    def pending(self) -> bool:
        return bool(self.rows or self._sightings)

    @property
    def spoken(self) -> int:
        """Hosts of which a frame is pending."""
        return len(self._spoken)

    def clashes(self, frame: Frame) -> bool:
        """Whether what is pending must go out first, to keep each container's order."""
        if not len(frame.samples):
            return False
        return self._layouts.get((frame.scope, frame.host), _layout(frame)) != _layout(frame)

    def learn(self, entry: InventoryEntry) -> bool:
        """Take one entry in, from a frame or from the topic; what waited for it goes on.

        False when it tells nothing new.
        """
        fresh = self.inventory.learn(entry)
        if fresh:
            self._strangers.pop((entry.scope, entry.subject), None)
            self._recall((entry.scope, entry.subject))
        return fresh

    def add(self, frame: Frame, now_ns: int, lot: Lot) -> None:
        """Take one frame in, its inventory being learned; ``lot`` is held for whatever has
        to wait.
        """
        self._spoken.add((frame.scope, frame.host))
        own = host_entry(frame.scope, frame.host, frame.pool, 0)
        if (frame.scope, own.subject) not in self.inventory.subjects:
            self.learn(own)
        if len(frame.samples):
            self._layouts[frame.scope, frame.host] = _layout(frame)
            self._add_samples(frame, now_ns, lot)
        for observation in frame.observations:
            subject = self.inventory.subjects.get((frame.scope, observation.subject))
            if subject is None:
                part = replace(frame, samples=Samples(), observations=(observation,), inventory=())
                self._hold(observation.subject, part, now_ns, lot)
            else:
                self._sight(frame, subject, observation)

    def observe(self, scope: str, host: str, pool: str, observation: Observation) -> None:
        """Add one observation about a host."""
        if (scope, observation.subject) not in self.inventory.subjects:
            self.inventory.learn(host_entry(scope, host, pool, 0))
        subject = self.inventory.subjects[scope, observation.subject]
        self._sightings.setdefault(subject.group, []).append((subject, observation))

    def give_up(self, now_ns: int) -> list[str]:
        """Stop waiting for inventories that are overdue; whose they are."""
        overdue = [name for name, held in self._held.items() if held.until_ns <= now_ns]
        if self.held > MOST_HELD:
            overdue = list(self._held)
        for name in overdue:
            self._become_unknown(name, now_ns)
        return [subject for _, subject in overdue]

    def flush(self) -> tuple[list[Made], list[Lot]]:
        """All that is pending; and the earlier lots that waited for some of it."""
        made = [*self._made_sightings(), *self._made_batches()]
        settled, self._settled = self._settled, []
        self._tables.clear()
        self._layouts.clear()
        self._sightings.clear()
        self._spoken.clear()
        self.rows = 0
        return made, settled

    # ---- samples ----------------------------------------------------------------------

    def _add_samples(self, frame: Frame, now_ns: int, lot: Lot) -> None:
        samples, plan = frame.samples, self._plan(frame)
        numbers, times_ns, columns = plan.numbers[samples.index], samples.times_ns, samples.columns
        if not plan.complete:
            self._hold_samples(frame, numbers, now_ns, lot)
            known = numbers >= 0
            numbers, times_ns, columns = numbers[known], times_ns[known], columns[:, known]
        self.rows += numbers.size
        self._tables.setdefault(_layout(frame), []).append(_Table(numbers, times_ns, columns))

    def _plan(self, frame: Frame) -> _Plan:
        """Which of its subjects stands where, remembered from frame to frame."""
        key, subjects, version = (frame.scope, frame.host), frame.samples.subjects, 0
        version, plan = self.inventory.version, self._plans.get(key)
        if plan is None or plan.version != version or plan.subjects != subjects:
            named = [self.inventory.subjects.get((frame.scope, one)) for one in subjects]
            numbers = np.array([-1 if one is None else one.number for one in named], np.int64)
            plan = _Plan(subjects, version, numbers, bool((numbers >= 0).all()))
            self._plans[key] = plan
        return plan

    def _hold_samples(self, frame: Frame, numbers: Ints, now_ns: int, lot: Lot) -> None:
        samples = frame.samples
        for at in np.unique(samples.index[numbers < 0]):
            rows = samples.index == at
            own = Samples(
                samples.features,
                (samples.subjects[at],),
                np.zeros(int(rows.sum()), np.int64),
                samples.times_ns[rows],
                np.ascontiguousarray(samples.columns[:, rows]),
            )
            part = replace(frame, samples=own, observations=(), inventory=())
            self._hold(samples.subjects[at], part, now_ns, lot)

    def _made_batches(self) -> Iterator[Made]:
        for (interval_s, features), tables in self._tables.items():
            numbers = np.concatenate([table.numbers for table in tables])
            times_ns = np.concatenate([table.times_ns for table in tables])
            columns = np.concatenate([table.columns for table in tables], axis=1)
            groups, codes = self._coded(numbers)
            order = np.argsort(codes, kind="stable")
            ends = np.cumsum(np.bincount(codes, minlength=len(groups)))
            most, start = min(self._most, MOST_VALUES // (len(features) + 20)), 0
            for group, end in zip(groups, ends.tolist(), strict=True):
                for first in range(start, end, most):
                    rows = order[first : min(end, first + most)]
                    members, samples = self._cut(
                        features, _Table(numbers[rows], times_ns[rows], columns[:, rows])
                    )
                    batch = Batch(*group, members, samples, interval_s)
                    yield Made(telemetry_key(*group), "batch", batch)
                start = end

    def _coded(self, numbers: Ints) -> tuple[list[Group], Ints]:
        """The groups of these subjects, and for each subject the number of its group."""
        distinct, inverse = np.unique(numbers, return_inverse=True)
        codes: dict[Group, int] = {}
        found = [
            codes.setdefault(self._subject(number).group, len(codes))
            for number in distinct.tolist()
        ]
        return list(codes), np.array(found, np.int64)[inverse]

    def _cut(self, features: tuple[str, ...], table: _Table) -> tuple[tuple[Member, ...], Samples]:
        """The samples of some rows of one group, and who their subjects are."""
        distinct, index = np.unique(table.numbers, return_inverse=True)
        members = tuple(self._subject(number).member for number in distinct.tolist())
        subjects = tuple(member.subject for member in members)
        return members, Samples(features, subjects, index, table.times_ns, table.columns)

    def _subject(self, number: int) -> Subject:
        found = self.inventory.by_number[number]
        assert found is not None, "forgotten only when nothing of it is pending"
        return found

    # ---- observations -----------------------------------------------------------------

    def _sight(self, frame: Frame, subject: Subject, observation: Observation) -> None:
        fact = observation.fact
        if isinstance(fact, Connection) and not fact.peer_lineage:
            lineage = self.inventory.peer_lineage(frame.scope, frame.host, fact.peer)
            place = NOWHERE if lineage else self._place_of(fact.peer)
            if lineage or place is not NOWHERE:
                named = _with_peer(fact, lineage, place)
                observation = Observation(observation.subject, observation.at_ns, named)
        self._sightings.setdefault(subject.group, []).append((subject, observation))

    def _made_sightings(self) -> Iterator[Made]:
        for group, sighted in self._sightings.items():
            for first in range(0, len(sighted), MOST_SIGHTINGS):
                part = sighted[first : first + MOST_SIGHTINGS]
                members = {subject.member.subject: subject.member for subject, _ in part}
                seen = tuple(observation for _, observation in part)
                record = Sightings(*group, tuple(members.values()), seen)
                yield Made(telemetry_key(*group), "sightings", record)

    # ---- waiting for inventories ------------------------------------------------------

    def _hold(self, subject: str, part: Frame, now_ns: int, lot: Lot) -> None:
        held = self._held.setdefault((part.scope, subject), _Held(now_ns + self._wait_ns))
        held.parts.append(part)
        self.held += len(part.samples) + len(part.observations)
        if id(lot) not in held.lots:
            held.lots[id(lot)] = lot
            lot.hold()

    def _recall(self, name: Name) -> None:
        """What waited for this container's inventory is pending from now on."""
        held = self._held.pop(name, None)
        if held is None:
            return
        subject = self.inventory.subjects[name]
        self._settled += held.lots.values()
        for part in held.parts:
            self.held -= len(part.samples) + len(part.observations)
            if len(part.samples):
                numbers = np.full(len(part.samples), subject.number, np.int64)
                table = _Table(numbers, part.samples.times_ns, part.samples.columns)
                self._tables.setdefault(_layout(part), []).append(table)
                self.rows += numbers.size
            for observation in part.observations:
                self._sight(part, subject, observation)

    def _become_unknown(self, name: Name, now_ns: int) -> None:
        part = self._held[name].parts[0]
        self.inventory.learn(unknown_entry(*name, part.host))
        self._recall(name)
        self._strangers[name] = None
        problem = Coverage("unknown-container", "no collector told of its image")
        subject = self.inventory.subjects[name]
        observation = Observation(name[1], now_ns, problem)
        self._sightings.setdefault(subject.group, []).append((subject, observation))

    def forget_strangers(self) -> None:
        """Keep the number of containers without inventory bounded; after a flush only."""
        while len(self._strangers) > MOST_STRANGERS:
            name = next(iter(self._strangers))
            del self._strangers[name]
            self.inventory.forget(name)


def _with_peer(fact: Connection, lineage: str, place: Place) -> Connection:
    """``dataclasses.replace`` would take four times as long, for nearly every observation."""
    return Connection(
        fact.direction,
        fact.peer,
        fact.port,
        fact.protocol,
        fact.sent_bytes,
        fact.received_bytes,
        fact.sent_packets,
        fact.received_packets,
        fact.opened,
        fact.answered,
        lineage,
        place.country,
        place.network,
    )


def _layout(frame: Frame) -> Layout:
    return frame.interval_s, frame.samples.features


def halved(made: Made) -> list[Made]:
    """A record that is too large for Kafka, as two; none of a single row or observation."""
    record = made.record
    many = len(record.samples if isinstance(record, Batch) else record.observations)
    if many < 2:
        return []
    parts = (slice(None, many // 2), slice(many // 2, None))
    return [Made(made.key, made.kind, _part(record, part)) for part in parts]


def _part(record: Batch | Sightings, part: slice) -> Batch | Sightings:
    if isinstance(record, Batch):
        return _rows(record, part)
    return _only(record, record.observations[part])


def _rows(record: Batch, part: slice) -> Batch:
    samples = record.samples
    distinct, index = np.unique(samples.index[part], return_inverse=True)
    members = tuple(record.members[at] for at in distinct.tolist())
    subjects = tuple(member.subject for member in members)
    columns = np.ascontiguousarray(samples.columns[:, part])
    rows = Samples(samples.features, subjects, index, samples.times_ns[part], columns)
    return replace(record, members=members, samples=rows)


def _only(record: Sightings, observations: tuple[Observation, ...]) -> Sightings:
    named = {observation.subject for observation in observations}
    members = tuple(member for member in record.members if member.subject in named)
    return replace(record, members=members, observations=observations)
