"""What the governor knows: open incidents, words in force, and how often it has acted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from models.contract import telemetry_key
from models.incident import Incident
from models.records.codec import decode, encode
from models.records.control import Verb, Word

HOUR_NS: Final = 3600 * 10**9
GLOBALS: Final = "g"
INCIDENT: Final = "i/"


@dataclass(frozen=True, slots=True)
class GovernorState:
    """``now_ns`` is the time that the findings topic has told so far, by ticks and findings:
    the same for everyone who reads it. ``words`` are those in force by what they are about
    (``switch``, ``hold/TARGET``, ``suppress/TARGET``); ``heard`` the recently answered ones,
    by uid; ``acted_ns`` the times of the last hour's acts; ``over`` the incidents that
    ordered something and are forgotten but for that, by uid, with when they were closed.
    """

    now_ns: int = 0
    words: dict[str, Word] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    acted_ns: tuple[int, ...] = ()
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    over: dict[str, int] = field(default_factory=dict)

    def open_on(self, scope: str, subject: str) -> Incident | None:
        """The open incident of a subject; there is at most one."""
        for incident in self.incidents.values():
            if incident.subject == subject and incident.scope == scope and incident.open:
                return incident
        return None


def in_order(incidents: Iterable[Incident]) -> dict[str, Incident]:
    """By uid, the first opened first: live as after a restart, so that guards let the same
    ones through.
    """
    ordered = sorted(incidents, key=lambda one: (one.opened_ns, one.uid))
    return {incident.uid: incident for incident in ordered}


@dataclass(frozen=True, slots=True)
class _Globals:
    now_ns: int
    words: dict[str, Word]
    heard: dict[str, int]
    acted_ns: tuple[int, ...]
    over: dict[str, int] = field(default_factory=dict)


def pack(state: GovernorState) -> dict[str, bytes]:
    """Row name → body: one for what is global, one for each incident."""
    whole = _Globals(state.now_ns, state.words, state.heard, state.acted_ns, state.over)
    rows = {INCIDENT + uid: encode(incident) for uid, incident in state.incidents.items()}
    return {GLOBALS: encode(whole), **rows}


def unpack(rows: Mapping[str, bytes]) -> GovernorState:
    """The state of these rows. Raises: MalformedRecord when they are not what pack made."""
    whole = decode(_Globals, rows.get(GLOBALS))
    found = (decode(Incident, body) for name, body in rows.items() if name != GLOBALS)
    return GovernorState(
        whole.now_ns, whole.words, whole.heard, whole.acted_ns,
        in_order(found), whole.over,
    )  # fmt: skip  # as the fields lie


class Packer:
    """``pack`` that encodes only the incidents that have changed since it was last asked."""

    def __init__(self) -> None:
        self._packed: dict[str, tuple[Incident, bytes]] = {}

    def pack(self, state: GovernorState) -> dict[str, bytes]:
        packed = {}
        for uid, incident in state.incidents.items():
            before = self._packed.get(uid)
            fresh = before is None or before[0] is not incident
            packed[uid] = (incident, encode(incident)) if fresh or not before else before
        self._packed = packed
        rows = {INCIDENT + uid: body for uid, (_, body) in packed.items()}
        return {**pack(replace(state, incidents={})), **rows}


# ---- words in force -----------------------------------------------------------------------

SWITCH: Final = "switch"


def standing_key(word: Word) -> str:
    """Under what a word that stays in force is kept, here and on the control-state topic.

    >>> standing_key(Word("w1", "default", Verb.HOLD, "shop/cart", "ann", 10**18))
    'hold/shop/cart'
    """
    return SWITCH if word.verb in (Verb.STOP, Verb.RESUME) else f"{word.verb}/{word.target}"


def targets(incident: Incident) -> tuple[str, ...]:
    """What a hold or suppression of it may name: its subject, its image or its group."""
    group = telemetry_key(incident.scope, incident.lineage, incident.role)
    named = (incident.subject, incident.name, incident.lineage, group, incident.image)
    return tuple(filter(None, named))


def standing(
    state: GovernorState, verb: Verb, incident: Incident, now_ns: int
) -> Word | None:  # fmt: skip  # one line less
    """The hold or suppression that concerns this incident, if any."""
    for target in targets(incident):
        word = state.words.get(f"{verb}/{target}")
        if word is not None and word.until_ns > now_ns:
            return word
    return None
