"""What a record on the orders topic is to this responder: an order, a refusal, or not ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from models.contract import HOST_PREFIX
from models.errors import Fault, MalformedRecord, UntrustedMessage
from models.records.codec import decode
from models.records.order import Action, Order, Outcome, Status
from models.records.rejected import DeadLetter, dead_letter
from models.records.signed import Signed
from streams.responders.base import About

Clock = Callable[[], int]

SIGNED_BY: Final = "governor"
"""The only role whose orders are carried out."""
SKEW_NS: Final = 300 * 10**9
"""An order from further in the future than this was issued by a clock gone wrong, or kept."""

CONTROLS: Final = (Action.RELEASE, Action.EXTEND)
"""Actions on what an earlier order did; the runner's own business on every platform."""


class Verifier(Protocol):
    """What streams/keys.py offers."""

    def verify(self, signed: Signed, role: str) -> bytes: ...


class Known(Protocol):
    """What is remembered of earlier orders."""

    def digest_of(self, uid: str) -> str | None:
        """The SHA-256 of the payload that this order came with; None when it never came."""


class Why(StrEnum):
    """Why an order was refused: fit for a counter's label."""

    MALFORMED = "malformed"
    FORGED = "forged"
    OTHER_SCOPE = "other-scope"
    OTHER_HOST = "other-host"
    REPLAYED = "replayed"
    LATE = "late"
    MISDATED = "misdated"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Refusal:
    """``order`` is None where the bytes hold none. Only where ``genuine`` does the outcome
    name the order itself: otherwise whoever can write to the topic could have a genuine
    order reported as refused. ``fault`` is set where the bytes are no order of a governor's to
    us at all: they become a dead letter.
    """

    why: Why
    detail: str
    sha256: str
    order: Order | None = None
    genuine: bool = False
    fault: Fault | None = None
    place: str = ""

    def outcome(self, now_ns: int) -> Outcome | None:
        """What to publish; None where nothing says whom it concerns."""
        if self.order is None:
            return None
        order = self.order
        named = order.uid if self.genuine else f"{self.why}/{self.sha256[:16]}"
        return Outcome(
            uid=f"{named}/refused/{self.why}",
            order=named,
            scope=order.scope,
            incident=order.incident,
            subject=order.subject,
            host=order.host,
            action=order.action,
            status=Status.REFUSED,
            at_ns=now_ns,
            detail=f"{self.why}: {self.detail}",
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that holds in every respect, and the digest of the bytes it came in."""

    order: Order
    sha256: str


@dataclass(frozen=True, slots=True)
class Reception:
    """Checks an order before anything of it is believed."""

    trust: Verifier
    scope: str
    hosts: Collection[str]
    about: About
    clock: Clock

    def addressed(self, key: bytes | None) -> bool:
        """Orders are keyed by host: what carries another's key is not for us to read."""
        return (key or b"").decode(errors="replace") in self.hosts

    def received(self, value: bytes | None, known: Known) -> Accepted | Refusal:
        """The order in these bytes, once all of it holds."""
        digest = hashlib.sha256(value or b"").hexdigest()
        try:
            signed = decode(Signed, value)
        except MalformedRecord as fault:
            return _malformed(fault, digest)
        digest = payload_digest(signed.payload)
        try:
            order = decode(Order, self.trust.verify(signed, SIGNED_BY))
        except UntrustedMessage as fault:
            claimed = _claimed(signed.payload)
            return Refusal(Why.FORGED, str(fault), digest, claimed, fault="untrusted")
        except MalformedRecord as fault:
            return _malformed(fault, digest)
        return self._fault(order, digest, known) or Accepted(order, digest)

    def _fault(self, order: Order, digest: str, known: Known) -> Refusal | None:
        if order.scope != self.scope:
            said = f"the order is for scope {order.scope!r}, this responder serves {self.scope!r}"
            return Refusal(Why.OTHER_SCOPE, said, digest, order)
        if order.host not in self.hosts:
            said = f"the order is for host {order.host!r}, sent under the key of another"
            return Refusal(Why.OTHER_HOST, said, digest, order, fault="misplaced", place="host")
        before = known.digest_of(order.uid)
        if before is not None:
            return Refusal(Why.REPLAYED, _replayed(order, before == digest), digest, order)
        return self._misdated(order, digest) or self._unsupported(order, digest)

    def _misdated(self, order: Order, digest: str) -> Refusal | None:
        now_ns = self.clock()
        if now_ns > order.deadline_ns:
            said = f"it came {(now_ns - order.deadline_ns) / 1e9:.1f} s after its deadline"
            return Refusal(Why.LATE, said, digest, order, genuine=True)
        if order.issued_ns > now_ns + SKEW_NS:
            said = f"it was issued {(order.issued_ns - now_ns) / 1e9:.0f} s from now: check clocks"
            return Refusal(Why.MISDATED, said, digest, order, genuine=True)
        return None

    def _unsupported(self, order: Order, digest: str) -> Refusal | None:
        known = order.action in CONTROLS or order.action in self.about.actions
        if known and not order.subject.startswith(HOST_PREFIX):
            return None
        said = f"{self.about.name} does not {order.action} {order.subject[:64]}"
        return Refusal(Why.UNSUPPORTED, said, digest, order, genuine=True)


def letter_of(
    refusal: Refusal, place: tuple[str, int, int], key: bytes | None, value: bytes | None,
    at_ns: int,
) -> DeadLetter | None:  # fmt: skip  # two lines read better than five
    """The dead letter for what is no order of a governor's to us; None for what is one.

    ``place`` is topic, partition and the offset that follows; ``at_ns`` when the log took it in.
    """
    if refusal.fault is None:
        return None
    topic, part, following = place
    return dead_letter(
        topic, part, following - 1, key, value, fault=refusal.fault, reason=refusal.detail,
        place=refusal.place, rejected_by="respond", at_ns=at_ns,
    )  # fmt: skip  # as the record orders it


def _malformed(fault: MalformedRecord, digest: str) -> Refusal:
    return Refusal(Why.MALFORMED, fault.problem, digest, fault=fault.fault, place=fault.place)


def payload_digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _replayed(order: Order, same: bool) -> str:
    if same:
        return f"order {order.uid} was received before; nothing is done twice"
    return f"order {order.uid} was received before with another content"


def _claimed(payload: bytes) -> Order | None:
    """What unsigned bytes say they are: good enough for a trace, and for nothing else."""
    try:
        return decode(Order, payload)
    except MalformedRecord:
        return None
