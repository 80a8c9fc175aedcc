"""What happened when, from the chain's own contents: nothing in it is retold from memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from models.errors import MalformedRecord
from models.records.codec import decode
from models.records.control import Word
from models.records.exhibit import Exhibit
from models.records.order import Order, Outcome
from models.records.signed import Signed
from models.records.verdict import Finding
from streams.report.plots import human


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline; ``tone`` is found, ordered, good, bad, said or taken."""

    at_ns: int
    tone: str
    title: str
    detail: str
    exhibit: int

    @property
    def clock(self) -> str:
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC).strftime("%Y-%m-%d")


def timeline(exhibits: Iterable[Exhibit]) -> list[Moment]:
    """A moment for each exhibit, in the order of time; pieces of evidence in one line."""
    moments: list[Moment] = []
    for exhibit in sorted(exhibits, key=lambda one: (one.taken_ns, one.sequence)):
        moment = _moment(exhibit)
        last = moments[-1] if moments else None
        if last is not None and moment.tone == last.tone == "taken":
            moments[-1] = Moment(
                last.at_ns, "taken", last.title, f"{last.detail}, {moment.detail}", last.exhibit
            )
        else:
            moments.append(moment)
    return moments


def _moment(exhibit: Exhibit) -> Moment:
    try:
        tone, title, detail = _told(exhibit)
    except MalformedRecord as problem:
        tone, title, detail = "bad", f"{exhibit.kind} that cannot be read", str(problem)
    return Moment(exhibit.taken_ns, tone, title, detail, exhibit.sequence)


def _told(exhibit: Exhibit) -> tuple[str, str, str]:
    content = exhibit.content or b""
    if exhibit.kind == "finding":
        verdict = decode(Finding, content).verdict
        why = "; ".join(reason.text for reason in verdict.reasons)
        return "found", f"found {verdict.level}", why
    if exhibit.kind == "order":
        order = decode(Order, content)
        ladder = f"; then {', '.join(order.ladder)} if unverified" if order.ladder else ""
        return "ordered", f"{order.action} ordered", f"on host {order.host}{ladder}"
    if exhibit.kind == "outcome":
        return _outcome(decode(Outcome, content))
    if exhibit.kind == "word":
        word = decode(Word, decode(Signed, content).payload)
        return "said", f"{word.operator}: {word.verb}", word.because
    return "taken", "evidence taken", f"{exhibit.kind} {told_piece(exhibit)}"


def told_piece(exhibit: Exhibit) -> str:
    """How large a piece of evidence is, and what was said of it."""
    size = f"{human(exhibit.size_bytes)}B"
    return f"{size} ({exhibit.detail})" if exhibit.detail else size


def _outcome(outcome: Outcome) -> tuple[str, str, str]:
    if outcome.uid.endswith("/evidence"):
        return "taken", "evidence taken", "all of it is in"
    if outcome.verified is None:
        tone = "bad" if outcome.status in ("failed", "refused") else "good"
        return tone, f"{outcome.action} {outcome.status}", outcome.detail
    if outcome.verified:
        title = f"{outcome.action} {outcome.status}, verified in {outcome.took_s:.1f} s"
        return "good", title, outcome.detail
    return "bad", f"{outcome.action} {outcome.status}, NOT verified", outcome.detail
