"""Ends a worker that stands still, so that whoever runs it starts it anew.

Faust workers can die without a word: a dead fetcher, a recovery that waits for a record
that never comes, a loop that some call blocks. A thread of its own looks from outside of
the loop, and ends the process when there is work and nothing moves.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import structlog

from models.health import State

log = structlog.get_logger(__name__)

EXIT_STUCK = 70
"""EX_SOFTWARE of sysexits.h."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the loop sees of itself: ``waiting`` says what is to be done, ``moved`` changes
    whenever anything makes progress; ``unready`` says why no events are taken, if none are.
    """

    waiting: str
    moved: Hashable
    unready: str = ""


def end_process(reason: str) -> None:
    """Say why on standard error and end at once: the loop may not run any more."""
    log.critical("worker ended by its watchdog", why=reason)
    sys.stderr.write(f"plimsoll: worker ended by its watchdog: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_STUCK)


class Watchdog:
    """Asks for a sight every ``every_s``; after ``patience_s`` without progress it bites."""

    def __init__(
        self,
        see: Callable[[], Sight],
        call_soon: Callable[[Callable[[], None]], object],
        *,
        patience_s: float,
        every_s: float = 1.0,
        end: Callable[[str], None] = end_process,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``call_soon`` runs a function inside the loop (``loop.call_soon_threadsafe``)."""
        self._see = see
        self._call_soon = call_soon
        self._patience_s = patience_s
        self._every_s = every_s
        self._end = end
        self._monotonic = monotonic
        self._sight: Sight | None = None
        self._seen_s = self._moved_s = monotonic()
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        before_s = self._monotonic()
        while not self._stopped.wait(self._every_s):
            now_s = self._monotonic()
            if now_s - before_s > self._patience_s / 2:  # we slept ourselves: the host did
                self._seen_s = self._moved_s = now_s
            before_s = now_s
            reason = self.complaint()
            if reason is not None:
                self._end(reason)
                return
            try:
                self._call_soon(self.look)
            except RuntimeError:  # the loop is closed: the worker is ending in good order
                return

    def look(self) -> None:
        """Run in the loop: note what is there and whether it moved."""
        sight, self._seen_s = self._see(), self._monotonic()
        if self._sight is None or sight.moved != self._sight.moved:
            self._moved_s = self._seen_s
        self._sight = sight

    def state(self) -> State:
        """For whoever asks from outside: after half of the patience it is not healthy."""
        waits = "it is starting" if self._sight is None else self._sight.unready
        return State(self._stands(self._patience_s / 2) or "", waits)

    def complaint(self) -> str | None:
        """Why the worker must end; None while all is well."""
        return self._stands(self._patience_s)

    def _stands(self, patience_s: float) -> str | None:
        now_s = self._monotonic()
        if now_s - self._seen_s > patience_s:
            return f"its event loop has not turned for {now_s - self._seen_s:.0f} s"
        if self._sight is not None and now_s - self._moved_s > patience_s:
            return f"no progress for {now_s - self._moved_s:.0f} s: {self._sight.waiting}"
        return None


def sight_of(app: Any) -> Sight:
    """What a worker should be getting on with, and the figures that change when it does.

    With work at hand mere polling is no progress; without, it is all there is to see.
    """
    consumer, recovery = app.consumer, app.tables.recovery
    waiting = _waiting_for(app)
    moved = (
        app.consumer_generation_id,
        sum(offset or 0 for offset in recovery.active_offsets.values()),
        tuple(sorted(consumer.due.items())),
        tuple(sorted((tp, at or 0) for tp, at in consumer._committed_offset.items())),
        None if waiting else consumer.polls,
    )
    return Sight(waiting or "its fetcher does not poll", moved, _unready(app))


def _unready(app: Any) -> str:
    """Why it takes no events just now. A standby, which has no partition, is ready."""
    if app.should_stop:
        return "it is stopping"
    if app.rebalancing or app.consumer_generation_id <= 0:
        return "its group shares out the partitions"
    if app.in_recovery or not app.consumer.flow_active:
        return "its tables are read back"
    return ""


def _waiting_for(app: Any) -> str | None:
    consumer = app.consumer
    if app.should_stop:
        return "it was told to stop and has not ended"
    if app.rebalancing or app.in_recovery:
        return "a rebalance or the recovery of its tables has not ended"
    if consumer._unacked_messages:
        return "its agent has not finished the batch that it took"
    if any(consumer._acked.values()):
        return "acknowledged offsets are not committed"
    behind = [tp for tp, due in consumer.due.items() if due < (consumer.highwater(tp) or 0)]
    if behind:
        return f"{len(behind)} partitions have unread records, first {behind[0]}"
    return None
