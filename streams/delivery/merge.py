"""Several partitions read as one log, in the order in which the broker took records in.

Kafka keeps an order within a partition only. Whoever decides by records of several topics
(a finding, the word that forbids acting on it, the outcome of what was ordered) would
otherwise decide by which of them happened to be fetched first, and decide otherwise when
they are read again after a crash.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any, Final

import structlog
from faust.types import TP

log = structlog.get_logger(__name__)

PATIENCE_S: Final = 10.0
"""The longest that records wait for an earlier one that may be in a partition not yet read."""


class Merge:
    """Holds events back until nothing earlier can come.

    By the log's time; at the same millisecond the topic with the lower ``rank`` goes first.
    Within a partition offsets count, whatever its times say.
    """

    def __init__(
        self,
        rank: Mapping[str, int],
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._rank = rank
        self._patience_s = patience_s
        self._clock = clock
        self._held: dict[TP, deque[Any]] = {}
        self._since_s: float | None = None
        self._told = False

    def __bool__(self) -> bool:
        return any(self._held.values())

    def put(self, event: Any) -> None:
        self._held.setdefault(event.message.tp, deque()).append(event)

    def keep(self, current: Callable[[Any], bool]) -> None:
        """Forget the others: a rebalance has them read again."""
        for tp, held in self._held.items():
            if not all(map(current, held)):
                self._held[tp] = deque(filter(current, held))

    def ready(self, unread: Collection[TP], most: int) -> list[Any]:
        """The events whose turn has come, at most so many.

        ``unread``: partitions of which the broker has more than was put in here. While one
        of them has nothing here, its next event may be earlier than all that is.
        """
        out: list[Any] = []
        while len(out) < most and self and not self._waits(unread):
            first = min(filter(None, self._held.values()), key=self._turn)
            out.append(first.popleft())
        return out

    def _turn(self, held: deque[Any]) -> tuple[float, int, TP]:
        message = held[0].message
        return message.timestamp, self._rank.get(message.topic, len(self._rank)), message.tp

    def _waits(self, unread: Collection[TP]) -> bool:
        """A partition that can't be read must not stop everything for ever."""
        absent = [tp for tp in unread if not self._held.get(tp)]
        if not absent:
            self._since_s, self._told = None, False
            return False
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self._patience_s:
            return True
        if not self._told:
            self._told = True
            log.warning(
                "a partition stays unread, going on without its records: they will be out of "
                "turn; look after its broker",
                waited_s=self._patience_s, first=f"{absent[0].topic}[{absent[0].partition}]",
            )  # fmt: skip  # one line of fields
        return False
