"""An incident: the findings on one container (or host) that belong together, and what was done.

::

    opened ─► proposed ─► ordered ─► contained ──► released ─► closed
       │         ▲          │  ▲         (verified)    ▲
       │         └──────────┘  └─► unverified ─────────┘
       └────────────────────────────────────────────────► dismissed

Proposed: an operator must approve, or a guard said no. A value throughout: every change
gives another incident.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from models.contract import HOST_PREFIX, telemetry_key
from models.policy import CONTAINING
from models.records.order import Action, Check, Order, Outcome, Status
from models.records.verdict import Family, Finding, Level, Reason

MOST_REASONS: Final = 12
MOST_FACTS: Final = 32
MOST_SEEN: Final = 256
MOST_SAID: Final = 24
MOST_ACTS: Final = 24
LONGEST_DETAIL: Final = 2_000


class Stage(StrEnum):
    OPENED = "opened"
    PROPOSED = "proposed"
    ORDERED = "ordered"
    CONTAINED = "contained"
    UNVERIFIED = "unverified"
    RELEASED = "released"
    CLOSED = "closed"
    DISMISSED = "dismissed"


class Answer(StrEnum):
    """What is known of an order."""

    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNANSWERED = "unanswered"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Act:
    """One order and what became of it. ``done`` is what was really done, which differs from
    the order's action after an escalation; ``until_ns`` when it ends by itself (0: never).
    """

    order: Order
    answer: Answer = Answer.WAITING
    done: Action | None = None
    verified: bool | None = None
    answered_ns: int = 0
    took_s: float = 0.0
    until_ns: int = 0
    detail: str = ""
    checks: tuple[Check, ...] = ()
    replacement: str = ""

    @property
    def waits(self) -> bool:
        return self.answer is Answer.WAITING

    @property
    def action(self) -> Action:
        return self.done or self.order.action

    @property
    def stands(self) -> bool:
        """It was done, or may be in a moment."""
        return self.answer in (Answer.WAITING, Answer.DONE)

    @property
    def holds(self) -> bool:
        """The subject is out of service by this act, or may be in a moment. An order that
        nobody answered, or that failed half-way, may have been carried out all the same.
        """
        if self.answer in (Answer.RELEASED, Answer.REFUSED):
            return False
        if self.order.action is Action.REDEPLOY:
            return self.waits
        return self.order.action in CONTAINING


@dataclass(frozen=True, slots=True)
class Incident:
    """``level`` is the highest so far, ``now`` the present one; ``reasons`` are those of the
    highest, ``facts`` and ``values`` what they rest on: keys of facts, and by feature the lowest
    and highest value. ``quiet_since_ns`` is 0 while the subject is not quiet. ``said`` are
    refusals and remarks, newest last; ``seen`` the uids of what was taken in already.
    ``exhibits`` and ``head`` are where the chain of evidence stands, ``alerts`` how many were
    sent.
    """

    uid: str
    scope: str
    lineage: str
    role: str
    image: str
    subject: str
    host: str
    name: str
    opened_ns: int
    first_ns: int
    last_ns: int
    level: Level
    now: Level
    score: float
    heard_ns: int = 0
    model: str = ""
    stage: Stage = Stage.OPENED
    families: tuple[Family, ...] = ()
    reasons: tuple[Reason, ...] = ()
    replicas: int = 1
    findings: int = 0
    quiet_since_ns: int = 0
    proposed: Action | None = None
    acts: tuple[Act, ...] = ()
    steps: int = 0
    said: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    confirmed_by: str = ""
    ended_by: str = ""
    closed_ns: int = 0
    exhibits: int = 0
    head: str = ""
    alerts: int = 0
    facts: tuple[str, ...] = ()
    values: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)

    @property
    def open(self) -> bool:
        return self.stage not in (Stage.CLOSED, Stage.DISMISSED)

    @property
    def holding(self) -> bool:
        """Whether the subject is out of service by our doing."""
        return any(act.holds for act in self.acts)

    @property
    def label(self) -> str:
        """The subject, for a person."""
        if self.subject.startswith(HOST_PREFIX):
            return f"host {self.subject.removeprefix(HOST_PREFIX)}"
        return self.name or self.subject[:12]

    @property
    def of_host(self) -> bool:
        return self.subject.startswith(HOST_PREFIX)

    def act_of(self, order: str) -> Act | None:
        return next((act for act in self.acts if act.order.uid == order), None)


# ---- ids ----------------------------------------------------------------------------------


def incident_uid(finding: Finding) -> str:
    """Derives from content and event time, so that a finding read again opens the same."""
    verdict = finding.verdict
    return "inc-" + _digest(verdict.scope, verdict.subject, verdict.uid)


def order_uid(incident: str, action: Action, step: int) -> str:
    """The same step of the same incident is the same order, however often it is sent."""
    return "ord-" + _digest(incident, action, str(step))


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        body = part.encode()
        digest.update(b"%d:" % len(body) + body)
    return digest.hexdigest()


# ---- changes ------------------------------------------------------------------------------


def opened(finding: Finding, now_ns: int) -> Incident:
    """A new incident; the finding itself joins by :func:`joined`."""
    verdict = finding.verdict
    return Incident(
        incident_uid(finding), verdict.scope, verdict.lineage, verdict.role, verdict.image,
        verdict.subject, verdict.host, verdict.name, opened_ns=now_ns,
        first_ns=verdict.from_ns or verdict.at_ns, last_ns=verdict.at_ns,
        level=Level.QUIET, now=Level.QUIET, score=0.0,
    )  # fmt: skip  # as the fields lie


def joined(incident: Incident, finding: Finding, now_ns: int) -> Incident:
    """The incident with one more finding of its subject."""
    verdict = finding.verdict
    quiet = verdict.level is Level.QUIET
    after = replace(
        incident, now=verdict.level, findings=incident.findings + 1, heard_ns=now_ns,
        last_ns=max(incident.last_ns, verdict.at_ns), host=verdict.host,
        quiet_since_ns=(incident.quiet_since_ns or now_ns) if quiet else 0,
        replicas=finding.replicas, name=verdict.name or incident.name,
        seen=(*incident.seen, verdict.uid)[-MOST_SEEN:],
    )  # fmt: skip  # as the fields lie
    if quiet or verdict.level.rank < incident.level.rank:
        return after
    families = tuple(dict.fromkeys((*incident.families, *verdict.families)))
    return replace(
        after, level=verdict.level, score=max(incident.score, verdict.score),
        families=families, model=verdict.model or incident.model,
        reasons=_reasons(verdict.reasons, incident.reasons),
        facts=tuple(dict.fromkeys((*verdict.facts, *incident.facts)))[:MOST_FACTS],
        values=_ends(incident.values, verdict.values),
    )  # fmt: skip  # as the fields lie


def _ends(
    before: dict[str, tuple[float, ...]], values: dict[str, float]
) -> dict[str, tuple[float, ...]]:
    """Lowest and highest of each feature."""
    joint = {name: (*before.get(name, ()), value) for name, value in values.items()}
    return {**before, **{name: (min(ends), max(ends)) for name, ends in joint.items()}}


def _reasons(new: tuple[Reason, ...], old: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Each sentence once, the newest first."""
    said = {one.text for one in new}
    return (*new, *(one for one in old if one.text not in said))[:MOST_REASONS]


def saying(incident: Incident, remark: str) -> Incident:
    """With a remark that stands in alert and report; the same one twice in a row is one."""
    remark = remark[:LONGEST_DETAIL]
    if incident.said[-1:] == (remark,):
        return incident
    return replace(incident, said=(*incident.said, remark)[-MOST_SAID:])


def with_act(incident: Incident, act: Act) -> Incident:
    """With the act in the place of the one of the same order, or added."""
    if incident.act_of(act.order.uid) is not None:
        acts = tuple(act if a.order.uid == act.order.uid else a for a in incident.acts)
        return replace(incident, acts=acts)
    # What still holds is never forgotten, however many acts there were.
    kept = incident.acts
    if len(kept) >= MOST_ACTS:
        oldest = next((a for a in kept if not a.holds and not a.waits), kept[0])
        kept = tuple(a for a in kept if a is not oldest)
    return replace(incident, acts=(*kept, act))


def answered(act: Act, outcome: Outcome, now_ns: int) -> Act:
    """What an outcome says of its order."""
    if outcome.status is Status.DONE:
        return replace(
            act, answer=Answer.DONE, done=outcome.action, verified=outcome.verified,
            answered_ns=act.answered_ns if act.answer is Answer.DONE else now_ns,
            took_s=outcome.took_s if act.took_s == 0.0 else act.took_s,
            detail=outcome.detail[:LONGEST_DETAIL], checks=outcome.checks[:16],
            replacement=outcome.replacement or act.replacement,
        )  # fmt: skip  # as the fields lie
    if outcome.status is Status.FAILED and act.answer is Answer.DONE:
        # It could not be undone yet: the responder goes on trying, the subject is still held.
        return replace(act, detail=outcome.detail[:LONGEST_DETAIL])
    answer = {
        Status.REFUSED: Answer.REFUSED,
        Status.FAILED: Answer.FAILED,
        Status.RELEASED: Answer.RELEASED,
    }[outcome.status]
    return replace(act, answer=answer, answered_ns=now_ns, detail=outcome.detail[:LONGEST_DETAIL])


def stage_of(incident: Incident) -> Stage:
    """Where an open incident stands, by its acts."""
    if not incident.open:
        return incident.stage
    acts = [a for a in incident.acts if a.order.action not in (Action.RELEASE, Action.EXTEND)]
    if any(act.waits for act in acts):
        return Stage.ORDERED
    done = [act for act in acts if act.answer is Answer.DONE]
    if done:
        # The last one counts: what escalated past an unverified act stands for it.
        return Stage.UNVERIFIED if done[-1].verified is False else Stage.CONTAINED
    if any(act.answer in (Answer.FAILED, Answer.UNANSWERED) for act in acts):
        return Stage.UNVERIFIED
    if any(act.answer is Answer.RELEASED for act in acts):
        return Stage.RELEASED
    return Stage.PROPOSED if incident.proposed is not None else Stage.OPENED
