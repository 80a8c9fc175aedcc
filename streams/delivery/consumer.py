"""The consumer: whole polls to the agents' queues, and a commit that is strict.

Stock Faust wraps every message into two tasks and several turns of the loop; here a poll
reaches the queue in one step. Stock commits offsets although outputs or changelog records
may still be on their way, and forgets what was acknowledged before it commits on a revoke;
here nothing is committed before it is durable, and a revoke commits first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import zip_longest
from typing import Any

import structlog
from aiokafka.errors import IllegalStateError
from faust.events import Event
from faust.transport.consumer import CONSUMER_FETCHING, ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock

from streams.delivery.continuity import Continuity
from streams.delivery.late import LateTable
from streams.delivery.lease import Lease, LostSession
from streams.delivery.outbox import Outbox
from streams.delivery.polling import LeanThread

log = structlog.get_logger(__name__)

_POLL_S = 1.0
_PARTED_S = 60.0
"""Who joins with less than the others leaves, or is found by whoever looks after the group."""


class PartedAssignment(Exception):  # reads as what happened
    """Partitions came without their changelogs, and it stayed so."""


class LeanConsumer(driver.Consumer):
    """Give ``transport.app`` these through ``LeanTransport``: outbox, continuity, waits."""

    transport: LeanTransport

    def __init__(self, transport: LeanTransport, *args: Any, **kwargs: Any) -> None:
        self.fetch_wait_ms = transport.fetch_wait_ms
        self.outbox: Outbox = transport.outbox
        self.continuity: Continuity = transport.continuity
        self.lease = Lease(transport.app.conf.broker_session_timeout)
        self.fetch_idle = asyncio.Event()
        self.fetch_idle.set()
        self.polls = 0
        self.due: dict[TP, int] = {}  # the offset to be handed over next, acknowledged topics
        self._rebalancing = False  # partitions were given up, the next are not known yet
        self._settling = asyncio.Lock()
        self._failed: Exception | None = None
        self._drops: dict[TP, Callable[[], None]] = {}  # the queue keeps callbacks in a set
        self._thrown_away: dict[TP, int] = {}
        self._asked_again: dict[TP, int] = {}
        super().__init__(transport, *args, **kwargs)

    def _new_consumer_thread(self) -> LeanThread:
        return LeanThread(self, loop=self.loop, beacon=self.beacon)

    # ---- commit: outputs durable, then state, then offsets ----------------------------------

    async def settle(self) -> None:
        """Wait for outputs, then write what the tables owe.

        What is owed is taken together with the outputs in one step of the loop, and agents
        send before they keep: the state written here never runs ahead of its outputs.

        Raises: LostSession, or what failed; nothing may be committed then, nor by the commit
        with which the worker ends.
        """
        async with self._settling:
            if self._failed is not None:
                raise self._failed
            generation = self.app.consumer_generation_id
            owed = [(table, table.take_owed(generation)) for table in self._late_tables()]
            may_write = partial(self._may_write, generation)
            try:
                await self.outbox.delivered()
                for table, rows in owed:
                    await table.write(rows, may_write)
            except BaseException:
                for table, rows in owed:
                    table.put_back(rows)
                raise

    def _late_tables(self) -> list[LateTable]:
        return [table for table in self.app.tables.values() if isinstance(table, LateTable)]

    async def _may_write(self, generation: int) -> None:
        """Wait while it is unsure whether the session still holds (a silent broker).

        Raises: LostSession once the group is known to have gone on.
        """
        while not self.lease.holds(generation):
            if self.lease.lost(generation):
                raise LostSession(
                    f"generation {generation} of group {self.app.conf.id} is over: "
                    "rows not written, the partitions' next owner reads the events again"
                )
            await asyncio.sleep(0.05)

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        generation = self.app.consumer_generation_id
        try:
            await self.settle()
        except LostSession as lost:
            log.warning("not committed", why=str(lost))
            return False
        except Exception as problem:  # noqa: BLE001  # whatever it was, these offsets stay uncommitted and the worker ends
            self._failed = problem
            log.critical(
                "outputs or state could not be written: nothing is committed, the worker ends "
                "and its events are read again",
                why=repr(problem),
            )
            await self.crash(problem)
            return False
        if self.app.consumer_generation_id != generation:
            return False  # what was not written by then is forgotten, and read again
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        return done

    async def verify_all_partitions_active(self) -> None:
        """Nothing. Stock warns here of partitions that stand still, and ends the worker when it
        meets one that was assigned a moment ago; the watchdog looks after both.
        """

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """End the loop body in progress and commit it while the partitions are still ours."""
        self._rebalancing = True
        if not self.app.should_stop and self.assignment():
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self.wait_empty()
        await super().on_partitions_revoked(revoked)

    def resume_flow(self) -> None:
        """Not from when partitions were given up until the next are known: a recovery that is
        overtaken by a rebalance may end all the same.
        """
        if not self._rebalancing:
            super().resume_flow()

    def rebalanced(self) -> None:
        """Who recovers from here on does so for the partitions that we have now."""
        self._rebalancing = False

    def highwater(self, tp: TP) -> int:
        """0 of a partition that has just been given up: the driver asserts that it is ours."""
        with contextlib.suppress(AssertionError, IllegalStateError):
            return super().highwater(tp) or 0
        return 0

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Not without the changelogs of the tables. A worker that is told to stop in its first
        second has not registered them, and stock joins the group all the same; then partitions
        are given to one and their changelogs to another (see :meth:`_parted`).
        """
        wanted = set(topics)
        if wanted >= {table.changelog_topic_name for table in self._late_tables()}:
            await super().subscribe(wanted)

    def _parted(self) -> set[int]:
        """Partitions that are read here while others have their changelog: what is known of them
        could not be read back, and they would begin anew.
        """
        ours, acknowledged = self.assignment(), self.app.topics.acks_enabled_for
        read = {tp.partition for tp in ours if acknowledged(tp.topic)}
        logs = [
            {tp.partition for tp in ours if tp.topic == table.changelog_topic_name}
            for table in self._late_tables()
        ]
        return set().union(*(read - kept for kept in logs))

    async def perform_seek(self) -> None:
        if parted := self._parted():
            log.error(
                "partitions were given to this worker and their changelogs to another: nothing "
                "is read until they are shared out anew; some member of the group subscribes to "
                "less than the others, as one that is stopped while it starts",
                partitions=sorted(parted),
            )  # fmt: skip  # one line of fields
            await asyncio.sleep(_PARTED_S)  # ended by the next rebalance
            raise PartedAssignment(
                f"partitions {sorted(parted)} were given to this worker without their changelogs, "
                f"and not shared out anew within {_PARTED_S:.0f} s: the worker ends"
            )
        # The tables are what the changelogs say: what else was acknowledged is read again.
        for index in (self._acked, self._acked_index, self._gap):
            index.clear()
        await super().perform_seek()
        ours, acknowledged = self.assignment(), self.app.topics.acks_enabled_for
        # Without a committed offset stock leaves a position where the last fetch put it.
        new = {tp for tp in ours if acknowledged(tp.topic) and not self._read_offset[tp]}
        if new:
            earliest = await self.earliest_offsets(*new)
            await self.seek_wait({tp: earliest[tp] or 0 for tp in new})
            self._read_offset.update({tp: earliest[tp] or 0 for tp in new})
        self._asked_again.clear()
        self.due = {
            ensure_TP(tp): at
            for tp, at in self._read_offset.items()
            if at is not None and tp in ours and acknowledged(tp.topic)
        }
        self.continuity.sought(self.due)
        log.info(
            "reading goes on", generation=self.app.consumer_generation_id,
            offsets={f"{tp.topic}[{tp.partition}]": at for tp, at in sorted(self.due.items())},
        )  # fmt: skip  # one line of fields
        for table in self._late_tables():
            table.began({(tp.topic, tp.partition): tp not in new for tp in self.due})

    def ack_many(self, messages: list[Any]) -> None:
        """Acknowledge a loop body's messages: Message.ack and Consumer.ack in one step.

        Those of an earlier generation do not count: the state that they led to is forgotten.
        """
        generation = self.app.consumer_generation_id
        with ack_lock:
            for message in messages:
                self._ack_one(message, generation)
            self._unacked_messages.discard(messages[-1])
            waiter = self._waiting_for_ack
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _ack_one(self, message: Any, generation: int) -> None:
        message.refcount = max(message.refcount - 1, 0)
        if message.acked or message.refcount:
            return
        message.acked = True
        if message.generation_id != generation:
            return
        tp, offset = message.tp, message.offset
        committed, index = self._committed_offset[tp], self._acked_index[tp]
        if (committed is None or offset >= committed) and offset not in index:
            index.add(offset)
            self._acked[tp].append(offset)
            self._n_acked += 1

    # ---- fetch ------------------------------------------------------------------------------

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's signature
        """As stock, but tells recovery when no fetch is under way.

        A flow that was resumed and stopped again wakes the fetcher all the same.
        """
        if not self.flow_active:
            return {}
        with self._fetching():
            await self._read_again()
            return await super()._getmany(active_partitions, timeout)

    @contextlib.contextmanager
    def _fetching(self) -> Iterator[None]:
        """Recovery seeks only when nobody is in here."""
        self.fetch_idle.clear()
        try:
            yield
        finally:
            self.fetch_idle.set()

    async def _read_again(self) -> None:
        """Go back to records that were thrown away *after* the seek that ended a rebalance."""
        thrown_away, self._thrown_away = self._thrown_away, {}
        for tp, first in thrown_away.items():
            with contextlib.suppress(IllegalStateError):  # no longer ours
                if tp in self.assignment() and (await self.position(tp) or 0) > first:
                    await self._seek(tp, first)

    async def _drain_messages(self, fetcher: Any) -> None:
        stopped, ended = self._stopped.is_set, fetcher._stopped.is_set
        try:
            while not (stopped() or ended()):
                await self._poll()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except Exception as problem:
            log.critical("the fetcher failed: the worker ends", why=repr(problem))
            await self.crash(problem)
            raise
        finally:
            self.diag.unset_flag(CONSUMER_FETCHING)

    async def _poll(self) -> None:
        """Fetch once, and hand over what came unless a rebalance has come between."""
        self.diag.set_flag(CONSUMER_FETCHING)
        records, active = await self._wait_next_records(_POLL_S)
        generation = self.app.consumer_generation_id
        self.polls += 1
        await asyncio.sleep(0)
        if records is None or self.should_stop:
            return
        arrived: dict[TP, list[Any]] = {}
        for raw_tp, batch in records.items():
            tp = ensure_TP(raw_tp)
            current = self.flow_active and self.app.consumer_generation_id == generation
            if current and (active is None or tp in active or tp in self._buffered_partitions):
                messages = await self._arrived(tp, batch, generation)
                if messages:
                    arrived[tp] = messages
            else:
                self._throw_away(tp, batch[0].offset)
        if arrived:
            left = {tp: messages[0].offset for tp, messages in arrived.items()}
            await self.wait_first(self._hand_over(arrived, left), self.suspend_flow.wait())
            for tp, first in left.items():  # the flow was suspended meanwhile
                self._throw_away(tp, first)
        self.diag.unset_flag(CONSUMER_FETCHING)

    def _throw_away(self, tp: TP, first: int) -> None:
        self._thrown_away[tp] = min(self._thrown_away.get(tp, first), first)

    async def _arrived(self, tp: TP, records: list[Any], generation: int) -> list[Any]:
        """What is to be handed over of a partition's records."""
        if await self._went_back(tp, records[0].offset):
            return []
        if self._commit_every is not None and self._n_acked >= self._commit_every:
            self._n_acked = 0
            await self.commit()
        return await self._messages(tp, records, generation)

    async def _hand_over(self, arrived: dict[TP, list[Any]], left: dict[TP, int]) -> None:
        """All of a poll to who reads it, each partition in turn; ``left`` is kept up with the
        first offset of each that has not been handed over.
        """
        conductor: Any = self.app.topics
        readers: dict[Any, list[list[Any]]] = {}
        for tp, messages in arrived.items():
            channels = conductor._tp_index.get(tp) or ()
            if len(channels) == 1:
                readers.setdefault(next(iter(channels)), []).append(messages)
            else:
                for message in messages:  # several agents on one topic: the stock way
                    await self.callback(message)
                    self._handed(message, arrived, left)
        for channel, lists in readers.items():
            turns = zip_longest(*lists)
            mixed = [message for turn in turns for message in turn if message is not None]
            await self._enqueue(mixed, channel, lambda one: self._handed(one, arrived, left))

    def _handed(self, message: Any, arrived: dict[TP, list[Any]], left: dict[TP, int]) -> None:
        tp = message.tp
        self._was_read(tp, message.offset)
        left[tp] = message.offset + 1
        if message is arrived[tp][-1]:
            del left[tp]

    async def _went_back(self, tp: TP, first: int) -> bool:
        """Ask again, once, for what should have come first; a hole in the log stays one."""
        due = self.due.get(tp)
        if due is None or first <= due or self._asked_again.get(tp) == due:
            return False
        self._asked_again[tp] = due
        log.info("reading again", topic=tp.topic, partition=tp.partition, due=due, came=first)
        with self._fetching(), contextlib.suppress(IllegalStateError):  # no longer ours
            await self._seek(tp, due)
        return True

    def _was_read(self, tp: TP, offset: int) -> None:
        self._read_offset[tp] = offset
        if self.app.topics.acks_enabled_for(tp.topic):
            self.due[tp] = offset + 1

    async def _messages(self, tp: TP, records: Iterable[Any], generation: int) -> list[Any]:
        """Messages from the read position on; holes in the log count as acknowledged."""
        at, messages = self._read_offset[tp], []
        acknowledged = self.app.topics.acks_enabled_for(tp.topic)
        for record in records:
            if at is not None and record.offset < at:
                continue
            if at is not None and record.offset - at > 1 and acknowledged:
                # Stock adds the record itself to the hole, which acknowledges it unread.
                await self._add_gap(tp, at + 1, record.offset - 1)
            message = self._to_message(tp, record)
            message.generation_id = generation
            messages.append(message)
            at = record.offset
        return messages

    async def _enqueue(
        self, messages: list[Any], channel: Any, handed: Callable[[Any], None]
    ) -> None:
        """Put all into the agent's queue, waiting for room where there is none. ``handed`` is
        told the last of each partition each time that some have been put.
        """
        app, queue = self.app, channel.queue
        await app.flow_control.acquire()
        await app.producer.buffer.wait_until_ebb()
        for message in messages:
            message.refcount += 1
        events = [Event(app, m.key, m.value, m.headers, m) for m in messages]
        first, generation = 0, messages[0].generation_id
        while first < len(events):
            if not self.flow_active or app.consumer_generation_id != generation:
                return  # a rebalance came between: positions are about to move
            room = queue.maxsize - queue.qsize() if queue.maxsize else len(events)
            if room <= 0:
                if not await _put(queue, events[first]):
                    return
                handed(messages[first])
                first += 1
                continue
            last = {message.tp: message for message in messages[first : first + room]}
            for tp in last:
                drop = self._drops.setdefault(tp, partial(self.on_buffer_drop, tp))
                if queue.in_pressure_high_state(drop):
                    self.on_buffer_full(tp)
            _put_many(queue, events[first : first + room])
            for message in last.values():
                handed(message)
            first += room


async def _put(queue: Any, event: Any) -> bool:
    """Wait for room. False when the queue was cleared meanwhile: that cancels its putters,
    so the put has to be a task of its own.
    """
    put = asyncio.ensure_future(queue.put(event))
    try:
        await asyncio.wait([put])
    except asyncio.CancelledError:  # the flow is suspended
        put.cancel()
        raise
    return not put.cancelled()


def _put_many(queue: Any, events: list[Any]) -> None:
    """FlowControlQueue.force_put_nowait for many."""
    queue._queue.extend(events)
    queue._unfinished_tasks += len(events)
    queue._finished.clear()
    queue._wakeup_next(queue._getters)


class LeanTransport(driver.Transport):
    """Makes lean consumers, and carries what they need."""

    Consumer = LeanConsumer

    def __init__(
        self, *args: Any, outbox: Outbox, continuity: Continuity, fetch_wait_ms: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.outbox = outbox
        self.continuity = continuity
        self.fetch_wait_ms = fetch_wait_ms
