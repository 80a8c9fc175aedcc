"""Rows: whatever write a crash falls on, the value is that of the marker's offset, whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.errors import MalformedRecord
from models.pipeline import Core
from models.state import pack as packed
from streams.delivery.late import Keeper, Row
from streams.table_format import Body, Marker, due_of, held
from streams.tables import WHOLE, Rows, Settlement, head_key
from tests.core.fleet import Lineage, Watch

SOURCES = ("telemetry", "control")
State = dict[str, int]


@dataclass
class Memory:
    """A table whose rows are a changelog's latest values, as after a recovery."""

    keeper: Keeper | None = None
    rows: dict[bytes, bytes] = field(default_factory=dict)
    partition_by_key: dict[bytes, int] = field(default_factory=dict)

    def write(self, row: Row) -> None:
        if row.value is None:
            self.rows.pop(row.key, None)
            self.partition_by_key.pop(row.key, None)
        else:
            self.rows[row.key] = row.value
            self.partition_by_key[row.key] = row.partition


def pack(state: State) -> dict[str, bytes]:
    return {name: b"%d" % count for name, count in state.items()}


def unpack(bodies: dict[str, bytes]) -> State:
    return {name: int(body) for name, body in bodies.items()}


def event(offset: int, topic: str = "telemetry", partition: int = 0) -> Any:
    return SimpleNamespace(message=SimpleNamespace(topic=topic, offset=offset, partition=partition))


def rows_on(memory: Memory, damaged: list[str] | None = None, held_bytes: int = 0) -> Rows[State]:
    seen = damaged if damaged is not None else []
    return Rows(memory, pack, unpack, SOURCES, room=lambda _name: held_bytes, damaged=seen.append)


def committed(rows: Rows[Any], memory: Memory, most_writes: int | None = None) -> bool:
    """Write what is owed, in order; stop as a crash would after ``most_writes``."""
    owed = rows.take_owed()
    writes = [row for phase in owed.phases for row in phase]
    for row in writes[:most_writes]:
        memory.write(row)
    if most_writes is not None and most_writes < len(writes):
        return False
    rows.settled(owed)
    return True


# ---- the property ---------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"]), st.integers(0, 3)),
    min_size=1,
    max_size=25,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), st.integers(1, 4)),
        st.tuples(st.just("commit"), st.none()),
        st.tuples(st.just("crash"), st.integers(0, 6)),
        st.tuples(st.just("rebalance"), st.none()),
    ),
    max_size=30,
)


def step(state: State | None, row: str, what: int) -> State | None:
    """Count an event in its row; 0 removes the row, and the group with its last row."""
    after = dict(state or {})
    if what == 0:
        after.pop(row, None)
        return after or None
    after[row] = after.get(row, 0) + what
    return after


def replay(log: list[tuple[str, str, int]], group: str, last: int) -> State | None:
    state: State | None = None
    for at_group, row, what in log[: last + 1]:
        if at_group == group:
            state = step(state, row, what)
    return state


class Worker:
    """Applies a log, commits and crashes, as a judge does; offsets count only after rows."""

    def __init__(self, log: list[tuple[str, str, int]], held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.log, self.memory, self.damaged = log, Memory(), list[str]()
        self.committed_offset, self.next_offset = 0, 0
        self.rows = rows_on(self.memory, self.damaged, held_bytes)

    def apply(self, count: int) -> None:
        batch = range(self.next_offset, min(self.next_offset + count, len(self.log)))
        states: dict[str, State | None] = {}
        last: dict[str, int] = {}
        for offset in batch:
            group, row, what = self.log[offset]
            if not self.rows.seen(event(offset), group):
                states[group] = step(states.get(group, self.rows.get(group)), row, what)
                last[group] = offset
        for group, state in states.items():
            if state is None:
                self.rows.drop(event(last[group]), group, last[group])
            else:
                self.rows.keep(event(last[group]), group, state, last[group])
        self.next_offset = max(self.next_offset, batch.stop)

    def commit(self, most_writes: int | None = None) -> None:
        if committed(self.rows, self.memory, most_writes):
            self.committed_offset = self.next_offset
        else:
            self.restart()

    def restart(self) -> None:
        self.rows = rows_on(self.memory, self.damaged, self.held_bytes)
        self.next_offset = self.committed_offset

    def check(self) -> None:
        for group in ("a", "b"):
            applied, found = self.rows.applied(group), self.rows.get(group)
            if not applied and self._dropped_ahead(group):
                continue  # it took its offsets along, before they were committed
            upto = applied.get(0, self.committed_offset - 1)
            assert found == replay(self.log, group, upto)

    def _dropped_ahead(self, group: str) -> bool:
        """Whether an event that is read again drops the group."""
        again = range(self.committed_offset, len(self.log))
        return any(replay(self.log, group, offset) is None for offset in again)


@settings(max_examples=400, deadline=None)
@given(EVENTS, STEPS, st.sampled_from([0, 1, 2, 100]))
def test_whatever_write_a_crash_falls_on_the_state_is_a_replay(
    log: list[tuple[str, str, int]], steps: list[tuple[str, int | None]], held_bytes: int
) -> None:
    """Half a value would judge a container by one baseline's mean and another's spread. Rows
    move into the marker and out of it as they shrink and grow.
    """
    worker = Worker(log, held_bytes)
    for act, argument in steps:
        if act == "apply":
            worker.apply(argument or 1)
        elif act == "commit":
            worker.commit()
        elif act == "crash":
            worker.commit(argument)
        else:
            worker.rows.forget(frozenset())
            worker.rows.recovered()
            worker.next_offset = worker.committed_offset
        worker.check()
    worker.apply(len(log))
    worker.commit()
    worker.restart()
    for group in ("a", "b"):
        assert worker.rows.get(group) == replay(log, group, len(log))
    assert worker.damaged == []
    assert not left_over(worker.memory)


class Sleepers:
    """Workers of one partition, one after the other. One that is suspended while it commits has
    records on their way, which reach the changelog whenever it wakes.
    """

    def __init__(self, log: list[tuple[str, str, int]], held_bytes: int) -> None:
        self.log, self.held_bytes = log, held_bytes
        self.changelog, self.on_their_way = list[Row](), list[list[Row]]()
        self.generation, self.committed_offset, self.reached = 0, 0, 0
        self.take_over()

    def take_over(self) -> None:
        """What LateTable.apply_changelog_batch reads back."""
        self.generation += 1
        self.worker = Worker(self.log, self.held_bytes)
        self.worker.committed_offset = self.committed_offset
        memory = self.worker.memory
        for row in self.changelog:
            old = memory.rows.get(row.key)
            if row.value is None or old is None or self.worker.rows.newer(old, row.value):
                memory.write(row)
        self.worker.restart()

    def commit(self, durable: int | None = None) -> None:
        """Of a worker that is suspended the phase that it is in is on its way, and no other.
        Its successor is not before it has committed what was under way.
        """
        rows, left = self.worker.rows, durable if self.committed_offset >= self.reached else None
        owed = rows.take_owed(self.generation)
        for phase in owed.phases:
            arrived = phase[:left]
            self.changelog += arrived
            if len(arrived) < len(phase):
                self.on_their_way.append(list(phase[len(arrived) :]))
                self.reached = self.worker.next_offset
                self.take_over()
                return
            left = None if left is None else left - len(arrived)
            for row in phase:
                self.worker.memory.write(row)
        rows.settled(owed)
        self.committed_offset = self.worker.next_offset

    def wake(self) -> None:
        if self.on_their_way:
            self.changelog += self.on_their_way.pop(0)


NAPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), st.integers(1, 6)),
        st.tuples(st.just("commit"), st.none()),
        st.tuples(st.just("sleep"), st.integers(0, 6)),
        st.tuples(st.just("wake"), st.none()),
    ),
    max_size=30,
)
LASTING = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"]), st.integers(1, 3)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=400, deadline=None)
@given(LASTING, NAPS, st.sampled_from([0, 1, 2, 100]))
@example(
    log=[("a", "x", 1), ("a", "x", 1), ("a", "y", 1)],
    naps=[("apply", 1), ("commit", None), ("apply", 2), ("sleep", 0),
          ("apply", 1), ("commit", None), ("wake", None)],
    held_bytes=0,
)  # fmt: skip  # the first worker, and its successor
def test_what_a_suspended_worker_had_under_way_harms_no_successor(
    log: list[tuple[str, str, int]], naps: list[tuple[str, int | None]], held_bytes: int
) -> None:
    """Its rows may be of later events than its successor has come to."""
    sleepers = Sleepers(log, held_bytes)
    for act, argument in naps:
        if act == "apply":
            sleepers.worker.apply(argument or 1)
        elif act == "wake":
            sleepers.wake()
        else:
            sleepers.commit(argument)
    while sleepers.on_their_way:
        sleepers.wake()
    sleepers.worker.apply(len(log))
    sleepers.commit()
    sleepers.take_over()

    for group in ("a", "b"):
        assert sleepers.worker.rows.get(group) == replay(log, group, len(log))


def test_where_generations_begin_anew_two_workers_still_write_different_versions() -> None:
    """A group that was deleted counts from 1 again, what it wrote is of higher generations: of
    two rows of one version nobody could tell which the marker means.
    """
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1), "g", {"x": 1}, 1)
    for row in (row for phase in rows.take_owed(500).phases for row in phase):
        memory.write(row)

    versions = []
    for last in (5, 9):  # one is suspended, the other has come further
        worker = rows_on(memory)
        worker.keep(event(last), "g", {"x": last}, last)
        (written, *_), *_ = worker.take_owed(1).phases
        versions.append(Body.decode(bytes(written.value or b"")).version)

    assert versions[0] < versions[1]
    assert all(version >> 44 == 500 for version in versions)


def left_over(memory: Memory) -> set[bytes]:
    """Rows that no marker names."""
    named = set()
    for key, value in memory.rows.items():
        if key.startswith(b"m|"):
            named |= {key, *(b"%b|%b" % (n.encode(), key[2:]) for n in Marker.decode(value).wanted)}
    return memory.rows.keys() - named


# ---- one by one -----------------------------------------------------------------------------


def test_only_rows_that_changed_are_written() -> None:
    """A baseline of forty rows must not cost forty records when one container moved."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1), "g", {"x": 1, "y": 1}, 1)
    committed(rows, memory)

    rows.keep(event(2), "g", {"x": 1, "y": 2}, 2)
    written = [row.key for phase in rows.take_owed().phases for row in phase]

    assert written == [b"y|g", b"m|g"]


def test_the_marker_is_written_after_all_rows_and_deletions_after_it() -> None:
    """Earlier, a reader would miss rows that the marker still wants."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1), "g", {"x": 1, "y": 1}, 1)
    committed(rows, memory)

    rows.keep(event(2), "g", {"x": 2}, 2)
    phases = rows.take_owed().phases

    assert [[row.key for row in phase] for phase in phases] == [[b"x|g"], [b"m|g"], [b"y|g"]]
    assert phases[2][0].value is None


def test_an_event_that_comes_again_is_known_for_each_source_apart() -> None:
    """A governor reads three topics whose offsets have nothing to do with each other."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(7), "g", {"x": 1}, 7)
    rows.keep(event(3, "control"), "g", {"x": 2}, 3)
    committed(rows, memory)

    again = rows_on(memory)

    assert again.seen(event(7), "g")
    assert again.seen(event(3, "control"), "g")
    assert not again.seen(event(4, "control"), "g")
    assert again.applied("g") == {0: 7, 1: 3}


def test_a_failed_commit_owes_the_same_again() -> None:
    """The worker may recover before it ends; nothing of what it knew may be forgotten."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1), "g", {"x": 1}, 1)

    first = rows.take_owed()
    rows.put_back(first)

    assert rows.take_owed() == first


def test_a_value_that_cannot_be_packed_stays_owed() -> None:
    """Forgotten after one failure, its offset would be committed without it."""
    broken = [True]

    def pack_unless(state: State) -> dict[str, bytes]:
        if broken:
            raise ValueError("not packed")
        return pack(state)

    rows: Rows[State] = Rows(Memory(), pack_unless, unpack, SOURCES)
    rows.keep(event(1), "g", {"x": 1}, 1)
    with pytest.raises(ValueError, match="not packed"):
        rows.take_owed()
    broken.clear()

    assert rows.take_owed().groups == ("g",)


def test_values_kept_while_a_commit_is_under_way_go_with_the_next() -> None:
    """Otherwise the last batch before a pause would never be durable."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1), "g", {"x": 1}, 1)
    owed = rows.take_owed()
    rows.keep(event(2), "g", {"x": 2}, 2)
    for phase in owed.phases:
        for row in phase:
            memory.write(row)
    rows.settled(owed)

    committed(rows, memory)

    assert rows_on(memory).get("g") == {"x": 2}


def test_a_row_of_a_worker_that_came_too_late_does_not_win() -> None:
    """A worker that slept past its session may write before it notices."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(5), "g", {"x": 5}, 5)
    late = rows.take_owed()
    rows.keep(event(9), "g", {"x": 9}, 9)
    now = rows.take_owed()

    for old, new in zip(late.phases[:2], now.phases[:2], strict=True):
        assert not rows.newer(bytes(new[0].value or b""), bytes(old[0].value or b""))
        assert rows.newer(bytes(old[0].value or b""), bytes(new[0].value or b""))


def test_rows_that_do_not_belong_together_start_the_group_anew_and_say_so() -> None:
    """A mixture of two writers' rows is worse than none."""
    memory, damaged = Memory(), list[str]()
    rows = rows_on(memory)
    rows.keep(event(5), "g", {"x": 5}, 5)
    committed(rows, memory)
    memory.rows[b"x|g"] = Body(99, b"1").encode()

    again = rows_on(memory, damaged)

    assert again.get("g") is None
    assert damaged == ["g"]


def test_a_row_of_a_newer_release_stops_the_worker() -> None:
    """Taken for damage, a newer release's state would be overwritten."""
    memory = Memory(rows={b"m|g": b"\x04" + bytes(40)}, partition_by_key={b"m|g": 0})

    with pytest.raises(MalformedRecord, match="newer release"):
        rows_on(memory).get("g")


def test_groups_of_one_partition_are_found() -> None:
    """A tick concerns every group of its partition, those read back included."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1, partition=0), "g", {"x": 1}, 1)
    rows.keep(event(1, partition=3), "h", {"x": 1}, 1)
    committed(rows, memory)

    again = rows_on(memory)
    again.keep(event(2, partition=3), "i", {"x": 1}, 2)

    assert sorted(again.groups(3)) == ["h", "i"]
    assert list(again.groups(0)) == ["g"]


def test_a_group_of_small_rows_is_one_record() -> None:
    """A hundred thousand images that cost four records each are four hundred thousand."""
    memory = Memory()
    rows = rows_on(memory, held_bytes=2)
    rows.keep(event(1), "g", {"x": 1, "y": 2, "z": 3}, 1)
    committed(rows, memory)

    assert memory.rows.keys() == {b"m|g", b"z|g"}
    assert rows_on(memory).get("g") == {"x": 1, "y": 2, "z": 3}


def test_rows_that_a_release_before_wrote_apart_move_into_the_marker() -> None:
    """An upgrade must neither forget nor leave the old rows behind."""
    memory = Memory()
    rows = rows_on(memory)
    rows.keep(event(1), "g", {"x": 1, "y": 2}, 1)
    committed(rows, memory)

    again = rows_on(memory, held_bytes=100)
    again.keep(event(2), "g", {"x": 1, "y": 3}, 2)
    committed(again, memory)

    assert memory.rows.keys() == {b"m|g"}
    assert rows_on(memory).get("g") == {"x": 1, "y": 3}


def test_a_tick_finds_those_who_are_due_without_unpacking_the_others() -> None:
    """Unpacking a hundred thousand states with every tick would stop the worker for good."""
    memory, opened = Memory(), list[State]()

    def unpack_counted(bodies: dict[str, bytes]) -> State:
        opened.append(unpack(bodies))
        return opened[-1]

    def with_due() -> Rows[State]:
        return Rows(
            memory, pack, unpack_counted, SOURCES, due=lambda s: s["due"], room=lambda _n: 9
        )

    rows = with_due()
    for group, due_ns in (("soon", 5), ("later", 50)):
        rows.keep(event(1), group, {"due": due_ns}, 1)
    committed(rows, memory)

    again = with_due()

    assert list(again.due(0, 10)) == ["soon"]
    assert opened == [{"due": 5}]
    again.keep(event(2), "soon", {"due": 60}, 2)
    assert list(again.due(0, 10)) == []
    again.forget(frozenset())
    assert list(again.due(0, 10)) == ["soon"]  # what was not committed is read again


def test_no_more_values_stay_unpacked_than_there_is_room_for() -> None:
    """A worker of very many images would run out of memory; what is owed must stay."""
    memory, opened = Memory(), list[State]()

    def unpack_counted(bodies: dict[str, bytes]) -> State:
        opened.append(unpack(bodies))
        return opened[-1]

    rows: Rows[State] = Rows(memory, pack, unpack_counted, SOURCES, most_live=1)
    for group in ("a", "b", "c"):
        rows.keep(event(1), group, {"x": 1}, 1)
    owed = rows.take_owed()
    rows.keep(event(2), "a", {"x": 2}, 2)
    for row in (row for phase in owed.phases for row in phase):
        memory.write(row)
    rows.settled(owed)

    assert [rows.get("a"), opened] == [{"x": 2}, []]
    assert [rows.get("b"), opened] == [{"x": 1}, [{"x": 1}]]


def test_a_row_too_large_for_the_changelog_is_refused_by_name() -> None:
    """The broker would refuse it without telling whose it is."""
    rows: Rows[bytes] = Rows(Memory(), lambda s: {"big": s}, lambda b: b["big"], SOURCES)
    rows.keep(event(1), "g", bytes(2_000_000), 1)

    with pytest.raises(MalformedRecord, match="row 'big' of group g"):
        rows.take_owed()


def test_nothing_is_owed_when_nothing_changed() -> None:
    """An idle worker must not write."""
    assert rows_on(Memory()).take_owed() == Settlement((), (), ((), (), ()))


@given(st.integers(0, 2**63), st.binary(max_size=50), st.integers(0, 2**63), st.binary(max_size=50))
def test_a_row_is_read_as_it_was_written(
    version: int, current: bytes, previous_version: int, previous: bytes
) -> None:
    """Every later release opens these bytes."""
    body = Body(version, current, previous_version, previous)

    assert Body.decode(body.encode()) == body


@given(
    st.integers(0, 2**63),
    st.dictionaries(st.integers(0, 255), st.integers(0, 2**63)),
    st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 2**63)),
    st.integers(0, 2**63),
    st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=50)),
)
def test_a_marker_is_read_as_it_was_written(
    version: int, offsets: dict[int, int], wanted: dict[str, int], due_ns: int,
    rows: dict[str, bytes],
) -> None:  # fmt: skip  # two lines
    """Every later release opens these bytes."""
    marker = Marker(version, offsets, wanted, due_ns, held(rows))

    assert Marker.decode(marker.encode()) == marker
    assert marker.rows() == rows
    assert due_of(marker.encode()) == due_ns


def test_rows_that_cannot_be_unpacked_are_named_as_such() -> None:
    """Whatever lies there, it must not end the worker with a trace that nobody can read."""
    with pytest.raises(MalformedRecord, match="rows that a marker holds"):
        Marker(1, {}, {}, held=b"no such thing").rows()


def test_bytes_of_this_release_stay_readable() -> None:
    """A release that cannot open these loses every baseline that was learned."""
    body = Body(9, b"now", 7, b"before")
    marker = Marker(9, {0: 8}, {"b": 9})

    assert body.encode() == bytes.fromhex(
        "01 0000000000000009 0000000000000007 00000003 6e6f77 6265666f7265"
    )
    assert marker.encode() == bytes.fromhex(
        "01 0000000000000009 01 0001 00 0000000000000008 01 0000000000000009 62"
    )


HEAD = "0000000000000009010001000000000000000500000000000000000801000000000000000962"
UNPRIMED = (
    "78016364606050c8a9562a53b232d4514a4b4d2c292d4a2d56b28a564a2e288d4fce0771626b9981aa4492f5"
    "0d2ab0000071c015ac"
)
PRIMED = "783fe871373f6364606050c8c15f5ac4d63203558924eb1b5460010071c015ac"


@pytest.mark.parametrize("written", [f"02{HEAD}{UNPRIMED}", f"03{HEAD}{PRIMED}"])
def test_rows_that_markers_hold_stay_readable(written: str) -> None:
    """Words that were packed with and are gone, or others now, would make all of them garbage."""
    marker = Marker.decode(bytes.fromhex(written))

    assert marker.rows() == {"l": b'{"v":1,"features":["cpu_cores"]}', "c/0": b"x" * 20}
    assert marker.encode() == bytes.fromhex(written)
    with pytest.raises(MalformedRecord, match="rows that a marker holds"):
        Marker.decode(bytes.fromhex(written)[:-6]).rows()


def test_a_small_lineage_takes_little_room() -> None:
    """Of a hundred thousand images each has its row in the memory of a worker."""
    lineage, watch = Lineage("web", 1, 5.0), Watch(Core())
    del lineage.pods[1:]
    watch.run([lineage], 900)
    (state,) = watch.states.values()

    assert len(Marker(1, {}, {}, 1, held(packed(state))).encode()) < 4_500


# ---- a changelog that is gone -----------------------------------------------------------------


def test_a_partition_that_was_read_and_has_no_head_is_cold_until_it_is_rebuilt() -> None:
    """Also for those who recover it later, when it has rows again; what was never read is not."""
    memory = Memory()
    rows = rows_on(memory)
    rows.began({("telemetry", 0): False, ("telemetry", 1): True, ("elsewhere", 2): True})
    rows.keep(event(5, partition=1), "a", {"x": 1}, 5)
    assert [rows.cold(partition) for partition in range(3)] == [False, True, False]
    committed(rows, memory)

    again = rows_on(memory)
    again.began({("telemetry", 0): True, ("telemetry", 1): True})
    assert [again.cold(partition) for partition in range(2)] == [False, True]
    assert again.get("a") == {"x": 1}

    memory.write(Row(1, head_key(1), Body(2, WHOLE).encode()))
    assert not rows_on(memory).cold(1)


def test_a_head_is_written_before_the_first_offset_is_committed() -> None:
    """A crash between the two leaves a head too many, never one too few."""
    memory = Memory()
    rows = rows_on(memory)
    rows.began({("telemetry", 3): False})

    first, *_ = rows.take_owed().phases

    assert first == (Row(3, head_key(3), Body(1, WHOLE).encode()),)
