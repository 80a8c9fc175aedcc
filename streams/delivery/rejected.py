"""Dead letters: what cannot be used is kept with its reason, and its neighbours go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from models.errors import Fault, MalformedRecord
from models.records.codec import encode
from models.records.rejected import dead_letter
from streams.delivery.outbox import Outbox
from streams.delivery.stream import arrived_ns

log = structlog.get_logger(__name__)

R = TypeVar("R")


class Rejects:
    """Writes one dead letter for each record that an agent cannot use.

    The next commit waits for it. If the broker does not take it the commit fails, and the
    worker ends: the record is then read again, never passed over.
    """

    def __init__(
        self,
        outbox: Outbox,
        topic: str,
        *,
        by: str,
        counted: Callable[[Fault], None] = lambda _fault: None,
    ) -> None:
        """``topic`` takes the letters, ``by`` is who rejects; ``counted`` counts by fault."""
        self._outbox = outbox
        self._topic = topic
        self._by = by
        self._counted = counted

    async def send(self, event: Any, fault: Fault, reason: str, place: str = "") -> None:
        """Keep the event as a dead letter under its own key; its time is its arrival's."""
        source = event.message
        letter = dead_letter(
            source.topic, source.partition, source.offset, source.key, source.value,
            fault=fault, reason=reason, place=place,
            rejected_by=self._by, at_ns=arrived_ns(event),
        )  # fmt: skip  # one group a line
        await self._outbox.send(self._topic, source.key, encode(letter))
        self._counted(fault)
        log.warning(
            "record rejected, kept as a dead letter", fault=fault, reason=reason, place=place,
            source=f"{source.topic}[{source.partition}]@{source.offset}", kept_in=self._topic,
        )  # fmt: skip  # one line of fields

    async def decoded(self, event: Any, decode: Callable[[bytes], R]) -> R | None:
        """What ``decode`` makes of the event's bytes; None when it became a dead letter."""
        try:
            return decode(event.message.value or b"")
        except MalformedRecord as problem:
            await self.send(event, problem.fault, problem.problem, problem.place)
            return None
