"""``async for events in stream.batches()``: what arrived together, acknowledged together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Final

import faust

MOST_EVENTS: Final = 500
MOST_BYTES: Final = 4 << 20


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
        self._finalized = True
        started = await self.maybe_start()
        consumer: Any = self.app.consumer
        try:
            while not self.should_stop:
                try:
                    events = await self._taken(most, most_bytes)
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
        app: Any = self.app
        channel: Any = self.channel
        queue = channel.queue
        event, events, size_bytes = await queue.get(), [], 0
        while True:
            message = event.message
            if app.flow_control.is_active() and message.generation_id == app.consumer_generation_id:
                events.append(event)
                size_bytes += len(message.value or b"")
            if len(events) >= most or size_bytes >= most_bytes or queue.empty():
                return events
            event = queue.get_nowait()

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
