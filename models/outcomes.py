"""What responders report: an act verified or not, tried again once, or undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from models.guards import Case
from models.incident import MOST_SEEN, Act, Answer, Incident, answered, with_act
from models.ledger import UNDOING, Ledger, done_word
from models.policy import CONTAINING, Mode
from models.records.codec import encode
from models.records.order import Action, Order, Outcome, Status

TRIES: Final = 2
"""An act that failed, or that nobody answered, is ordered so often in all."""
OURS: Final = "ord-"
"""How the ids of our orders begin; a refusal of a forged one goes by another name."""


def hear_outcome(ledger: Ledger, outcome: Outcome) -> None:
    incident = ledger.incidents.get(outcome.incident)
    if incident is None or outcome.subject != incident.subject or outcome.scope != incident.scope:
        why = "no such incident is known" if incident is None else "it is about another subject"
        ledger.note("stray-outcome", outcome.incident, f"{outcome.uid}: {why}")
        return
    if outcome.uid in incident.seen:
        return
    seen = (*incident.seen, outcome.uid)[-MOST_SEEN:]
    incident = replace(incident, seen=seen, heard_ns=ledger.now_ns)
    incident = _as_evidence(ledger, incident, outcome)
    act = incident.act_of(outcome.order)
    if act is None and not outcome.order.startswith(OURS):
        ledger.note("refused-by-responder", incident.uid, outcome.detail)
        ledger.say(incident, f"{outcome.host} refused an order: {outcome.detail}")
        return
    act = act or _adopted(ledger, outcome)
    _answered(ledger, incident, act, outcome)


def _as_evidence(ledger: Ledger, incident: Incident, outcome: Outcome) -> Incident:
    """The outcome, and apart from it each piece that came with it."""
    bare = encode(replace(outcome, submissions=()))
    source = f"responder/{outcome.host}"
    incident = ledger.exhibit(incident, "outcome", source, outcome.at_ns, bare)
    for given in outcome.submissions:
        incident = ledger.submission(incident, source, given)
    return incident


def _adopted(ledger: Ledger, outcome: Outcome) -> Act:
    """An order that went out before a crash, and that the state does not know."""
    ledger.note("adopted", outcome.incident, outcome.order)
    until_ns = outcome.at_ns + int(ledger.policy.times.ttl_s * 1e9)
    order = Order(
        outcome.order, outcome.scope, outcome.incident, outcome.subject, outcome.host,
        outcome.action, outcome.at_ns, outcome.at_ns,
        until_ns if outcome.action in CONTAINING else 0, because="ordered before a restart",
    )  # fmt: skip  # as the fields lie
    return Act(order, until_ns=order.until_ns)


def _answered(ledger: Ledger, incident: Incident, before: Act, outcome: Outcome) -> None:
    act = answered(before, outcome, ledger.now_ns)
    changed = act != before
    incident = with_act(incident, act)
    if _done_after_all(incident, act):
        incident = replace(incident, proposed=None)
    if changed and before.order.action in UNDOING:
        incident = _undoing_done(incident, act)
    calm = act.action in (Action.REDEPLOY, Action.STOP) and act.verified
    if calm and not incident.quiet_since_ns:
        incident = replace(incident, quiet_since_ns=ledger.now_ns)  # it will say nothing more
    incident = ledger.put(incident, tell=changed)
    if changed:
        _note(ledger, incident, act)
    if outcome.status is Status.FAILED and before.answer is not Answer.DONE:
        try_again(ledger, incident, act, f"{act.order.action} failed: {outcome.detail}")


def _done_after_all(incident: Incident, act: Act) -> bool:
    """Whether what an operator was asked for, since it had failed, was done none the less:
    approved then, it would be done twice.
    """
    done = act.answer is Answer.DONE and act.order.action not in UNDOING
    return done and (act.order.action in CONTAINING or act.order.action is incident.proposed)


def _undoing_done(incident: Incident, act: Act) -> Incident:
    """A release or an extension was answered: what it was about changes with it."""
    about = incident.act_of(act.order.undoes)
    if about is None:
        return incident
    if act.order.action is Action.EXTEND and act.answer is Answer.DONE:
        return with_act(incident, replace(about, until_ns=act.order.until_ns))
    if act.order.action is Action.RELEASE and act.answer is Answer.RELEASED:
        released = replace(about, answer=Answer.RELEASED, answered_ns=act.answered_ns)
        return with_act(incident, released)
    return incident


def _note(ledger: Ledger, incident: Incident, act: Act) -> None:
    verified = {True: "verified", False: "NOT verified", None: ""}[act.verified]
    detail = f"{done_word(act.action)} {act.answer} {verified} {act.detail}"
    ledger.note("answered", incident.uid, detail, label=act.answer)


def try_again(ledger: Ledger, incident: Incident, act: Act, why: str) -> Incident:
    """Order it once more under a new step; then an operator has to look."""
    action = act.order.action
    if action is Action.RELEASE:
        remark = f"{why}; release it at {act.order.host} by hand if it does not follow"
        return ledger.say(incident, remark)
    if action in UNDOING or not incident.open:
        return ledger.say(incident, why)
    if any(other.stands for other in incident.acts if other.order.action is action):
        return ledger.say(incident, why)  # it was ordered once more already
    if _failures(incident.acts, action) >= TRIES:
        return ledger.say(incident, f"{why}; tried {TRIES} times, act by hand")
    # In mode approve a person has approved this very act already.
    approved = ledger.policy.mode is Mode.APPROVE
    case = Case(
        incident, action, ledger.now_ns, incident.last_ns, incident.last_ns, approved=approved
    )
    incident, refused = ledger.attempt(case, f"once more: {why}")
    return incident if refused else ledger.say(incident, f"{why}; ordered once more")


def _failures(acts: Sequence[Act], action: Action) -> int:
    failed = (Answer.FAILED, Answer.UNANSWERED)
    return sum(act.order.action is action and act.answer in failed for act in acts)
