"""One step of the governor under way: what it changes, orders, tells and keeps as evidence.

Living only inside of one call, it may change in place; what comes out are values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from models.alert import Alert, alert_of
from models.evidence import Head, content_hash, exhibit_hash
from models.governor import HOUR_NS, GovernorState, in_order
from models.guards import PAST, Case, Refusal, refusal
from models.incident import Act, Answer, Incident, order_uid, saying, stage_of, with_act
from models.policy import CONTAINING, Mode, Policy
from models.records.codec import encode
from models.records.control import Word
from models.records.exhibit import Exhibit
from models.records.lesson import Lesson
from models.records.order import Action, Order, Submission

SECOND_NS: Final = 10**9
UNDOING: Final = (Action.RELEASE, Action.EXTEND)


@dataclass(frozen=True, slots=True)
class Note:
    """Something to log and count. ``change`` is from a fixed vocabulary; ``label`` is fit
    for a counter's label.
    """

    change: str
    label: str
    incident: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """One record of the control-state topic; ``body`` None removes the key."""

    key: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Governed:
    """What one record led to. Heads are to be signed, orders and lessons too."""

    state: GovernorState
    orders: tuple[Order, ...] = ()
    alerts: tuple[Alert, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    heads: tuple[Head, ...] = ()
    control: tuple[Control, ...] = ()
    notes: tuple[Note, ...] = ()
    lessons: tuple[Lesson, ...] = ()


class Ledger:
    """The working copy of one state. ``now_ns`` is the time of the record at hand."""

    def __init__(self, state: GovernorState, policy: Policy, now_ns: int) -> None:
        self.policy = policy
        self.now_ns = now_ns
        self.words: dict[str, Word] = dict(state.words)
        self.heard: dict[str, int] = dict(state.heard)
        self.incidents: dict[str, Incident] = dict(state.incidents)
        self.over: dict[str, int] = dict(state.over)
        self.control: list[Control] = []
        self.notes: list[Note] = []
        self.lessons: list[Lesson] = []
        self._told_ns = state.now_ns
        self._acted_ns = state.acted_ns
        self._orders: list[Order] = []
        self._exhibits: list[Exhibit] = []
        self._to_tell: dict[str, None] = {}

    def state(self) -> GovernorState:
        recent = tuple(at for at in self._acted_ns if at > self.now_ns - HOUR_NS)
        return GovernorState(
            self._told_ns, self.words, self.heard, recent, self.incidents, self.over
        )

    def moved(self, told_ns: int) -> None:
        """Time went on, as the findings topic tells it."""
        self._told_ns = max(self._told_ns, told_ns)

    # ---- incidents ------------------------------------------------------------------------

    def put(self, incident: Incident, *, tell: bool = False) -> Incident:
        """Keep a changed incident; ``tell`` lets an alert say so at the end of the step."""
        kept = replace(incident, stage=stage_of(incident))
        known = kept.uid in self.incidents
        self.incidents[kept.uid] = kept
        if not known:
            self.incidents = in_order(self.incidents.values())
        if tell:
            self._to_tell[kept.uid] = None
        return kept

    def forget(self, incident: Incident) -> None:
        """All but that it ordered something: opened anew by the same finding, it would give
        other orders the same ids.
        """
        del self.incidents[incident.uid]
        if incident.steps:
            self.over[incident.uid] = incident.closed_ns

    def tells(self, uid: str) -> bool:
        """Whether an alert of this incident is due at the end of the step."""
        return uid in self._to_tell

    def say(self, incident: Incident, remark: str) -> Incident:
        return self.put(saying(incident, remark), tell=True)

    def note(self, change: str, incident: str, detail: str = "", label: str = "") -> None:
        self.notes.append(Note(change, label or change, incident, detail))

    # ---- evidence -------------------------------------------------------------------------

    def exhibit(
        self, incident: Incident, kind: str, source: str, taken_ns: int, content: bytes
    ) -> Incident:
        """Append to the incident's chain what was said, as it was said."""
        digest = content_hash(content)
        return self._append(incident, Exhibit(
            incident.scope, incident.uid, incident.exhibits, kind, taken_ns, source, digest,
            len(content), incident.head, content,
        ))  # fmt: skip  # one thought

    def submission(self, incident: Incident, source: str, given: Submission) -> Incident:
        """Append a piece of evidence that a responder took; its digest is checked here."""
        detail = given.detail
        if given.content is not None and content_hash(given.content) != given.sha256:
            detail = f"came with digest {given.sha256[:16]}… that does not fit; {detail}"
        digest = given.sha256 if given.content is None else content_hash(given.content)
        return self._append(incident, Exhibit(
            incident.scope, incident.uid, incident.exhibits, given.kind or "unnamed",
            given.taken_ns, source, digest, given.size_bytes, incident.head, given.content,
            given.location, detail,
        ))  # fmt: skip  # one thought

    def _append(self, incident: Incident, exhibit: Exhibit) -> Incident:
        self._exhibits.append(exhibit)
        after = replace(incident, exhibits=incident.exhibits + 1, head=exhibit_hash(exhibit))
        return self.put(after)

    # ---- orders ---------------------------------------------------------------------------

    def refused(self, incident: Incident, action: Action, why: Refusal) -> Incident:
        """A guard said no: told, counted, and left to an operator."""
        self.note("refused", incident.uid, f"{action}: {why.why}", label=why.guard)
        return self.say(replace(incident, proposed=action), why.told(action))

    def attempt(self, case: Case, because: str) -> tuple[Incident, Refusal | None]:
        """Order it, unless a guard speaks against it or the mode asks for an operator."""
        why = refusal(self.state(), self.policy, case)
        incident, action = case.incident, case.action
        if why is not None:
            return self.refused(incident, action, why), why
        if self.policy.mode is Mode.APPROVE and not case.approved:
            self.note("proposed", incident.uid, action)
            remark = (
                f"{action} proposed: approve it with `plimsoll incident approve {incident.uid}`"
            )
            return self.say(replace(incident, proposed=action), remark), None
        return self.order(incident, action, because), None

    def order(self, incident: Incident, action: Action, because: str) -> Incident:
        """One act on the incident's subject, its id fixed by incident, action and step."""
        times = self.policy.times
        until_ns = self.now_ns + _ns(times.ttl_s) if action in CONTAINING else 0
        ordered = self._issue(incident, action, because, until_ns=until_ns)
        self._acted_ns = (*self._acted_ns, self.now_ns)
        return self.put(replace(ordered, proposed=None), tell=True)

    def undo(self, incident: Incident, act: Act, because: str) -> Incident:
        return self._issue(incident, Action.RELEASE, because, undoes=act.order.uid)

    def extend(self, incident: Incident, act: Act, until_ns: int, because: str) -> Incident:
        return self._issue(
            incident, Action.EXTEND, because, undoes=act.order.uid, until_ns=until_ns
        )

    def _issue(
        self, incident: Incident, action: Action, because: str, *, undoes: str = "",
        until_ns: int = 0,
    ) -> Incident:  # fmt: skip  # two lines say as much
        order = Order(
            order_uid(incident.uid, action, incident.steps), incident.scope, incident.uid,
            incident.subject, incident.host, action, self.now_ns,
            self.now_ns + _ns(self.policy.times.deadline_s), until_ns,
            () if action in UNDOING else self.policy.rungs_after(action), undoes,
            because[:1000],
        )  # fmt: skip  # as the fields lie
        self._orders.append(order)
        self.note("ordered", incident.uid, f"{action} {order.uid}", label=action)
        act = Act(order, Answer.WAITING, until_ns=until_ns)
        after = with_act(replace(incident, steps=incident.steps + 1), act)
        return self.exhibit(after, "order", "governor", self.now_ns, encode(order))

    # ---- the end --------------------------------------------------------------------------

    def finish(self) -> Governed:
        alerts = []
        for uid in self._to_tell:
            incident = replace(self.incidents[uid], alerts=self.incidents[uid].alerts + 1)
            self.incidents[uid] = incident
            alerts.append(alert_of(incident, self.now_ns))
        grown = dict.fromkeys(exhibit.incident for exhibit in self._exhibits)
        heads = [self._head(self.incidents[uid]) for uid in grown]
        return Governed(
            self.state(), tuple(self._orders), tuple(alerts), tuple(self._exhibits),
            tuple(heads), tuple(self.control), tuple(self.notes), tuple(self.lessons),
        )  # fmt: skip  # as the fields lie

    def _head(self, incident: Incident) -> Head:
        return Head(incident.scope, incident.uid, incident.exhibits, incident.head, self.now_ns)


def _ns(seconds: float) -> int:
    return int(seconds * SECOND_NS)


def done_word(action: Action) -> str:
    """The action's past form, for a sentence.

    >>> done_word(Action.ISOLATE)
    'isolated'
    """
    return PAST.get(action, {Action.RELEASE: "released"}.get(action, f"{action}ed"))
