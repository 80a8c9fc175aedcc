"""May this worker still write? A session that the broker has ended must leave no trace.

Kafka fences offset commits of a member that it has thrown out, but not what that member
produces: a worker that slept past its session would write old rows over the next owner's.
So rows are written only while the last answered heartbeat is younger than the session and
the group's generation is still the one whose partitions we hold.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class LostSession(Exception):  # not a fault: the group went on without us
    """The group has moved on; what was to be written belongs to the next owner."""


class Coordinator(Protocol):
    """The part of aiokafka's group coordinator that is watched."""

    generation: int
    _do_heartbeat: Callable[[], Awaitable[bool]]
    _do_rejoin_group: Callable[[Any], Awaitable[bool]]


class Lease:
    """How long the broker certainly still counts this worker as a member.

    A heartbeat or a join renews from the moment it was *sent*, since the broker counts from
    its arrival, which is later.
    """

    def __init__(self, session_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._session_s = session_s
        self._monotonic = monotonic
        self._sent_s = float("-inf")
        self._coordinator: Coordinator | None = None

    def watch(self, coordinator: Coordinator) -> None:
        """Renew with each heartbeat and join that this coordinator gets answered."""
        beat, join = coordinator._do_heartbeat, coordinator._do_rejoin_group

        async def beat_watched() -> bool:
            return await self._renewed_by(beat())

        async def join_watched(subscription: Any) -> bool:
            return await self._renewed_by(join(subscription))

        coordinator._do_heartbeat = beat_watched
        coordinator._do_rejoin_group = join_watched
        self._coordinator = coordinator

    async def _renewed_by(self, request: Awaitable[bool]) -> bool:
        sent_s = self._monotonic()
        answered = await request
        if answered:
            self._sent_s = sent_s
        return answered

    def holds(self, generation: int) -> bool:
        """True while nobody else can have been given this generation's partitions."""
        current = self._coordinator is None or self._coordinator.generation == generation
        return current and self._monotonic() - self._sent_s < self._session_s

    def lost(self, generation: int) -> bool:
        """True once the group is known to have gone on; waiting longer is of no use."""
        return self._coordinator is not None and self._coordinator.generation != generation
