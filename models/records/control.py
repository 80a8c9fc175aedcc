"""Operators' words: what a person decides, signed with a key that has a role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.records import checks


class Verb(StrEnum):
    """What a word does; ``target`` is an incident, a group, a subject or empty."""

    APPROVE = "approve"  # incident: carry out what policy proposed
    RELEASE = "release"  # incident: undo what was done
    CONFIRM = "confirm"  # incident: it was real; nothing of it is ever learned
    DISMISS = "dismiss"  # incident: false alarm; release, close, learn it until until_ns
    SUPPRESS = "suppress"  # group or subject: no new incidents until until_ns
    HOLD = "hold"  # group or subject: no orders until until_ns
    EXTEND = "extend"  # incident: keep what was done until until_ns
    STOP = "stop"  # kill switch: no orders at all
    RESUME = "resume"  # kill switch off


@dataclass(frozen=True, slots=True)
class Word:
    uid: str
    scope: str
    verb: Verb
    target: str
    operator: str
    at_ns: int
    until_ns: int = 0
    because: str = ""

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        checks.name(self.uid, "uid")
        checks.name(self.operator, "operator")
        checks.optional_name(self.target, "target")
        checks.time(self.at_ns, "at_ns")
