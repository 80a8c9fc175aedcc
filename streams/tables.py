"""Group values in the one table: torn writes are finished on redelivery.

A group (a telemetry key, an incident book) is a value of many rows, and its changelog is
written row by row. A crash between two rows must not leave half of a value, so each row
holds its current *and* its previous body, with the versions of both, and one marker row a
group, written after all others are durable, says which version of each row counts:

1. changed rows are written (current = new body, previous = what counts until now);
2. the marker is written: from here on the new version counts, whole;
3. rows that the value has no more are deleted.

Until 2 is done every reader takes the previous bodies, and the marker's offsets have the
same events applied again. Versions only grow, first with the generation of the consumer group,
then with the offsets applied: what a worker has under way while it is suspended, and what
arrives once its partitions have a new owner, is older than all that the new owner wrote, however
much further it was, and holds as its previous body what the new owner began with.

Rows that are small, or change with every event, lie in the marker itself: a group that has no
others is one record, which no crash can tear. Keys are ``<row>|<group>``, the marker's
``m|<group>``; the bytes are those of table_format.py.

Each partition has a head, ``!|<partition>``, written before its first offset is committed.
Where offsets were committed and the head is missing, the changelog was lost: the partition is
*cold*, and stays so through restarts, until `plimsoll rebuild` has filled it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from models.errors import MalformedRecord
from streams.delivery.late import Keeper, Row
from streams.table_format import Body, Marker, due_of, held, version_of

log = structlog.get_logger(__name__)

S = TypeVar("S")

MARKER: Final = "m"
HEAD: Final = "!"
WHOLE: Final = b"whole"
COLD: Final = b"cold"
MOST_BODY_BYTES: Final = 1_900_000
"""Two of these fit into the largest changelog record."""
MOST_LIVE: Final = 40_000
"""Values that are kept unpacked; one of a single container takes some 40 KB so, and 4 KB
packed. Unpacking takes two to four times as long as judging a sample."""
_NONE: Final[frozenset[str]] = frozenset()
_OFFSET_BITS: Final = 44
"""Of a version's 64 bits; the generation lies above them. 100,000 records a second and partition
fill them in five years; from then on a version is one more than the one before.
"""
_MOST_GENERATIONS: Final = (1 << 19) - 1


class TableRows(Protocol):
    """What is needed of streams.delivery.late.LateTable."""

    keeper: Keeper | None

    @property
    def rows(self) -> dict[bytes, bytes]: ...
    @property
    def partition_by_key(self) -> dict[bytes, int]: ...


@dataclass(slots=True)
class _Live(Generic[S]):
    """A group as agents see it; ``state`` None is a group that was dropped."""

    state: S | None
    offsets: dict[int, int]
    partition: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one commit writes, and for which groups."""

    groups: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    phases: tuple[tuple[Row, ...], ...] = ()


@dataclass(slots=True)
class _Phases:
    rows: list[Row] = field(default_factory=list)
    markers: list[Row] = field(default_factory=list)
    deletes: list[Row] = field(default_factory=list)

    def frozen(self) -> tuple[tuple[Row, ...], ...]:
        return (tuple(self.rows), tuple(self.markers), tuple(self.deletes))


class Rows(Generic[S]):
    """Values by group, kept in one table; it fills the table's changelog at each commit.

    ``pack`` gives a value's rows by name, ``unpack`` the value of these rows; a state is
    never changed in place. ``sources`` are the topics whose offsets are kept, in an order
    that must stay: only append. ``due`` tells when a value has to be told the time, 0 always.
    A row lies in its group's marker where those there come to no more bytes with it than
    ``room`` says of its name: a row apart is written with its previous body, twice its size,
    one in the marker whenever anything of the group is.
    """

    def __init__(
        self,
        table: TableRows,
        pack: Callable[[S], Mapping[str, bytes]],
        unpack: Callable[[dict[str, bytes]], S],
        sources: Sequence[str],
        *,
        due: Callable[[S], int] = lambda _state: 0,
        room: Callable[[str], int] = lambda _name: 0,
        most_live: int = MOST_LIVE,
        damaged: Callable[[str], None] = lambda _group: None,
        when_lost: str = "",
    ) -> None:
        """``damaged`` counts groups that had to start anew (a late writer's doing);
        ``when_lost`` is what to do about a changelog that is gone.
        """
        self._table = table
        self._pack = pack
        self._unpack = unpack
        self._sources = {topic: index for index, topic in enumerate(sources)}
        self._when, self._room, self._most_live = due, room, most_live
        self._damaged, self._when_lost = damaged, when_lost
        self._live: dict[str, _Live[S]] = {}
        self._changed: set[str] = set()
        self._names: dict[str, frozenset[str]] = {}
        self._due: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._orphans: set[str] = set()
        self._heads: dict[int, bytes] = {}
        table.keeper = self
        self.recovered()

    # ---- for agents -------------------------------------------------------------------------

    def get(self, group: str) -> S | None:
        """The group's value, None when there is none."""
        live = self._alive(group)
        return live.state if live is not None else None

    def applied(self, group: str) -> Mapping[int, int]:
        """The last offset applied, by source index; empty for an unknown group."""
        live = self._alive(group)
        return live.offsets if live is not None else {}

    def seen(self, event: Any, group: str) -> bool:
        """True for an event that is in the group's value already: it came again."""
        source = self._sources[event.message.topic]
        offset: int = event.message.offset
        return offset <= self.applied(group).get(source, -1)

    def keep(self, event: Any, group: str, state: S, offset: int) -> None:
        """The group's new value after all events up to ``offset`` of the event's topic.

        Once for a group and batch, after the outputs were sent. Raises: KeyError for
        an event of a topic that is not among the sources.
        """
        self._set(event, group, state, offset)

    def drop(self, event: Any, group: str, offset: int) -> None:
        """The group is gone; its rows are deleted with the next commit."""
        self._set(event, group, None, offset)

    def groups(self, partition: int) -> Iterator[str]:
        """Every group of one partition, in no order."""
        return self.due(partition, None)

    def due(self, partition: int, at_ns: int | None) -> Iterator[str]:
        """Those groups of a partition whose time has come; None: all."""
        for group, due_ns in list(self._due[partition].items()):
            if (at_ns is None or due_ns <= at_ns) and self.get(group) is not None:
                yield group

    # ---- partitions -------------------------------------------------------------------------

    def cold(self, partition: int) -> bool:
        """Whether what was known of a partition is lost, and not rebuilt yet."""
        head = self.head(partition)
        said = self._heads.get(partition) if head is None else head.current
        return said == COLD

    def head(self, partition: int) -> Body | None:
        """What the changelog says of a partition as a whole."""
        value = self._table.rows.get(head_key(partition))
        return Body.decode(value) if value is not None else None

    def began(self, read: Mapping[tuple[str, int], bool]) -> None:
        """The table is what the changelog says, and reading goes on: for each partition,
        whether events of it were committed before.
        """
        ours = {place: was for place, was in read.items() if place[0] in self._sources}
        for partition in sorted({partition for _, partition in ours}):
            if head_key(partition) in self._table.rows:
                if self.cold(partition):
                    self._tell_cold(partition)
                continue
            lost = any(was for (_, other), was in ours.items() if other == partition)
            self._heads[partition] = COLD if lost else WHOLE
            if lost:
                self._tell_cold(partition)

    def _tell_cold(self, partition: int) -> None:
        log.critical(
            "a partition is cold: its events were read before, but its changelog is gone, and "
            "with it what was known; find out what deleted it",
            partition=partition, todo=self._when_lost,
        )  # fmt: skip  # one line of fields

    def _set(self, event: Any, group: str, state: S | None, offset: int) -> None:
        message = event.message
        source, offsets = self._sources[message.topic], dict(self.applied(group))
        offsets[source] = max(offset, offsets.get(source, -1))
        self._put(group, _Live(state, offsets, message.partition))
        self._changed.add(group)

    def _put(self, group: str, live: _Live[S]) -> None:
        self._live.pop(group, None)  # the last that was touched is the last to go
        self._live[group] = live
        if live.state is None:
            self._due[live.partition].pop(group, None)
        else:
            self._due[live.partition][group] = self._when(live.state)

    # ---- reading ----------------------------------------------------------------------------

    def _alive(self, group: str) -> _Live[S] | None:
        live = self._live.get(group)
        if live is None:
            live = self._read(group)
            if live is not None:
                self._put(group, live)
        return live

    def _read(self, group: str) -> _Live[S] | None:
        marker = self._marker(group)
        if marker is None:
            return None
        bodies: dict[str, bytes | None] = dict(marker.rows())
        bodies |= {name: self._wanted(group, name, marker) for name in marker.wanted}
        whole = {name: body for name, body in bodies.items() if body is not None}
        if len(whole) < len(bodies):
            self._damaged(group)
            log.error(
                "a group's rows do not belong together, it starts anew: a worker wrote after "
                "it had lost its partitions; look for hosts that slept or clocks that jumped",
                group=group, rows=sorted(bodies.keys() - whole.keys()),
            )  # fmt: skip  # one line of fields
            return None
        partition = self._table.partition_by_key[_key(MARKER, group)]
        return _Live(self._unpack(whole), dict(marker.offsets), partition)

    def _marker(self, group: str) -> Marker | None:
        value = self._table.rows.get(_key(MARKER, group))
        return Marker.decode(value) if value is not None else None

    def _wanted(self, group: str, name: str, marker: Marker | None) -> bytes | None:
        """The body of a row that counts, None where there is none."""
        value = self._table.rows.get(_key(name, group))
        if value is None or marker is None or name not in marker.wanted:
            return None
        return Body.decode(value).at(marker.wanted[name])

    # ---- for the table ----------------------------------------------------------------------

    def take_owed(self, generation: int = 0) -> Settlement:
        """What the next commit must write; the groups count as unchanged from here on.
        ``generation`` is the consumer group's, 0 where there is no group.
        """
        phases = _Phases()
        for partition, said in self._heads.items():
            if head_key(partition) not in self._table.rows:
                phases.rows.append(Row(partition, head_key(partition), Body(1, said).encode()))
        groups, orphans = tuple(sorted(self._changed)), tuple(sorted(self._orphans))
        for group in groups:
            self._owe(group, self._live[group], generation, phases)
        for group in orphans:
            if group not in self._live:
                self._delete(group, self._names.get(group, _NONE), phases)
        self._changed, self._orphans = set(), set()  # not earlier: packing may raise
        return Settlement(groups, orphans, phases.frozen())

    def _owe(self, group: str, live: _Live[S], generation: int, phases: _Phases) -> None:
        old = self._marker(group)
        bodies = dict(self._pack(live.state)) if live.state is not None else {}
        if live.state is None:
            if old is not None:
                phases.markers.append(Row(live.partition, _key(MARKER, group), None))
        else:
            version = self._next_version(group, live, old, generation)
            marker = self._owe_rows(group, live, bodies, old, version, phases)
            phases.markers.append(Row(live.partition, _key(MARKER, group), marker.encode()))
            bodies = {name: body for name, body in bodies.items() if name in marker.wanted}
        self._delete(group, self._names.get(group, _NONE) - bodies.keys(), phases, live.partition)

    def _owe_rows(
        self, group: str, live: _Live[S], bodies: dict[str, bytes], old: Marker | None,
        version: int, phases: _Phases,
    ) -> Marker:  # fmt: skip  # two lines say as much
        wanted, inside, size = {}, {}, 0
        for name, body in bodies.items():
            _check(group, name, body)
            if size + len(body) <= self._room(name):
                inside[name], size = body, size + len(body)
                continue
            counts = self._wanted(group, name, old)
            if old is not None and counts == body:
                wanted[name] = old.wanted[name]
                continue
            wanted[name] = version
            row = Body(version, body)
            if old is not None and counts is not None:
                row = Body(version, body, old.wanted[name], counts)
            phases.rows.append(Row(live.partition, _key(name, group), row.encode()))
        due_ns = self._when(live.state) if live.state is not None else 0
        return Marker(version, live.offsets, wanted, due_ns, held(inside))

    def _next_version(
        self, group: str, live: _Live[S], old: Marker | None, generation: int
    ) -> int:  # fmt: skip  # it is one thought
        """Grows with the generation, with the offsets, and past every row that a torn write
        has left. Where a group's generations begin anew (it was deleted, the cluster is
        another) those that are known already count on.
        """
        names = self._names.get(group, _NONE)
        rows = (self._table.rows.get(_key(name, group)) for name in names)
        left = ((version_of(value) or 0) + 1 for value in rows if value is not None)
        least = max(1, old.version + 1 if old is not None else 1, *left)
        era = max(min(generation, _MOST_GENERATIONS), least >> _OFFSET_BITS)
        offsets = sum(offset + 1 for offset in live.offsets.values()) % (1 << _OFFSET_BITS)
        return max((era << _OFFSET_BITS) + offsets, least)

    def _delete(
        self, group: str, names: AbstractSet[str], phases: _Phases, partition: int | None = None
    ) -> None:
        for name in sorted(names):
            key = _key(name, group)
            at = self._table.partition_by_key.get(key, partition)
            if at is not None and key in self._table.rows:
                phases.deletes.append(Row(at, key, None))

    def settled(self, owed: Settlement) -> None:
        """All phases are durable, and in the table."""
        for group in (*owed.groups, *owed.orphans):
            marker = self._marker(group)
            if marker is not None:
                self._names[group] = frozenset(marker.wanted) or _NONE
                continue
            self._names.pop(group, None)
            if group not in self._changed:
                self._live.pop(group, None)
        self._let_go()

    def _let_go(self) -> None:
        """Keep no more values unpacked than there is room for; what is owed stays."""
        surplus = len(self._live) - self._most_live
        if surplus > 0:
            idle = (group for group in self._live if group not in self._changed)
            for group in list(itertools.islice(idle, surplus)):
                del self._live[group]

    def put_back(self, owed: Settlement) -> None:
        """The commit failed: what was owed still is."""
        self._changed |= {group for group in owed.groups if group in self._live}
        self._orphans |= set(owed.orphans)
        self._index()

    def forget(self, _keep: frozenset[int]) -> None:
        """A rebalance: what was not committed is read again, the rest is in the table."""
        self._live.clear()
        self._changed.clear()
        self._orphans.clear()
        self._heads.clear()
        self._index()

    def recovered(self) -> None:
        """The table is what the changelog says; rows without a marker are left-overs."""
        self.forget(frozenset())
        rows = self._table.rows
        self._orphans = {group for group in self._names if _key(MARKER, group) not in rows}

    def _index(self) -> None:
        """Who is there, of which rows, and due when."""
        names: defaultdict[str, set[str]] = defaultdict(set)
        self._names, self._due = {}, defaultdict(dict)
        for key, value in self._table.rows.items():
            name, _, group = key.decode().partition("|")
            if name == HEAD:
                continue
            if name == MARKER:
                self._names[group] = _NONE
                self._due[self._table.partition_by_key[key]][group] = due_of(value)
            else:
                names[group].add(name)
        self._names |= {group: frozenset(rows) for group, rows in names.items()}
        for group, live in list(self._live.items()):
            self._put(group, live)

    def newer(self, old: bytes, new: bytes) -> bool:
        """False when ``new`` tells of an earlier version: a late writer's row."""
        before, after = version_of(old), version_of(new)
        return before is None or after is None or after >= before  # unknown: the log's order


def _key(name: str, group: str) -> bytes:
    return f"{name}|{group}".encode()


def head_key(partition: int) -> bytes:
    return _key(HEAD, str(partition))


def _check(group: str, name: str, body: bytes) -> None:
    if name in (MARKER, HEAD) or "|" in name or not 0 < len(name.encode()) < 256:
        raise ValueError(f"row name {name!r} of group {group}: short, without '|', not 'm' or '!'")
    if len(body) > MOST_BODY_BYTES:
        raise MalformedRecord(
            "oversized",
            f"row {name!r} of group {group} has {len(body)} bytes, at most {MOST_BODY_BYTES}: "
            "split it into several rows",
        )
