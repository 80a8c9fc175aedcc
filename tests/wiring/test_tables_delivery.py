"""The parts of delivery that need no broker: continuity, lease, watchdog, outbox, rejects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.consumer.fetcher import FetchError
from aiokafka.errors import KafkaError
from faust.types import TP, Message
from mode.utils.queues import FlowControlQueue

from models.errors import ConfigurationError, MalformedRecord
from models.health import State
from models.records.codec import decode
from models.records.rejected import DeadLetter
from streams.delivery.app import Delivery, make_app, make_table
from streams.delivery.consumer import LeanConsumer
from streams.delivery.continuity import Continuity, Gap
from streams.delivery.figures import Figures, Looks
from streams.delivery.lease import Lease
from streams.delivery.outbox import Outbox
from streams.delivery.recovery import PatientTables
from streams.delivery.rejected import Rejects
from streams.delivery.watchdog import Sight, Watchdog

ONE = TP("telemetry", 1)


# ---- continuity -----------------------------------------------------------------------------


def gaps_of(*offsets: int, sought: int | None = None) -> list[Gap]:
    found: list[Gap] = []
    continuity = Continuity(found.append)
    if sought is not None:
        continuity.sought({ONE: sought})
    continuity.saw((ONE, offset) for offset in offsets)
    return found


def test_a_skipped_offset_is_named() -> None:
    """Lost silently, it would never be missed."""
    assert gaps_of(5, 6, 9) == [Gap("telemetry", 1, 7, 8)]


def test_records_missing_after_a_rebalance_are_named() -> None:
    """That is where Faust loses them: between the committed offset and the first one read."""
    assert gaps_of(13, sought=10) == [Gap("telemetry", 1, 10, 12)]


def test_what_is_read_again_is_no_gap() -> None:
    """Every restart reads again; an alarm that always rings is heard by nobody."""
    assert gaps_of(5, 6, 7, 5, 6, 7, 8, sought=5) == []


def test_without_a_committed_offset_the_first_record_is_taken_as_it_comes() -> None:
    """A topic whose oldest records have expired begins anywhere."""
    assert gaps_of(1000, 1001) == []


# ---- lease ----------------------------------------------------------------------------------


class Coordinator:
    """Answers heartbeats as told; the part of aiokafka's that the lease watches."""

    def __init__(self) -> None:
        self.generation = 3
        self.answers = True
        self._do_heartbeat: Callable[[], Awaitable[bool]] = self._answer
        self._do_rejoin_group: Callable[[Any], Awaitable[bool]] = self._rejoin

    async def _answer(self) -> bool:
        return self.answers

    async def _rejoin(self, _subscription: Any) -> bool:
        return self.answers


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now_s=100.0)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def lease(clock: SimpleNamespace, coordinator: Coordinator) -> Lease:
    lease = Lease(session_s=10.0, monotonic=lambda: float(clock.now_s))
    lease.watch(coordinator)
    return lease


def test_a_lease_holds_for_one_session_after_an_answered_heartbeat(
    lease: Lease, clock: SimpleNamespace, coordinator: Coordinator
) -> None:
    """After that the broker may have given the partitions to another worker."""
    assert not lease.holds(3)
    asyncio.run(_awaited(coordinator._do_heartbeat()))

    clock.now_s += 9.9
    assert lease.holds(3)
    clock.now_s += 0.1
    assert not lease.holds(3)


def test_an_unanswered_heartbeat_renews_nothing(lease: Lease, coordinator: Coordinator) -> None:
    """The worker that the broker no longer knows is the one that must not write."""
    coordinator.answers = False
    asyncio.run(_awaited(coordinator._do_heartbeat()))

    assert not lease.holds(3)


def test_a_lease_is_lost_with_its_generation(lease: Lease, coordinator: Coordinator) -> None:
    """Between two rebalances, others may have held our partitions."""
    asyncio.run(_awaited(coordinator._do_rejoin_group(None)))
    assert lease.holds(3)

    coordinator.generation = 5

    assert not lease.holds(3)
    assert lease.lost(3)


async def _awaited(one: Awaitable[bool]) -> bool:
    return await one


# ---- watchdog -------------------------------------------------------------------------------


def dog(clock: SimpleNamespace, sights: list[Sight]) -> Watchdog:
    return Watchdog(
        lambda: sights[-1],
        lambda look: look(),
        patience_s=5.0,
        monotonic=lambda: float(clock.now_s),
    )


def test_a_worker_that_moves_is_left_alone(clock: SimpleNamespace) -> None:
    """A long backlog is work, not a fault."""
    sights = [Sight("unread records", 0)]
    watchdog = dog(clock, sights)

    for moved in range(20):
        clock.now_s += 2
        sights.append(Sight("unread records", moved))
        watchdog.look()
        assert watchdog.complaint() is None


def test_a_worker_whose_figures_stand_still_is_complained_of(clock: SimpleNamespace) -> None:
    """The complaint says what it waited for, since the process ends with it."""
    watchdog = dog(clock, [Sight("unread records", 7)])
    for _ in range(4):
        watchdog.look()
        clock.now_s += 2

    assert watchdog.complaint() == "no progress for 8 s: unread records"


def test_a_loop_that_does_not_turn_is_complained_of(clock: SimpleNamespace) -> None:
    """A blocked loop cannot say so itself."""
    watchdog = dog(clock, [Sight("unread records", 7)])
    watchdog.look()
    clock.now_s += 6

    assert watchdog.complaint() == "its event loop has not turned for 6 s"


def test_it_is_called_unhealthy_before_it_is_ended(clock: SimpleNamespace) -> None:
    """Whoever asks from outside must not have to wait for the end."""
    watchdog = dog(clock, [Sight("unread records", 7, "its tables are read back")])
    assert watchdog.state() == State(waits="it is starting")
    watchdog.look()
    assert watchdog.state() == State(waits="its tables are read back")

    clock.now_s += 3

    assert watchdog.complaint() is None
    assert watchdog.state().stands == "its event loop has not turned for 3 s"


# ---- figures --------------------------------------------------------------------------------


def test_figures_tell_lag_queues_the_age_of_a_commit_and_a_recovery(
    clock: SimpleNamespace,
) -> None:
    """What is on call is told by these; wrong, they are worse than none."""
    consumer = SimpleNamespace(
        due={ONE: 7, TP("telemetry", 2): 3}, highwater=lambda tp: 10 if tp == ONE else None,
        _acked={ONE: [7]}, _committed_offset={ONE: 5}, _unacked_messages={1, 2},
        outbox=SimpleNamespace(owed=4),
    )  # fmt: skip  # as the consumer has them
    told: list[Figures] = []
    recovered: list[float] = []
    looks = Looks(
        SimpleNamespace(consumer=consumer), told.append, recovered.append, lambda: clock.now_s
    )
    for unready in (True, True, False, False):
        clock.now_s += 2
        looks.look(unready=unready)
    assert recovered == [6]
    assert told[-1] == Figures({"telemetry": 3}, 6.0, 2, 4)

    consumer._committed_offset = {ONE: 8}
    looks.look(unready=False)
    assert told[-1].commit_age_s == 0.0


# ---- outbox, rejects ------------------------------------------------------------------------


class Producer:
    """Hands out futures that the test answers: a broker that takes its time."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.answers: list[asyncio.Future[None]] = []

    async def send(self, *record: Any) -> asyncio.Future[None]:
        self.sent.append(record)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


def outbox_on(producer: Producer) -> Outbox:
    app: Any = SimpleNamespace(producer=producer)
    return Outbox(app)


def test_nothing_counts_as_delivered_before_the_broker_has_it() -> None:
    """An offset committed earlier would be a verdict lost."""

    async def scene() -> None:
        producer = Producer()
        outbox = outbox_on(producer)
        await outbox.send("verdicts", b"k", b"v")
        waiting = asyncio.ensure_future(outbox.delivered())
        await asyncio.sleep(0)
        assert not waiting.done()
        producer.answers[0].set_result(None)
        await waiting

    asyncio.run(scene())


def test_a_record_that_could_not_be_sent_fails_every_later_commit() -> None:
    """Forgotten after one failure, it would be passed over by the next commit."""

    async def scene() -> None:
        producer = Producer()
        outbox = outbox_on(producer)
        await outbox.send("verdicts", b"k", b"v")
        producer.answers[0].set_exception(ConnectionError("gone"))
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await outbox.delivered()

    asyncio.run(scene())


def test_a_dead_letter_tells_where_the_record_lay_and_why_it_was_refused() -> None:
    """Someone has to find the collector that sent it."""

    def refuse(_value: bytes) -> bytes:
        raise MalformedRecord("mistyped", "expected a number", "samples[3]")

    async def scene() -> tuple[bytes | None, tuple[Any, ...]]:
        producer = Producer()
        message = SimpleNamespace(
            topic="telemetry", partition=2, offset=41, key=b"k", value=b"{}", timestamp=1.5e9
        )
        rejects = Rejects(outbox_on(producer), "rejected", by="judge")
        used = await rejects.decoded(SimpleNamespace(message=message), refuse)
        return used, producer.sent[0]

    used, (topic, key, value, *_) = asyncio.run(scene())
    letter = decode(DeadLetter, value)

    assert used is None
    assert (topic, key) == ("rejected", b"k")
    assert (letter.topic, letter.partition, letter.offset) == ("telemetry", 2, 41)
    assert (letter.fault, letter.place, letter.kept) == ("mistyped", "samples[3]", b"{}")
    assert letter.at_ns == 1_500_000_000 * 10**9


# ---- app ------------------------------------------------------------------------------------


def test_times_that_cannot_work_together_are_refused() -> None:
    """Below the broker's session minimum a worker idles without a word."""
    with pytest.raises(ConfigurationError, match="session_timeout_s"):
        make_app("g", Delivery("localhost:9092", session_timeout_s=3.0, heartbeat_s=2.0))


def test_a_partition_assigned_a_moment_ago_does_not_end_the_worker() -> None:
    """Stock looks at the position of every partition now and then, known or not."""
    consumer = SimpleNamespace(assignment=lambda: pytest.fail("looked at its partitions"))
    asyncio.run(LeanConsumer.verify_all_partitions_active(cast("LeanConsumer", consumer)))


def test_a_worker_leaves_nothing_where_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its working directory may be read-only, and is nobody's data directory."""
    monkeypatch.chdir(tmp_path)
    make_app("plimsoll-test", Delivery("127.0.0.1:1"))._create_directories()
    assert list(tmp_path.iterdir()) == []


# ---- rebalances: what is forgotten of the state is forgotten of the offsets -------------------


@contextmanager
def consumer_of(generation: int) -> Iterator[tuple[Any, Any]]:
    """An app and its consumer, neither started; inside of a loop."""
    app: Any = make_app("plimsoll-test", Delivery("127.0.0.1:1"))
    app.finalize()
    app.consumer_generation_id = generation
    try:
        yield app, app.consumer
    finally:
        app.consumer._thread.thread_loop.close()


def message_of(generation: int, offset: int) -> Any:
    message = record_of(ONE, offset)
    message.generation_id = generation
    return message


def record_of(tp: TP, offset: int) -> Any:
    return Message(tp.topic, tp.partition, offset, 0.0, 0, [], b"", b"", None, 0, 0, tp=tp)


async def nothing(*_: Any) -> None: ...


def test_what_is_acknowledged_counts_in_its_own_generation_only() -> None:
    """The state that it led to was forgotten with the rebalance: committed, it would be lost."""

    async def acknowledged() -> list[int | None]:
        with consumer_of(7) as (_, consumer):
            consumer.ack_many([message_of(6, offset) for offset in range(3)])
            before = consumer._new_offset(ONE)
            consumer.ack_many([message_of(7, offset) for offset in range(2)])
            return [before, consumer._new_offset(ONE)]

    assert asyncio.run(acknowledged()) == [None, 2]


def test_a_recovery_that_is_overtaken_by_a_rebalance_resumes_nothing() -> None:
    """What came then would be judged by a table that is still read back."""

    async def flows() -> list[bool]:
        with consumer_of(6) as (_, consumer):
            consumer._on_partitions_revoked, consumer.assignment = nothing, set
            await consumer.on_partitions_revoked({ONE})
            consumer.stop_flow()
            consumer.resume_flow()
            between = consumer.flow_active
            consumer.rebalanced()
            consumer.resume_flow()
            return [between, consumer.flow_active]

    assert asyncio.run(flows()) == [False, True]


def test_a_commit_that_lasts_into_a_rebalance_commits_nothing() -> None:
    """What it would have written was forgotten meanwhile."""

    async def committed() -> bool:
        with consumer_of(6) as (app, consumer):
            consumer.assignment = lambda: pytest.fail("went on to commit")
            under_way = asyncio.get_running_loop().create_future()
            consumer.outbox._owed = [under_way]
            committing = asyncio.ensure_future(consumer._commit_offsets({ONE: 5}))
            await asyncio.sleep(0)  # until it waits for its outputs
            app.consumer_generation_id = 7
            under_way.set_result(None)
            return bool(await committing)

    assert not asyncio.run(committed())


def test_what_a_stopped_flow_left_of_a_poll_is_read_again_partition_by_partition() -> None:
    """A full queue holds up a poll in its middle; a rebalance that comes then neither loses
    the rest nor has all of it judged twice.
    """

    class Channel:
        queue: Any

    async def left() -> tuple[dict[TP, int], list[tuple[int, int]]]:
        with consumer_of(7) as (app, consumer):
            places, channel = [TP("telemetry", at) for at in range(3)], Channel()
            channel.queue = FlowControlQueue(maxsize=5, flow_control=app.flow_control)
            app.topics._tp_index = {tp: {channel} for tp in places}
            records = {tp: [record_of(tp, offset) for offset in range(10, 14)] for tp in places}
            records[places[2]] = records[places[2]][:1]

            async def come(_timeout_s: float) -> Any:
                return records, set(places)

            consumer._wait_next_records = come
            consumer._to_message = lambda _tp, record: record
            app.flow_control.resume()
            consumer.resume_flow()
            polling = asyncio.ensure_future(consumer._poll())
            while not channel.queue.full() and not polling.done():  # noqa: ASYNC110  # a queue has no event for it
                await asyncio.sleep(0)
            consumer.stop_flow()
            await polling
            handed = [(one.message.partition, one.message.offset) for one in channel.queue._queue]
            return consumer._thrown_away, handed

    thrown_away, handed = asyncio.run(left())

    assert handed == [(0, 10), (1, 10), (2, 10), (0, 11), (1, 11)]
    assert thrown_away == {TP("telemetry", 0): 12, TP("telemetry", 1): 12}


def test_an_error_among_the_partitions_of_a_poll_is_left_to_stock() -> None:
    """It raises there, with its own words; records that arrived beside it stay for the next."""
    arrived = {ONE: FetchError(error=KafkaError("no such offset"), backoff=0.0)}

    async def polled() -> Any:
        with consumer_of(7) as (_, consumer):
            return await consumer._thread._widely(SimpleNamespace(_records=arrived), {ONE}, 10)

    assert asyncio.run(polled()) == {}
    assert list(arrived) == [ONE]


# ---- recovery -------------------------------------------------------------------------------


def test_a_table_is_read_back_in_bulk_each_partition_in_its_order() -> None:
    """Waiting for each of a hundred thousand rows by itself takes most of a start."""
    app = make_app("plimsoll-test", Delivery("127.0.0.1:1"))
    table = make_table(app, "rows", 2)
    places = [TP(table.changelog_topic_name, part) for part in range(2)]
    tables = cast("PatientTables", app.tables)
    recovery = tables.recovery
    recovery.active_tps.update(places)
    recovery.tp_to_table.update(dict.fromkeys(places, table))
    recovery.active_highwaters.update(dict.fromkeys(places, 6))
    recovery.active_offsets.update({places[0]: 1, places[1]: -1})

    def row(part: int, offset: int, value: bytes | None) -> Any:
        place = TP("of another topic", 0) if part < 0 else places[part]
        return SimpleNamespace(message=SimpleNamespace(
            tp=place, partition=part, offset=offset, key=b"k%d" % part, value=value,
        ))  # fmt: skip  # one call

    events = [row(0, 1, b"known"), row(0, 2, b"a"), row(0, 3, b"b"), row(-1, 9, b"x"),
              row(1, 5, b"c"), row(1, 6, None), row(0, 6, b"d")]  # fmt: skip  # two lines

    async def come() -> list[Any]:
        for event in events:
            tables.changelog_queue.force_put_nowait(event)
        return await recovery._come()

    came = asyncio.run(come())
    recovery._take_in(came[:-1])
    assert recovery.need_recovery()
    recovery._take_in(came[-1:])

    assert came == events
    assert table.rows == {b"k0": b"d"}
    assert not recovery.need_recovery()


def test_the_signal_that_ends_a_recovery_is_of_this_one() -> None:
    """A signal left over from the recovery before would end this one half read."""
    app = make_app("plimsoll-test", Delivery("127.0.0.1:1"))
    recovery = cast("PatientTables", app.tables).recovery
    recovery.signal_recovery_end.set()

    recovery._set_recovery_started()

    assert not recovery.signal_recovery_end.is_set()
