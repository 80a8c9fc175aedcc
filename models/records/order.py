"""A signed instruction to one responder, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.records import checks


class Action(StrEnum):
    ANNOTATE = "annotate"
    ISOLATE = "isolate"
    PAUSE = "pause"
    STOP = "stop"
    REDEPLOY = "redeploy"
    RELEASE = "release"
    EXTEND = "extend"


@dataclass(frozen=True, slots=True)
class Order:
    """One action on one subject. ``uid`` is the nonce. A responder refuses it after
    ``deadline_ns``; what it did ends by itself at ``until_ns`` (0: never, for actions that
    undo or end nothing). ``ladder`` is what to try, in turn, if it cannot be verified.
    ``undoes`` names the order that a release or an extension is about.
    """

    uid: str
    scope: str
    incident: str
    subject: str
    host: str
    action: Action
    issued_ns: int
    deadline_ns: int
    until_ns: int = 0
    ladder: tuple[Action, ...] = ()
    undoes: str = ""
    because: str = ""

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        checks.name(self.uid, "uid", checks.LONGEST_NAME // 2)  # outcomes are named after it
        for field in ("incident", "subject", "host"):
            checks.name(getattr(self, field), field)
        checks.time(self.issued_ns, "issued_ns")
        checks.time(self.deadline_ns, "deadline_ns")


class Status(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    RELEASED = "released"  # its time ran out, or a release was carried out


@dataclass(frozen=True, slots=True)
class Check:
    """One look at whether an action worked."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """A piece of evidence on its way to the chain: its digest, and itself where small."""

    kind: str
    sha256: str
    size_bytes: int
    taken_ns: int
    content: bytes | None = None
    location: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order. ``uid`` derives from order, status and attempt. ``verified``
    is None where there is nothing to verify; ``took_s`` runs from the order's arrival at the
    responder to the end of the verification. ``action`` is what was really done, which
    differs from the order's after an escalation.
    """

    uid: str
    order: str
    scope: str
    incident: str
    subject: str
    host: str
    action: Action
    status: Status
    at_ns: int
    detail: str = ""
    verified: bool | None = None
    took_s: float = 0.0
    checks: tuple[Check, ...] = ()
    submissions: tuple[Submission, ...] = ()
    replacement: str = ""

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        for field in ("uid", "order", "incident", "subject", "host"):
            checks.name(getattr(self, field), field)
        checks.time(self.at_ns, "at_ns")
