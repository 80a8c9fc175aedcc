"""Which source offsets may be committed: those of which everything has been delivered."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TopicPartition = tuple[str, int]


@dataclass(slots=True, eq=False)
class Lot:
    """Source records that were worked on together, and what is still to come of them.

    It counts 1 for being open itself; every output adds one until its delivery report.
    """

    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    outstanding: int = 1
    behind: list[Lot] = field(default_factory=list)

    def took(self, topic: str, partition: int, offset: int) -> None:
        self.next_offsets[topic, partition] = offset + 1

    def hold(self) -> None:
        self.outstanding += 1

    def release(self) -> None:
        """One output less to wait for; the last one releases the lots that waited for us."""
        self.outstanding -= 1
        if self.outstanding == 0:
            waiting, self.behind = self.behind, []
            for lot in waiting:
                lot.release()

    @property
    def delivered(self) -> bool:
        return self.outstanding == 0


class Ledger:
    """Lots in the order in which their records were read.

    An offset counts only when its lot and every one before it are delivered, so that a
    crash makes some things twice and never loses one.
    """

    def __init__(self) -> None:
        self._lots: deque[Lot] = deque()
        self._ready: dict[TopicPartition, int] = {}
        self.open()

    @property
    def current(self) -> Lot:
        return self._lots[-1]

    def open(self) -> Lot:
        """The current lot is complete but for deliveries; a new one begins."""
        if self._lots:
            self.current.release()
        self._lots.append(Lot())
        return self.current

    def advance(self) -> dict[TopicPartition, int]:
        """The offsets to commit by now that were not handed out before."""
        while self._lots[0].delivered:
            self._ready |= self._lots.popleft().next_offsets
        ready, self._ready = self._ready, {}
        return ready

    def waiting(self) -> int:
        """Lots that are not delivered yet."""
        return len(self._lots) - 1

    def forget(self, partitions: set[TopicPartition]) -> None:
        """Partitions that are no longer ours: their offsets are another's to commit."""
        for lot in self._lots:
            for partition in partitions & lot.next_offsets.keys():
                del lot.next_offsets[partition]
        for partition in partitions & self._ready.keys():
            del self._ready[partition]
