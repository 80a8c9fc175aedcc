"""What a record on the orders topic is taken for, before anything of it is believed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from models.records.codec import encode
from models.records.order import Action, Order, Status
from streams.keys import Role
from streams.responders.reception import (
    Accepted,
    Reception,
    Refusal,
    Why,
    letter_of,
    payload_digest,
)
from streams.responders.simulated import ABOUT
from tests.responding import HOST, NOW_NS, Clock, S, forged, order, signed, signer, trusting

GOVERNOR, OPERATOR = signer("governor"), signer("operator")


@dataclass
class Known:
    """What was received before."""

    digests: dict[str, str] = field(default_factory=dict)

    def digest_of(self, uid: str) -> str | None:
        return self.digests.get(uid)


@pytest.fixture
def desk() -> Reception:
    clock = Clock()
    trust = trusting(clock, (GOVERNOR, Role.GOVERNOR), (OPERATOR, Role.OPERATOR))
    return Reception(trust, "default", (HOST,), ABOUT, clock)


def refused(desk: Reception, value: bytes | None, known: Known | None = None) -> Refusal:
    found = desk.received(value, known or Known())
    assert isinstance(found, Refusal)
    return found


def test_a_genuine_order_is_taken_with_the_digest_of_its_bytes(desk: Reception) -> None:
    one = order()
    found = desk.received(signed(GOVERNOR, one), Known())
    assert found == Accepted(one, payload_digest(encode(one)))


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff\xfe", b'{"v":1,"key":"k"}'])
def test_bytes_that_are_no_order_are_refused_without_an_outcome(
    desk: Reception, value: bytes | None
) -> None:
    """Nothing in them says whom an outcome would concern."""
    found = refused(desk, value)
    assert found.why is Why.MALFORMED
    assert found.outcome(NOW_NS) is None


@pytest.mark.parametrize(
    ("value", "fault", "place"),
    [
        (b"\xff\xfe", "undecodable", ""),
        (b'{"v":1,"key":"k","signature":7}', "mistyped", "signature"),
        (signed(signer(), order()), "untrusted", ""),
        (signed(GOVERNOR, order(host="another")), "misplaced", "host"),
    ],
)
def test_what_is_no_order_to_us_is_a_dead_letter_with_its_reason(
    desk: Reception, value: bytes, fault: str, place: str
) -> None:
    """A line in the log of one host is gone with that host."""
    found = refused(desk, value)
    letter = letter_of(found, ("orders", 2, 8), HOST.encode(), value, NOW_NS)
    assert letter is not None
    assert (letter.topic, letter.partition, letter.offset) == ("orders", 2, 7)
    assert (letter.fault, letter.place, letter.rejected_by) == (fault, place, "respond")
    assert (letter.kept, letter.reason) == (value, found.detail)


def test_an_order_that_is_answered_is_no_dead_letter(desk: Reception) -> None:
    """It could be read and believed: its outcome says why it was refused."""
    late = refused(desk, signed(GOVERNOR, order(deadline_ns=NOW_NS - 1)))
    assert letter_of(late, ("orders", 0, 1), HOST.encode(), b"", NOW_NS) is None


def test_a_signature_counts_for_its_own_bytes_alone(desk: Reception) -> None:
    assert refused(desk, forged(GOVERNOR, order(), order(Action.STOP))).why is Why.FORGED


def test_an_operators_key_signs_no_orders(desk: Reception) -> None:
    """Operators speak to the governor, whose guards come first."""
    assert refused(desk, signed(OPERATOR, order())).why is Why.FORGED


def test_a_strangers_key_signs_nothing(desk: Reception) -> None:
    assert refused(desk, signed(signer(), order())).why is Why.FORGED


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (order(scope="staging"), Why.OTHER_SCOPE),
        (order(host="another"), Why.OTHER_HOST),
        (order(deadline_ns=NOW_NS - 1), Why.LATE),
        (order(issued_ns=NOW_NS + 301 * S, deadline_ns=NOW_NS + 400 * S), Why.MISDATED),
        (order(subject="host/machine"), Why.UNSUPPORTED),
    ],
)
def test_what_is_not_for_here_and_now_is_refused(desk: Reception, one: Order, why: Why) -> None:
    assert refused(desk, signed(GOVERNOR, one)).why is why


@pytest.mark.parametrize("digest", ["same", "other"])
def test_an_order_that_came_before_is_a_replay(desk: Reception, digest: str) -> None:
    """The order id is the nonce, whatever else the bytes say."""
    one = order()
    known = Known({one.uid: payload_digest(encode(one)) if digest == "same" else "0" * 64})
    found = refused(desk, signed(GOVERNOR, one), known)
    assert found.why is Why.REPLAYED
    assert ("another content" in found.detail) == (digest == "other")


def test_a_replay_cannot_have_the_real_order_reported_as_refused(desk: Reception) -> None:
    """Else whoever can write to the topic could unsettle the governor at will."""
    one = order()
    outcome = refused(desk, signed(GOVERNOR, one), Known({one.uid: "0" * 64})).outcome(NOW_NS)
    assert outcome is not None
    assert outcome.order != one.uid
    assert (outcome.incident, outcome.status) == (one.incident, Status.REFUSED)


def test_a_late_order_is_answered_by_its_name(desk: Reception) -> None:
    """The governor waits for it, and must learn that nothing was done."""
    one = order(deadline_ns=NOW_NS - 1)
    outcome = refused(desk, signed(GOVERNOR, one)).outcome(NOW_NS)
    assert outcome is not None
    assert (outcome.order, outcome.status) == (one.uid, Status.REFUSED)


def test_only_our_own_key_is_read(desk: Reception) -> None:
    assert desk.addressed(HOST.encode())
    assert not desk.addressed(b"another")
    assert not desk.addressed(None)
    assert not desk.addressed(b"\xff")
