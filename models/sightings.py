"""Observations → facts remembered, and rare ones noted on the container that showed them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from models.detection import Detection
from models.detectors import identity, rarity
from models.detectors.rarity import PLACES, PROOF, STRONG, WEAK, Told
from models.learning import learning
from models.lineage import Case, LineageState, Recent
from models.records.facts import (
    BootIdentity,
    Connection,
    Coverage,
    Direction,
    Exec,
    Lifecycle,
    Observation,
)
from models.records.telemetry import Member, Sightings
from models.records.verdict import Family, Level

MOST_RECENTS: Final = 512
CRASHES: Final = 3
CRASH_WINDOW_NS: Final = 300 * 10**9
_SETTLED_NS: Final = 60 * 10**9
_ENDINGS: Final = frozenset({"die", "stop", "destroy", "kill", "gone"})
_ASKED_FOR: Final = frozenset({0, 130, 137, 143})
"""Exit codes of a container that was told to stop."""


def notice(state: LineageState, record: Sightings, detection: Detection) -> list[str]:
    """Let observations into the facts; the subjects that showed something rare."""
    members = {member.subject: member for member in record.members}
    state.members.met(record.members, record.at_ns)
    touched: dict[str, None] = {}
    for observation in record.observations:
        if _noticed(state, observation, members[observation.subject], detection):
            touched[observation.subject] = None
    return list(touched)


def _noticed(state: LineageState, seen: Observation, member: Member,
             detection: Detection) -> bool:  # fmt: skip  # two lines
    fact, subject = seen.fact, seen.subject
    if isinstance(fact, BootIdentity):
        return _start(state, seen, fact, member, detection)
    if isinstance(fact, Lifecycle):
        return _lifecycle(state, seen, fact)
    if isinstance(fact, Coverage):
        text = f"we see less of it: {fact.problem} {fact.detail}".rstrip()
        less = Told(f"coverage {fact.problem}", Family.COVERAGE, WEAK, text)
        return not fact.until_ns and _note(state, seen, less, 1.0)
    facts, told = state.facts, rarity.told(fact)
    rare, peer = False, told[0].key if told else ""
    for one in told:
        kind = one.key.partition(" ")[0]
        # Where a known peer is, is no news, and a port is dismissed with the peer it belongs to.
        known = facts.normal(one.key) or (kind in PLACES and facts.normal(peer))
        if known or (kind == "port" and peer in facts.dismissed):
            facts.sight(one.key, subject)
        else:
            rare |= _new(state, seen, one, detection)
    return rare


def _new(state: LineageState, seen: Observation, told: Told, detection: Detection) -> bool:
    """Something that is not normal here. Whoever is condemned teaches nothing new."""
    facts, subject = state.facts, seen.subject
    case = state.cases.get(subject)
    rare = facts.rarity(told.key, subject, siblings(state))
    if (case is None or case.level < Level.SUSPECT.rank) and subject not in state.lessons.barred:
        facts.sight(told.key, subject)
    spoken = isinstance(seen.fact, Exec) or told.grade == PROOF
    if learning(state, detection) and not spoken:
        return False
    if rare < detection.rare and not learning(state, detection):
        return False
    return _note(state, seen, _graded(state, told, detection), rare)


def _graded(state: LineageState, told: Told, detection: Detection) -> Told:
    """While learning nothing proves; where nobody ever runs commands, one is suspect."""
    if learning(state, detection):
        return replace(told, grade=WEAK)
    if told.key.startswith("exec ") and not state.facts.any_normal("exec"):
        return replace(told, grade=STRONG)
    return told


def siblings(state: LineageState) -> int:
    """How many others there are besides any one."""
    return max(len(state.members) - 1, 0)


def _note(state: LineageState, seen: Observation, told: Told, rare: float) -> bool:
    case = state.cases.setdefault(seen.subject, Case())
    old = case.recents.get(told.key)
    if old is None and len(case.recents) >= MOST_RECENTS:
        return True
    recent = old or Recent(told.family, told.grade, rare, told.text, seen.at_ns, seen.at_ns, 0)
    fact = seen.fact
    egress = isinstance(fact, Connection) and fact.direction is Direction.EGRESS
    sent = fact.sent_bytes if isinstance(fact, Connection) and egress else 0
    silent = isinstance(fact, Connection) and not fact.answered
    case.recents[told.key] = replace(
        recent, last_ns=max(recent.last_ns, seen.at_ns), times=recent.times + 1,
        grade=max(recent.grade, told.grade), sent_bytes=recent.sent_bytes + sent,
        unanswered=recent.unanswered + silent,
    )  # fmt: skip  # short enough
    return True


def _start(state: LineageState, seen: Observation, boot: BootIdentity, member: Member,
           detection: Detection) -> bool:  # fmt: skip  # two lines
    """A container starts: as its image always has?"""
    image = state.images[member.image]
    aspects = identity.changed(image.starts, boot)
    settled = seen.at_ns - image.first_ns >= _SETTLED_NS and not learning(state, detection)
    if not aspects or not settled:
        identity.learn(image.starts, boot)
        return False
    grade = identity.grade(aspects)
    if grade < PROOF:  # another release's settings or folders: said once
        identity.learn(image.starts, boot)
    text = identity.told(aspects, boot)
    return _note(state, seen, Told(f"boot {aspects[0]}", Family.IDENTITY, grade, text), 1.0)


def _lifecycle(state: LineageState, seen: Observation, fact: Lifecycle) -> bool:
    if fact.event in _ENDINGS:
        state.cases.setdefault(seen.subject, Case()).silent = True
    if fact.out_of_memory or fact.event == "oom":
        text = "ran out of memory"
        return _note(state, seen, Told("oom", Family.RESOURCE, STRONG, text), 1.0)
    if fact.event != "die" or fact.exit_code in _ASKED_FOR or fact.exit_code is None:
        return False
    return _crashed(state, seen, fact.exit_code)


def _crashed(state: LineageState, seen: Observation, exit_code: int) -> bool:
    """One bad end is bad luck; several in a few minutes are a loop."""
    case = state.cases.setdefault(seen.subject, Case())
    old = case.recents.get("crash")
    if old and seen.at_ns - old.first_ns > CRASH_WINDOW_NS:
        del case.recents["crash"]
        old = None
    times = old.times + 1 if old else 1
    grade = STRONG if times >= CRASHES else WEAK
    text = f"ended by itself with exit code {exit_code}, {times} times in five minutes"
    case.recents.pop("crash", None)
    _note(state, seen, Told("crash", Family.RESOURCE, grade, text), 1.0)
    made = case.recents["crash"]
    case.recents["crash"] = replace(
        made, times=times, first_ns=old.first_ns if old else made.first_ns
    )
    return True
