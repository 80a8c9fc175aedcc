"""The log once more: the very functions that judge live, on records read back.

A record is judged against the states of its own partition, and a tick moves the groups of
its own, as in the worker; so the same log and models give the same verdicts, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from models.lineage import LineageState
from models.pipeline import Arrival, Core, Judgement, judge, tick
from models.records.telemetry import Batch, Telemetry, Tick

AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record that the log took in; ``share`` of the reading that is done with it."""

    partition: int
    offset: int
    record: Telemetry
    arrived_ns: int
    share: float = 0.0


class Source(Protocol):
    """Where records are read back from: Kafka, or an archive. Each partition comes in its
    order, and the same window gives the same records in the same order.
    """

    def span(self) -> tuple[int, int]:
        """Arrival of the oldest record and just past the newest, ns; (0, 0): it is empty."""

    def records(
        self, from_ns: int, until_ns: int, partitions: Sequence[int] = ()
    ) -> Iterator[Recorded]:
        """What arrived in ``[from_ns, until_ns)`` and may be judged; ``until_ns`` 0: up to the
        end. Of these partitions alone, where some are named.
        """

    def partitions(self) -> int:
        """How many the log has."""

    @property
    def offsets(self) -> dict[str, tuple[int, ...]]:
        """By partition, first and end of what was read so far."""


class Replay:
    """States by partition, moved by records; ``unjudged`` counts those that failed, which
    the worker keeps as dead letters.
    """

    def __init__(self, core: Core, at_once: int = AT_ONCE) -> None:
        self.core = core
        self._at_once = at_once
        self.states: dict[int, dict[str, LineageState]] = {}
        self.samples = 0
        self.unjudged = 0

    def run(
        self, records: Iterable[Recorded], seen: Callable[[Recorded], None] = lambda _one: None
    ) -> Iterator[Judgement]:
        """Judge all; ``seen`` is told of each record, with ``at_once`` 1 just before it is
        judged.
        """
        due: list[Recorded] = []
        for one in records:
            apart = due and due[-1].partition != one.partition
            if apart or isinstance(one.record, Tick) or len(due) >= self._at_once:
                yield from self._judged(due)
                due = []
            seen(one)
            if isinstance(one.record, Tick):
                yield self._kept(one, tick(self.of(one), one.record, self.core))
            else:
                due.append(one)
        yield from self._judged(due)

    def of(self, one: Recorded) -> dict[str, LineageState]:
        """The states of a record's partition as they are now."""
        return self.states.setdefault(one.partition, {})

    def _judged(self, due: list[Recorded]) -> Iterator[Judgement]:
        if not due:
            return
        try:
            yield self._one_call(due)
        except Exception:  # noqa: BLE001  # told apart, as the worker does
            for one in due:
                try:
                    yield self._one_call([one])
                except Exception:  # noqa: BLE001  # the worker has kept a dead letter of it
                    self.unjudged += 1

    def _one_call(self, due: list[Recorded]) -> Judgement:
        arrivals = [
            Arrival(one.record.group, one.record, one.arrived_ns)
            for one in due if not isinstance(one.record, Tick)
        ]  # fmt: skip  # one condition
        judged = judge(self.of(due[0]), arrivals, self.core)
        self.samples += sum(len(a.record.samples) for a in arrivals if isinstance(a.record, Batch))
        return self._kept(due[0], judged)

    def _kept(self, one: Recorded, judged: Judgement) -> Judgement:
        self.of(one).update(judged.states)
        return judged
