"""The governor's agent: findings, words and outcomes in; orders, alerts, evidence out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import faust
import structlog

from models.contract import KIND_HEADER, ONLY_PARTITION, Topics
from models.errors import MalformedRecord, UntrustedMessage
from models.governance import Governed, Record, govern
from models.governor import GovernorState
from models.ledger import Note
from models.policy import Policy
from models.records.codec import decode, encode
from models.records.control import Word
from models.records.lesson import LESSON
from models.records.order import Outcome
from models.records.signed import Signed
from models.records.telemetry import Tick
from models.records.verdict import Finding
from streams.alerts import wrapped
from streams.delivery.outbox import Outbox
from streams.delivery.rejected import Rejects
from streams.delivery.stream import arrived_ns
from streams.keys import Role, Signer, Trust
from streams.meters import Meters
from streams.tables import Rows

log = structlog.get_logger(__name__)

BOOK: Final = "governor"
"""The one group of rows: all that the governor knows."""
WARNED: Final = frozenset({
    "refused", "unanswered", "overflow", "stray-outcome", "refused-by-responder",
    "word-refused", "word-repeated", "adopted",
})  # fmt: skip  # a list to read across
"""Notes that somebody on call may have to act upon."""


@dataclass(frozen=True, slots=True)
class Governor:
    """One worker's governor: whoever holds the single partition decides. ``policy_at`` tells
    what holds for a record that the log took in at some time.
    """

    rows: Rows[GovernorState]
    policy_at: Callable[[int], Policy]
    scope: str
    trust: Trust
    signer: Signer
    outbox: Outbox
    rejects: Rejects
    topics: Topics
    meters: Meters

    async def take(self, events: list[Any]) -> None:
        """Govern a batch of events in their order; returns with all outputs handed over and
        the state kept, or raises with nothing kept.
        """
        state = self.rows.get(BOOK) or GovernorState()
        last: dict[str, Any] = {}
        for event in events:
            if self.rows.seen(event, BOOK):
                self.meters.repeated.inc()
                continue
            state = await self._one(event, state)
            last[event.message.topic] = event
        for event in last.values():
            self.rows.keep(event, BOOK, state, event.message.offset)

    async def _one(self, event: Any, state: GovernorState) -> GovernorState:
        try:
            record = self._decoded(event)
            if record is None:
                return state
            raw = bytes(event.message.value or b"")
            at_ns = arrived_ns(event)
            governed = govern(state, record, at_ns, self.policy_at(at_ns), raw)
        except MalformedRecord as problem:
            await self.rejects.send(event, problem.fault, problem.problem, problem.place)
            return state
        except UntrustedMessage as problem:
            await self.rejects.send(event, "untrusted", str(problem))
            return state
        except Exception as problem:
            log.exception("a record could not be governed: a fault of Plimsoll's, report it",
                          topic=event.message.topic)  # fmt: skip  # one line of fields
            await self.rejects.send(event, "unjudged", repr(problem))
            return state
        await self._hand_over(governed)
        self._count(record, governed)
        return governed.state

    # ---- in -------------------------------------------------------------------------------

    def _decoded(self, event: Any) -> Record | None:
        """The record; None for one of another scope, which another governor serves.

        Raises: MalformedRecord, UntrustedMessage.
        """
        message = event.message
        if message.partition != ONLY_PARTITION:
            problem = f"partition {message.partition}: writers must name partition 0"
            raise MalformedRecord("misplaced", problem, "partition")
        record: Record
        if message.topic == self.topics.control:
            record = self._word(message.value)
        elif message.topic == self.topics.outcomes:
            record = decode(Outcome, message.value)
        else:
            record = decode(_finding_kind(message.headers), message.value)
        return record if self._ours(record) else None

    def _word(self, value: bytes) -> Word:
        """An operator's word; its name must be that of the key that signed it."""
        signed = decode(Signed, value)
        word = decode(Word, self.trust.verify(signed, Role.OPERATOR))
        name = self.trust.keys_by_id()[signed.key].name
        if word.operator != name:
            raise UntrustedMessage(f"{word.operator!r} speaks with the key of {name!r}")
        return word

    def _ours(self, record: Record) -> bool:
        if isinstance(record, Tick):
            return True
        scope = record.verdict.scope if isinstance(record, Finding) else record.scope
        if scope != self.scope:
            log.debug("passed over: another scope's", scope=scope, ours=self.scope)
        return scope == self.scope

    # ---- out ------------------------------------------------------------------------------

    async def _hand_over(self, governed: Governed) -> None:
        """Evidence before orders: what is done was written down first."""
        for exhibit in governed.exhibits:
            await self._evidence(exhibit.incident, encode(exhibit), "exhibit")
        for head in governed.heads:
            await self._evidence(head.incident, self._signed(head), "head")
        for order in governed.orders:
            await self.outbox.send(
                self.topics.orders, order.host.encode(), self._signed(order), headers=_kind("order")
            )
        for lesson in governed.lessons:
            await self.outbox.send(
                self.topics.telemetry, lesson.group.encode(), self._signed(lesson),
                headers=_kind(LESSON),
            )  # fmt: skip  # one call, one thought
        for alert in governed.alerts:
            record = wrapped(alert)
            await self.outbox.send(
                self.topics.alerts, record.key, record.value, headers=record.headers
            )
        for change in governed.control:
            await self.outbox.send(
                self.topics.control_state, change.key.encode(), change.body,
                partition=ONLY_PARTITION,
            )  # fmt: skip  # one call, one thought

    async def _evidence(self, incident: str, body: bytes, kind: str) -> None:
        await self.outbox.send(self.topics.evidence, incident.encode(), body, headers=_kind(kind))

    def _signed(self, record: Any) -> bytes:
        return encode(self.signer.sign(encode(record)))

    # ---- traces ---------------------------------------------------------------------------

    def _count(self, record: Record, governed: Governed) -> None:
        self.meters.records.labels(type(record).__name__.lower()).inc()
        for order in governed.orders:
            self.meters.orders.labels(order.action).inc()
        if isinstance(record, Outcome):
            self._count_outcome(record)
        for note in governed.notes:
            self._trace(note)

    def _count_outcome(self, outcome: Outcome) -> None:
        self.meters.outcomes.labels(outcome.action, outcome.status).inc()
        if outcome.verified is False:
            self.meters.unverified.labels(outcome.action).inc()
        elif outcome.verified:
            self.meters.answered_s.observe(outcome.took_s)

    def _trace(self, note: Note) -> None:
        if note.change == "refused":
            self.meters.refusals.labels(note.label).inc()
            if note.label == "late":
                self.meters.late.inc()
        elif note.change != "ordered":
            self.meters.incidents.labels(note.change).inc()
        say = log.warning if note.change in WARNED else log.info
        say(f"governor: {note.change}", incident=note.incident, detail=note.detail)


def _kind(name: str) -> tuple[tuple[str, bytes]]:
    return ((KIND_HEADER, name.encode()),)


def _finding_kind(headers: Any) -> type[Finding | Tick]:
    """Raises: MalformedRecord when the header names neither a finding nor a tick."""
    name = bytes(dict(headers or ()).get(KIND_HEADER) or b"").decode(errors="replace")
    kinds: dict[str, type[Finding | Tick]] = {"finding": Finding, "tick": Tick}
    if name not in kinds:
        problem = f"{name!r} is none of {', '.join(kinds)}"
        raise MalformedRecord("unknown-schema", problem, KIND_HEADER)
    return kinds[name]


def sources(topics: Topics) -> list[str]:
    """The topics that the governor reads, in the order in which rows keep their offsets."""
    return [topics.findings, topics.control, topics.outcomes]


def turns(topics: Topics) -> dict[str, int]:
    """Which of these topics goes first where the log's time is the same: a word that stops
    orders counts for the finding beside it.
    """
    return {topics.control: 0, topics.findings: 1, topics.outcomes: 2}


def attach(app: faust.App, governor_of: Callable[[], Governor], topics: Topics) -> None:
    """Let the app govern; ``governor_of`` is called once its loop runs."""
    channel = app.topic(*sources(topics), key_serializer="raw", value_serializer="raw")

    @app.agent(channel, name="govern")
    async def governing(stream: Any) -> None:
        one = governor_of()
        async for events in stream.merged(turns(topics)):
            # Acknowledged once this body has ended well, and only then.
            await one.take(events)
