"""The judge: what arrived together is judged together, each image by its own baseline."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import faust
import structlog

from models.admission import Opened, admitted, nobody
from models.contract import KIND_HEADER, ONLY_PARTITION, Topics
from models.errors import MalformedRecord
from models.pipeline import Arrival, Core, Judgement, judge, tick
from models.records.codec import encode
from models.records.lesson import Lesson
from models.records.telemetry import KIND_OF, Batch, Telemetry, Tick
from models.state import LineageState
from streams.delivery.outbox import Outbox
from streams.delivery.rejected import Rejects
from streams.delivery.stream import arrived_ns
from streams.meters import Meters
from streams.tables import Rows

log = structlog.get_logger(__name__)

VERDICT: Final = ((KIND_HEADER, b"verdict"),)
SUMMARY: Final = ((KIND_HEADER, b"summary"),)
FINDING: Final = ((KIND_HEADER, b"finding"),)


@dataclass(frozen=True, slots=True)
class Judge:
    """One worker's judge. ``core`` gives models and settings as they are now;
    ``partitions`` is how many the telemetry topic has; ``opened`` knows whose lessons count.
    """

    rows: Rows[LineageState]
    core: Callable[[], Core]
    outbox: Outbox
    rejects: Rejects
    topics: Topics
    partitions: int
    meters: Meters
    opened: Opened = nobody
    clock: Callable[[], int] = time.time_ns
    """For the latency meter alone: what is decided never depends on it."""

    async def take(self, events: list[Any]) -> None:
        """Judge a batch of events in their order; returns with all outputs handed over and
        all rows kept, or raises with nothing of the failed part kept.
        """
        due: list[Incoming] = []
        for event in events:
            record = await self._decoded(event)
            if isinstance(record, Tick):
                await self._judge(due)
                due = []
                await self._tick(event, record)
            elif record is not None and self.rows.seen(event, record.group):
                self.meters.repeated.inc()
            elif record is not None:
                due.append(Incoming(event, Arrival(record.group, record, arrived_ns(event))))
        await self._judge(due)

    # ---- in ---------------------------------------------------------------------------------

    async def _decoded(self, event: Any) -> Telemetry | None:
        message = event.message
        try:
            return admitted(
                kind_of(event), message.key, message.value, partition=message.partition,
                partitions=self.partitions, arrived_ns=arrived_ns(event), opened=self.opened,
            )  # fmt: skip  # one line a thought
        except MalformedRecord as problem:
            await self.rejects.send(event, problem.fault, problem.problem, problem.place)
            return None

    # ---- judging ----------------------------------------------------------------------------

    async def _judge(self, due: list[Incoming]) -> None:
        if not due:
            return
        core = self.core()
        held = _Held(self.rows)
        try:
            judgement = judge(held, [incoming.arrival for incoming in due], core)
        except Exception as problem:  # noqa: BLE001  # told apart below, one by one
            log.warning("judging apart what failed together", why=repr(problem))
            await self._judge_each(due, core)
            return
        await self._hand_over(judgement, [incoming.event for incoming in due])
        self._count(due)
        last = {incoming.arrival.group: incoming.event for incoming in due}
        for group, event in last.items():
            state = judgement.states.get(group, held.get(group))
            if state is not None:
                self.rows.keep(event, group, state, event.message.offset)

    async def _judge_each(self, due: list[Incoming], core: Core) -> None:
        """A record on which the judgement itself fails is kept as a dead letter; it must not
        end every worker that reads it, nor take its neighbours along.
        """
        for incoming in due:
            arrival, event = incoming.arrival, incoming.event
            try:
                judgement = judge(_Held(self.rows), [arrival], core)
            except Exception as problem:
                log.exception("a record could not be judged: a fault of Plimsoll's, report it",
                              group=arrival.group)  # fmt: skip  # one line of fields
                await self.rejects.send(event, "unjudged", repr(problem))
                continue
            await self._hand_over(judgement, [event])
            for group, state in judgement.states.items():
                self.rows.keep(event, group, state, event.message.offset)

    async def _tick(self, event: Any, now: Tick) -> None:
        """Time passes for every group of the event's partition that has something due."""
        due = {}
        for group in self.rows.due(event.message.partition, now.at_ns):
            state = self.rows.get(group)
            if state is not None and not self.rows.seen(event, group):
                due[group] = state
        judgement = tick(due, now, self.core())
        await self._hand_over(judgement, [event])
        for group, state in judgement.states.items():
            self.rows.keep(event, group, state, event.message.offset)

    def _count(self, due: list[Incoming]) -> None:
        now_ns, samples = self.clock(), 0
        for kind, count in Counter(type(incoming.arrival.record) for incoming in due).items():
            self.meters.records.labels(KIND_OF[kind]).inc(count)
        for incoming in due:
            record = incoming.arrival.record
            if isinstance(record, Batch):
                samples += len(record.samples)
                self.meters.judged_s.observe(max(now_ns - record.at_ns, 0) / 1e9)
            elif isinstance(record, Lesson):
                log.info("taught", lesson=record.uid, what=record.what, group=record.group,
                         by=record.by, because=record.because)  # fmt: skip  # one line of fields
        self.meters.samples.inc(samples)

    # ---- out --------------------------------------------------------------------------------

    async def _hand_over(self, judgement: Judgement, events: list[Any]) -> None:
        """Outputs first: a row that is durable implies outputs that are. What a cold partition
        finds is said to be so.
        """
        cold = any(map(self.rows.cold, {event.message.partition for event in events}))
        for verdict in judgement.verdicts:
            self.meters.verdicts.labels(verdict.level).inc()
            await self._verdicts(verdict.group, encode(verdict), VERDICT)
        for summary in judgement.summaries:
            await self._verdicts(summary.group, encode(summary), SUMMARY)
        for finding in judgement.findings:
            self.meters.findings.labels(finding.verdict.level).inc()
            told = replace(finding, cold=True) if cold else finding
            await self.outbox.send(
                self.topics.findings, finding.verdict.group.encode(), encode(told),
                partition=ONLY_PARTITION, headers=FINDING,
            )  # fmt: skip  # one call, one thought

    async def _verdicts(self, group: str, body: bytes, header: Any) -> None:
        await self.outbox.send(self.topics.verdicts, group.encode(), body, headers=header)


@dataclass(frozen=True, slots=True)
class Incoming:
    event: Any
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class _Held(Mapping[str, LineageState]):
    """The rows as the core takes them: by group, without those that are new."""

    rows: Rows[LineageState] = field(repr=False)

    def __getitem__(self, group: str) -> LineageState:
        state = self.rows.get(group)
        if state is None:
            raise KeyError(group)
        return state

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("groups are asked for by name")

    def __len__(self) -> int:
        raise NotImplementedError("groups are asked for by name")


def kind_of(event: Any) -> str:
    """The record kind that the event's header names; empty when it names none."""
    headers = dict(event.message.headers or ())
    return bytes(headers.get(KIND_HEADER) or b"").decode(errors="replace")


def attach(app: faust.App, judge_of: Callable[[], Judge], telemetry: str) -> None:
    """Let the app judge the telemetry topic; ``judge_of`` is called once its loop runs."""

    @app.agent(app.topic(telemetry, key_serializer="raw", value_serializer="raw"), name="judge")
    async def judging(stream: Any) -> None:
        one = judge_of()
        async for events in stream.batches():
            # Acknowledged once this body has ended well, and only then.
            await one.take(events)
