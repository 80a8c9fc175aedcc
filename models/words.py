"""What operators say: every word is answered, and every answer says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from models.governor import SWITCH, standing_key, targets
from models.guards import Case
from models.incident import Act, Answer, Incident, Stage
from models.ledger import SECOND_NS, Control, Ledger, done_word
from models.policy import CONTAINING, Mode
from models.records.codec import encode
from models.records.control import Verb, Word
from models.records.order import Action
from models.tutor import lesson_of, told

SKEW_NS: Final = 600 * SECOND_NS
"""A word that reaches the log further from its own time than this is a replay, or was said
by a clock gone wrong."""
LONGEST_NS: Final = 30 * 86_400 * SECOND_NS


@dataclass(frozen=True, slots=True)
class WordAnswer:
    """On the control-state topic under ``word/UID``, for an hour or so: whoever gave the
    word reads here what came of it.
    """

    word: str
    verb: Verb
    target: str
    operator: str
    accepted: bool
    detail: str
    at_ns: int


class _No(Exception):
    """The word changes nothing; the message says why."""


def answer_key(uid: str) -> str:
    return f"word/{uid}"


def hear_word(ledger: Ledger, word: Word, arrived_ns: int, content: bytes) -> None:
    """Carry out a word whose signature held, once; answer it in any case."""
    if word.uid in ledger.heard:
        ledger.note("word-repeated", word.target, word.uid)
        return
    ledger.heard[word.uid] = max(word.at_ns, ledger.now_ns)
    try:
        _check_age(word, arrived_ns)
        detail, accepted = _VERBS[word.verb](ledger, word, content), True
    except _No as no:
        detail, accepted = str(no), False
    ledger.note("word" if accepted else "word-refused", word.target,
                f"{word.verb} by {word.operator}: {detail}", label=word.verb)  # fmt: skip  # short
    answer = WordAnswer(
        word.uid, word.verb, word.target, word.operator, accepted, detail, ledger.now_ns
    )
    ledger.control.append(Control(answer_key(word.uid), encode(answer)))


def _check_age(word: Word, arrived_ns: int) -> None:
    age_s = (arrived_ns - word.at_ns) / 1e9
    if abs(age_s) * SECOND_NS > SKEW_NS:
        raise _No(f"it was said {age_s:.0f} s before it came: say it again, or check the clocks")


def forget_old_words(ledger: Ledger) -> None:
    """Replays are refused by their age, so answered words need no longer memory than that."""
    for uid, at_ns in list(ledger.heard.items()):
        if ledger.now_ns - at_ns > 6 * SKEW_NS:
            del ledger.heard[uid]
            ledger.control.append(Control(answer_key(uid), None))


# ---- about one incident -------------------------------------------------------------------


def _concerned(ledger: Ledger, word: Word, content: bytes) -> Incident:
    incident = ledger.incidents.get(word.target)
    if incident is None or incident.scope != word.scope:
        raise _No(f"incident {word.target!r} is not known, or was closed long ago")
    incident = replace(incident, heard_ns=ledger.now_ns)
    return ledger.exhibit(incident, "word", f"operator/{word.operator}", word.at_ns, content)


def _approve(ledger: Ledger, word: Word, content: bytes) -> str:
    incident = _concerned(ledger, word, content)
    action = incident.proposed
    if not incident.open or action is None:
        raise _No(f"nothing is proposed for {incident.uid}, it is {incident.stage}")
    if ledger.policy.mode is Mode.OBSERVE:
        raise _No("the policy's mode is observe: nothing is ordered")
    case = Case(incident, action, ledger.now_ns, incident.last_ns, incident.last_ns, approved=True)
    _, refused = ledger.attempt(case, f"approved by {word.operator}{_because(word)}")
    if refused is not None:
        raise _No(refused.why)
    return f"{action} ordered on {incident.label}, host {incident.host}"


def _release(ledger: Ledger, word: Word, content: bytes) -> str:
    incident = _concerned(ledger, word, content)
    undone = _undo_all(ledger, incident, word)
    if not undone:
        raise _No(f"nothing is held for {incident.uid}, it is {incident.stage}")
    return undone


def _undo_all(ledger: Ledger, incident: Incident, word: Word) -> str:
    """Release whatever we did; empty when there is nothing. Later findings of the incident
    order nothing any more: a person has decided.
    """
    held = [act for act in incident.acts if _can_be_undone(act)]
    for act in held:
        incident = ledger.undo(incident, act, f"released by {word.operator}{_because(word)}")
    if held:
        incident = replace(incident, ended_by=word.operator, proposed=None)
        ledger.say(incident, f"release ordered by {word.operator}{_because(word)}")
    return ", ".join(f"release of {act.action} ordered on {incident.label}" for act in held)


def _can_be_undone(act: Act) -> bool:
    if act.order.action is Action.REDEPLOY:
        return act.answer in (Answer.DONE, Answer.WAITING)
    return act.holds


def _confirm(ledger: Ledger, word: Word, content: bytes) -> str:
    incident = _concerned(ledger, word, content)
    incident = replace(incident, confirmed_by=word.operator)
    ledger.say(incident, f"confirmed by {word.operator}{_because(word)}")
    return f"{incident.uid} is confirmed{_taught(ledger, incident, word)}"


def _taught(ledger: Ledger, incident: Incident, word: Word) -> str:
    """Let the judge learn from the word; what it is told, for the answer."""
    lesson = lesson_of(incident, word, ledger.now_ns)
    if lesson is None:
        return ""
    ledger.lessons.append(lesson)
    return f"; {told(lesson)}"


def _dismiss(ledger: Ledger, word: Word, content: bytes) -> str:
    incident = _concerned(ledger, word, content)
    if not incident.open:
        raise _No(f"{incident.uid} is {incident.stage} already")
    undone = _undo_all(ledger, incident, word)
    incident = ledger.incidents[incident.uid]
    dismissed = replace(
        incident, stage=Stage.DISMISSED, closed_ns=ledger.now_ns, ended_by=word.operator,
        proposed=None,
    )  # fmt: skip  # as the fields lie
    ledger.say(dismissed, f"dismissed by {word.operator}{_because(word)}")
    ledger.note("closed", incident.uid, "dismissed")
    taught = _taught(ledger, incident, word)
    return f"{incident.uid} is dismissed{taught}" + (f"; {undone}" if undone else "")


def _extend(ledger: Ledger, word: Word, content: bytes) -> str:
    incident = _concerned(ledger, word, content)
    _check_until(ledger, word)
    held = [a for a in incident.acts if a.answer is Answer.DONE and a.order.action in CONTAINING]
    if not held:
        raise _No(f"nothing is held for {incident.uid}, it is {incident.stage}")
    for act in held:
        why = f"extended by {word.operator}{_because(word)}"
        incident = ledger.extend(incident, act, word.until_ns, why)
    ledger.say(incident, f"extension ordered by {word.operator}{_because(word)}")
    return ", ".join(f"extension of {done_word(act.action)} ordered" for act in held)


# ---- standing words -----------------------------------------------------------------------


def _stop(ledger: Ledger, word: Word, _content: bytes) -> str:
    _stand(ledger, word)
    return "no orders are given any more, until resume; what is held stays held"


def _resume(ledger: Ledger, word: Word, _content: bytes) -> str:
    if ledger.words.pop(SWITCH, None) is None:
        raise _No("orders are not stopped")
    ledger.control.append(Control(standing_key(word), None))
    return "orders are given again, from the next finding on"


def _hold_or_suppress(ledger: Ledger, word: Word, _content: bytes) -> str:
    if not word.target:
        raise _No(f"{word.verb} needs a target: a subject, an image, or a group")
    if word.until_ns <= ledger.now_ns:
        if ledger.words.pop(standing_key(word), None) is None:
            raise _No("its end lies in the past, and nothing is in force to be lifted")
        ledger.control.append(Control(standing_key(word), None))
        return f"{word.verb} of {word.target} is lifted"
    _check_until(ledger, word)
    _stand(ledger, word)
    what = "no orders" if word.verb is Verb.HOLD else "no new incidents"
    known = any(word.target in targets(incident) for incident in ledger.incidents.values())
    doubt = "" if known else " (no incident is about it: check its spelling)"
    return f"{what} for {word.target} for {(word.until_ns - ledger.now_ns) / 1e9:.0f} s{doubt}"


def _stand(ledger: Ledger, word: Word) -> None:
    key = standing_key(word)
    ledger.words[key] = word
    ledger.control.append(Control(key, encode(word)))


def _check_until(ledger: Ledger, word: Word) -> None:
    if not ledger.now_ns < word.until_ns <= ledger.now_ns + LONGEST_NS:
        raise _No(f"its end must lie within the next {LONGEST_NS // (86_400 * SECOND_NS)} days")


def _because(word: Word) -> str:
    return f": {word.because[:300]}" if word.because else ""


_VERBS: Final[Mapping[Verb, Callable[[Ledger, Word, bytes], str]]] = {
    Verb.APPROVE: _approve,
    Verb.RELEASE: _release,
    Verb.CONFIRM: _confirm,
    Verb.DISMISS: _dismiss,
    Verb.EXTEND: _extend,
    Verb.STOP: _stop,
    Verb.RESUME: _resume,
    Verb.HOLD: _hold_or_suppress,
    Verb.SUPPRESS: _hold_or_suppress,
}
