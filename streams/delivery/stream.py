"""``async for events in stream.batches()``: what arrived together, acknowledged together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

import faust
from aiokafka.errors import IllegalStateError
from faust.types import TP

from streams.delivery.merge import Merge

MOST_EVENTS: Final = 500
MOST_BYTES: Final = 4 << 20
_LOOK_S: Final = 0.02
"""Between two looks whether what is held back may go: about one fetch."""


class LeanStream(faust.Stream[Any]):
    """A stream for raw topics whose agent takes events by the batch.

    Acknowledged is a batch once its loop body has ended, in the step after. A body that
    raises acknowledges nothing, and ends the worker (see agent.StrictAgent): going on would
    let a later event of the same key pass the failed one in the state.
    """

    async def batches(
        self, most: int = MOST_EVENTS, most_bytes: int = MOST_BYTES
    ) -> AsyncIterator[list[Any]]:
        """Lists of events that are already here, oldest first, at most so many or so large."""
        async with aclosing(self._acknowledged(lambda: self._taken(most, most_bytes))) as taken:
            async for events in taken:
                yield events

    async def merged(
        self, rank: Mapping[str, int], most: int = MOST_EVENTS
    ) -> AsyncIterator[list[Any]]:
        """As ``batches``, but all partitions in the one order in which the log took them in
        (see merge.Merge; ``rank`` by topic). Also across restarts: what was not acknowledged
        comes again in the same order.
        """
        merge = Merge(rank)
        async with aclosing(self._acknowledged(lambda: self._merged(merge, most))) as taken:
            async for events in taken:
                yield events

    async def _acknowledged(
        self, take: Callable[[], Awaitable[list[Any]]]
    ) -> AsyncGenerator[list[Any]]:
        self._finalized = True
        started = await self.maybe_start()
        consumer: Any = self.app.consumer
        try:
            while not self.should_stop:
                try:
                    events = await take()
                except StopAsyncIteration:  # thrown into the queue when the stream is stopped
                    return
                if events:
                    messages = [event.message for event in events]
                    self._track(messages)
                    yield events
                    consumer.ack_many(messages)
        finally:
            self._channel_stop_iteration(self.channel)
            if started:
                await self.stop()
                self.service_reset()

    async def _taken(self, most: int, most_bytes: int) -> list[Any]:
        """Wait for one event, then take what else is here.

        Events of an earlier generation are passed over unacknowledged: the seek that ends
        the rebalance has them read again, by us or by the partition's next owner.
        """
        queue = self._queue
        event, events, size_bytes = await queue.get(), [], 0
        while True:
            if self._current(event):
                events.append(event)
                size_bytes += len(event.message.value or b"")
            if len(events) >= most or size_bytes >= most_bytes or queue.empty():
                return events
            event = queue.get_nowait()

    async def _merged(self, merge: Merge, most: int) -> list[Any]:
        """Wait until some events' turn has come; none where a rebalance came between."""
        queue = self._queue
        if not merge:
            merge.put(await queue.get())
        while not queue.empty():
            merge.put(queue.get_nowait())
        merge.keep(self._current)
        events = merge.ready(self._unread(), most)
        if merge and not events:
            await asyncio.sleep(_LOOK_S)
        return events

    @property
    def _queue(self) -> Any:
        channel: Any = self.channel
        return channel.queue

    def _current(self, event: Any) -> bool:
        app: Any = self.app
        current = event.message.generation_id == app.consumer_generation_id
        return bool(current and app.flow_control.is_active())

    def _unread(self) -> list[TP]:
        """Partitions of which the broker has, or may have, records that did not come yet."""
        consumer: Any = self.app.consumer
        return [tp for tp, due in consumer.due.items() if due < self._end_of(tp)]

    def _end_of(self, tp: TP) -> float:
        consumer: Any = self.app.consumer
        try:
            end: int | None = consumer.highwater(tp)
        except (AssertionError, IllegalStateError):  # a rebalance is taking it away
            return math.inf
        return math.inf if end is None else end  # None: not asked for yet

    def _track(self, messages: list[Any]) -> None:
        consumer: Any = self.app.consumer
        inbound, now = self.app.monitor.stream_inbound_time, monotonic()
        consumer._unacked_messages.add(messages[-1])  # stands for the batch in wait_empty()
        consumer.continuity.saw((message.tp, message.offset) for message in messages)
        for message in messages:
            message.tracked = True
            inbound[message.tp] = now
        self.events_total += len(messages)


def arrived_ns(event: Any) -> int:
    """When the log took the event in, ns UTC (milliseconds are what Kafka keeps)."""
    arrived_ms: float = event.message.timestamp * 1000
    return round(arrived_ms) * 1_000_000
