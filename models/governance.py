"""The pure step of the governor: one record in; incidents, orders, alerts, evidence out.

Time comes from records alone. What the findings topic says (ticks and findings) moves the
governor's clock, since everyone reads it in one order; a word or an outcome is seen at its
own time, never later than the log had it, and moves nothing. So a governor that takes over
after a crash issues the very same orders, with the same ids, from the same log.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from models.contract import HOST_PREFIX
from models.governor import GovernorState, standing
from models.guards import Case
from models.incident import Answer, Incident, Stage, joined, opened, with_act
from models.ledger import SECOND_NS, Control, Governed, Ledger, done_word
from models.outcomes import hear_outcome, try_again
from models.policy import CONTAINING, Policy
from models.records.codec import encode
from models.records.control import Verb, Word
from models.records.order import Action, Outcome
from models.records.telemetry import Tick
from models.records.verdict import Finding, Level
from models.words import forget_old_words, hear_word

MOST_INCIDENTS: Final = 5_000
"""More at once say nothing that these do not; the rest is noted, and alerted by level."""
OVERDUE_NS: Final = 120 * SECOND_NS
"""An act whose time ran out and whose responder has not said so for this long is over."""
OVER_S: Final = 7 * 86_400.0
"""A finding may come again for as long as telemetry is kept to be judged again."""
FALLEN_TOGETHER: Final = 3
"""So many containers of one host, suspect at once, speak for the host itself."""

Record = Finding | Tick | Outcome | Word


def govern(
    state: GovernorState, record: Record, arrived_ns: int, policy: Policy, raw: bytes = b""
) -> Governed:
    """The state after one record, and what it led to.

    ``arrived_ns`` is when the log took the record in; ``raw`` are its bytes as they came,
    kept as evidence (signed words with their signature); without them it is encoded anew.
    Raises: MalformedRecord for a record whose content cannot become evidence.
    """
    now_ns = max(state.now_ns, min(_time_of(record), arrived_ns))
    ledger = Ledger(state, policy, now_ns)
    content = raw or encode(record)
    if isinstance(record, Finding):
        ledger.moved(now_ns)
        _hear_finding(ledger, record, content)
    elif isinstance(record, Tick):
        ledger.moved(now_ns)
        _pass_time(ledger)
    elif isinstance(record, Outcome):
        hear_outcome(ledger, record)
    else:
        hear_word(ledger, record, arrived_ns, content)
    return ledger.finish()


def _time_of(record: Record) -> int:
    return record.arrived_ns if isinstance(record, Finding) else record.at_ns


# ---- findings -----------------------------------------------------------------------------


def _hear_finding(ledger: Ledger, finding: Finding, content: bytes) -> None:
    verdict, state = finding.verdict, ledger.state()
    before = state.open_on(verdict.scope, verdict.subject)
    if before is None:
        before = _opened(ledger, state, finding)
    if before is None or verdict.uid in before.seen:
        return
    incident = joined(before, finding, ledger.now_ns)
    incident = ledger.exhibit(incident, "finding", "judge", verdict.at_ns, content)
    changed = incident.level is not before.level or incident.families != before.families
    incident = ledger.put(_related(ledger, incident), tell=changed)
    if verdict.level is not Level.QUIET:
        _answer(ledger, incident, finding)


def _opened(ledger: Ledger, state: GovernorState, finding: Finding) -> Incident | None:
    """A new incident for the finding, unless it is quiet or one is not wanted."""
    if finding.verdict.level is Level.QUIET:
        return None
    incident = opened(finding, ledger.now_ns)
    if incident.uid in ledger.incidents or incident.uid in ledger.over:
        return None  # it was closed already; the finding came again
    word = standing(state, Verb.SUPPRESS, incident, ledger.now_ns)
    if word is not None:
        detail = f"{incident.label}: {word.operator} suppressed {word.target}"
        ledger.note("suppressed", incident.uid, detail)
        return None
    if len(ledger.incidents) >= MOST_INCIDENTS and not _made_room(ledger):
        ledger.note("overflow", incident.uid, f"{MOST_INCIDENTS} incidents are open already")
        return None
    ledger.note("opened", incident.uid, f"{incident.label}: {finding.verdict.level}")
    return incident


def _made_room(ledger: Ledger) -> bool:
    over = [one for one in ledger.incidents.values() if not one.open and not one.holding]
    for one in sorted(over, key=lambda one: one.closed_ns)[:1]:
        ledger.forget(one)
    return bool(over)


def _answer(ledger: Ledger, incident: Incident, finding: Finding) -> None:
    """What the policy asks for, if that is not done or under way already."""
    verdict = finding.verdict
    action = ledger.policy.action_for(verdict)
    if action is Action.ANNOTATE or _covered(incident, action):
        return
    case = Case(incident, action, ledger.now_ns, verdict.at_ns, finding.arrived_ns,
                cold=finding.cold)  # fmt: skip  # two lines
    why = "; ".join(reason.text for reason in verdict.reasons[:3])
    ledger.attempt(case, f"{verdict.level}: {why}" if why else verdict.level.value)


def _covered(incident: Incident, action: Action) -> bool:
    """Whether what was ordered so far does at least as much."""
    if any(act.order.action in CONTAINING and act.holds for act in incident.acts):
        return True
    if action is Action.REDEPLOY:
        tried = (Answer.WAITING, Answer.DONE, Answer.UNANSWERED)
        return any(a.order.action is action and a.answer in tried for a in incident.acts)
    return False


def _related(ledger: Ledger, incident: Incident) -> Incident:
    """Name the host's other open incidents; several at once speak for the host."""
    if incident.level.rank < Level.SUSPECT.rank:
        return incident
    others = tuple(
        other.uid for other in ledger.incidents.values()
        if other.host == incident.host and other.scope == incident.scope and other.open
        and other.uid != incident.uid and other.level.rank >= Level.SUSPECT.rank
    )[:16]  # fmt: skip  # one condition a line tells no more
    if others == incident.related:
        return incident
    incident = replace(incident, related=others)
    if len(others) + 1 < FALLEN_TOGETHER or incident.of_host:
        return incident
    remark = f"{len(others) + 1} containers of {HOST_PREFIX}{incident.host} are suspect at once"
    return ledger.say(incident, f"{remark}: look at the host itself")


# ---- time ---------------------------------------------------------------------------------


def _pass_time(ledger: Ledger) -> None:
    for uid in list(ledger.incidents):
        incident = ledger.incidents[uid]
        if incident.open or incident.holding:
            incident = _expire_acts(ledger, _chase(ledger, incident))
        if incident.open:
            _close_if_quiet(ledger, incident)
        elif _forgotten(ledger, incident) and not ledger.tells(uid):
            ledger.forget(incident)
    for uid, closed_ns in list(ledger.over.items()):
        if _passed(ledger.now_ns, closed_ns, OVER_S):
            del ledger.over[uid]
    for key, word in list(ledger.words.items()):
        if word.until_ns and word.until_ns <= ledger.now_ns:
            del ledger.words[key]
            ledger.control.append(Control(key, None))
            ledger.note("word-ended", "", f"{key}, said by {word.operator}")
    forget_old_words(ledger)


def _chase(ledger: Ledger, incident: Incident) -> Incident:
    """Orders that nobody answered: said, and tried once more."""
    wait_ns = int(ledger.policy.times.answer_s * SECOND_NS)
    for act in incident.acts:
        if act.waits and ledger.now_ns > act.order.deadline_ns + wait_ns:
            late = replace(act, answer=Answer.UNANSWERED, answered_ns=ledger.now_ns)
            ledger.note("unanswered", incident.uid, act.order.uid, label=act.order.action)
            why = f"no responder on {act.order.host} answered {act.order.action}"
            incident = ledger.say(with_act(incident, late), why)
            incident = try_again(ledger, incident, late, why)
    return incident


def _expire_acts(ledger: Ledger, incident: Incident) -> Incident:
    for act in incident.acts:
        over = 0 < act.until_ns < ledger.now_ns - OVERDUE_NS
        if act.holds and over and act.order.action in CONTAINING:
            ended = replace(act, answer=Answer.RELEASED, answered_ns=ledger.now_ns)
            remark = f"{done_word(act.action)}: its time ran out, the responder did not confirm it"
            incident = ledger.say(with_act(incident, ended), remark)
    return incident


def _close_if_quiet(ledger: Ledger, incident: Incident) -> None:
    times, now_ns = ledger.policy.times, ledger.now_ns
    if incident.holding or any(act.waits for act in incident.acts):
        return
    quiet = incident.quiet_since_ns and _passed(now_ns, incident.quiet_since_ns, times.quiet_s)
    silent = _passed(now_ns, incident.heard_ns, times.silent_s)
    if not quiet and not silent:
        return
    remark = f"quiet for {times.quiet_s:.0f} s" if quiet else f"silent for {times.silent_s:.0f} s"
    closed = replace(incident, stage=Stage.CLOSED, closed_ns=now_ns, proposed=None)
    ledger.note("closed", incident.uid, remark)
    ledger.say(closed, f"closed: {remark}, and nothing is held")


def _forgotten(ledger: Ledger, incident: Incident) -> bool:
    if incident.holding or any(act.waits for act in incident.acts):
        return False
    return _passed(ledger.now_ns, incident.closed_ns, ledger.policy.times.remember_s)


def _passed(now_ns: int, since_ns: int, seconds: float) -> bool:
    return now_ns - since_ns >= seconds * SECOND_NS


__all__ = ["Governed", "Record", "govern"]
