"""What was decided, as the topics tell it: verdicts, findings and orders of a window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from models.contract import Topics
from models.errors import MalformedRecord, UntrustedMessage
from models.records.codec import decode
from models.records.order import Order
from models.records.signed import Signed
from models.records.verdict import VERDICT_KINDS, Finding, Summary, Verdict
from models.settings import Kafka
from streams.keys import Role, Trust
from streams.replaying import Decided
from streams.stores.window import TopicLog, kind_of

_AHEAD_NS: Final = 300 * 10**9
"""Event time may be so far ahead of the log's."""


def decided(
    kafka: Kafka, topics: Topics, trust: Trust, scope: str, window: tuple[int, int]
) -> Decided:
    """All that the topics still hold of a window (event time) in one scope."""
    told = Decided()
    for one in said(kafka, topics, window[0]):
        if one.scope == scope and window[0] <= one.at_ns < window[1]:
            (told.verdicts if isinstance(one, Verdict) else told.summaries).append(one)  # type: ignore[arg-type]  # told apart here
    told.findings = [
        one for one in findings(kafka, topics, window[0])
        if one.verdict.scope == scope and window[0] <= one.verdict.at_ns < window[1]
    ]  # fmt: skip  # one condition
    told.orders = [
        one for one in _orders(kafka, topics, trust, window[0])
        if one.scope == scope and window[0] <= one.issued_ns < window[1]
    ]  # fmt: skip  # one condition
    return told


def said(kafka: Kafka, topics: Topics, from_ns: int = 0) -> Iterator[Verdict | Summary]:
    """Verdicts and summaries since about that time."""
    for message, _, _ in _since(kafka, topics.verdicts, from_ns):
        kind = VERDICT_KINDS.get(kind_of(message))
        if kind is not None:
            yield from _readable(kind, message)


def findings(kafka: Kafka, topics: Topics, from_ns: int = 0) -> Iterator[Finding]:
    for message, _, _ in _since(kafka, topics.findings, from_ns):
        if kind_of(message) == "finding":
            yield from _readable(Finding, message)


def _orders(kafka: Kafka, topics: Topics, trust: Trust, from_ns: int) -> Iterator[Order]:
    for message, _, _ in _since(kafka, topics.orders, from_ns):
        stamped_ns = message.timestamp()[1] * 10**6
        for signed in _readable(Signed, message):
            try:
                yield decode(Order, trust.verify(signed, Role.GOVERNOR, stamped_ns))
            except (MalformedRecord, UntrustedMessage):
                continue  # responders refuse it too


def _since(kafka: Kafka, topic: str, from_ns: int) -> Iterator[tuple[Any, int, float]]:
    return TopicLog(kafka.librdkafka(), topic).messages(max(from_ns - _AHEAD_NS, 0))


def _readable(kind: Any, message: Any) -> Iterator[Any]:
    try:
        yield decode(kind, message.value())
    except MalformedRecord:
        return
