"""Does every offset reach the agent? A hole is counted and named; judging goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from faust.types import TP

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets ``first`` to ``last`` were never seen by this worker's agent."""

    topic: str
    partition: int
    first: int
    last: int


class Continuity:
    """Expects, in each partition, the offset after the last one seen.

    A rebalance moves positions on purpose: ``sought`` tells where reading goes on. What is
    read again is no gap. Without a committed offset the first record is taken as it comes.
    """

    def __init__(self, report: Callable[[Gap], None] | None = None) -> None:
        self._report = report or _logged
        self._next: dict[TP, int] = {}

    def counted_by(self, count: Callable[[int], None]) -> None:
        """Have the offsets of each gap counted too, besides the line in the log."""
        told = self._report

        def report(gap: Gap) -> None:
            told(gap)
            count(gap.last - gap.first + 1)

        self._report = report

    def sought(self, positions: Mapping[TP, int]) -> None:
        """Reading goes on from the committed offsets."""
        self._next = dict(positions)

    def saw(self, offsets: Iterable[tuple[TP, int]]) -> None:
        """The agent is about to get these, in this order."""
        expected = self._next
        for tp, offset in offsets:
            due = expected.get(tp)
            if due is not None and offset > due:
                self._report(Gap(tp.topic, tp.partition, due, offset - 1))
            if due is None or offset >= due:
                expected[tp] = offset + 1


def _logged(gap: Gap) -> None:
    log.error(
        "offsets were skipped: either the topic's retention removed them before they were "
        "read, or a record was lost; judge them again by resetting the group's offset",
        topic=gap.topic, partition=gap.partition, first=gap.first, last=gap.last,
    )  # fmt: skip  # one line of fields
