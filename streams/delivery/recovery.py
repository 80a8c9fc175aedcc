"""Table recovery that neither loses messages nor hangs.

Stock Faust 0.15.3, four faults met here (docs/faust.md has the traces):

1. Stream partitions are resumed before the seek to the committed offsets. What arrives
   between is cleared with the queues, and the hole is acknowledged: lost.
2. A fetch begun before the rebalance may return after the seek, while the flow is stopped.
   Its records are thrown away and the position stays past them: the recovery waits for
   them for ever, or ends without them.
3. A step that times out is taken for a stop of the worker: the recovery ends without a
   word, and the worker stands still for ever.
4. A rebalance that overtakes another one skips the bookkeeping of revoked partitions: when
   they come back, their changelog is read from the middle.

And one fault of speed: stock waits for each record of the changelog by itself, and asks after
each of them, over all partitions, whether it was the last.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery, ServiceStopped
from faust.types import TP

_LOOK_S: Final = 5.0
"""Between two looks whether nothing is left to be read (stock)."""


class RecoveryTimedOut(Exception):  # reads as what happened
    """The broker did not answer during recovery; the worker ends rather than guess."""


class PatientRecovery(Recovery):
    """Stock recovery, except that nothing is fetched while positions move."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        await self._still()  # super() resumes the flow after the seek
        await super().on_recovery_completed(generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        await self._still()
        await super()._resume_streams(generation_id)

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: Any, title: str) -> None:
        await self._still()  # the caller resumes the flow after the seek
        await super()._seek_offsets(consumer, tps, offsets, title)

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        for tp in revoked:
            self.revoke(tp)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        if generation_id == self._generation_id:  # else another one has overtaken it
            consumer: Any = self.app.consumer
            consumer.rebalanced()

    def _set_recovery_started(self) -> None:
        self.signal_recovery_end.clear()  # stock clears it with each record read, waited for or not
        super()._set_recovery_started()

    @Recovery.task
    async def _slurp_changelogs(self) -> None:
        """As stock, but everything that has come is taken in at once."""
        while not self.should_stop:
            self._take_in(await self._come())
            if self.in_recovery and not self.need_recovery():
                self.flush_buffers()
                self._set_recovery_ended()
                self.signal_recovery_end.set()
            if not self.tables.standbys_ready and not self.standby_remaining_total():
                self.tables.on_standbys_ready()

    async def _come(self) -> list[Any]:
        """Wait for the first record, then take all that lie there; none when none came."""
        queue = self.tables.changelog_queue
        try:
            events = [await asyncio.wait_for(queue.get(), _LOOK_S)]
        except TimeoutError:
            return []
        while not queue.empty():
            events.append(queue.get_nowait())
        return events

    def _take_in(self, events: list[Any]) -> None:
        """What is new of the partitions that are ours; rows in the order of the log."""
        for event in events:
            tp, offset = event.message.tp, event.message.offset
            offsets = self.active_offsets if tp in self.active_tps else self.standby_offsets
            known = tp in self.active_tps or tp in self.standby_tps
            seen = offsets.get(tp)
            if known and (seen is None or offset > seen):
                offsets[tp] = offset
                self.buffers[self.tp_to_table[tp]].append(event)
        self.flush_buffers()

    async def _still(self) -> None:
        """Stop the flow, and let the fetch under way end: it does within its second."""
        consumer: Any = self.app.consumer
        consumer.stop_flow()
        await consumer.fetch_idle.wait()

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109  # Faust's signature
        """As stock, but a step that did not end in time ends the worker."""
        try:
            await super()._wait(coro, timeout)
        except ServiceStopped:
            if self.should_stop:
                raise
            raise RecoveryTimedOut(
                f"the broker did not answer within {timeout} s while tables were read back: "
                "check that it is reachable; the worker ends and starts over"
            ) from None


class PatientTables(TableManager):
    """Give to ``faust.App(TableManager=...)``."""

    @property
    def recovery(self) -> PatientRecovery:
        if self._recovery is None:
            self._recovery = PatientRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast("PatientRecovery", self._recovery)
