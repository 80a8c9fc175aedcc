"""The chain: any change, loss, reordering or truncation is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evidence import Head, content_hash, exhibit_hash, verify
from models.records.codec import decode, encode
from models.records.exhibit import Exhibit
from tests.core.governing import START_NS


def chain_of(*contents: bytes, start: tuple[Exhibit, ...] = ()) -> tuple[Exhibit, ...]:
    chain = list(start)
    for content in contents:
        previous = exhibit_hash(chain[-1]) if chain else ""
        chain.append(
            Exhibit(
                "default", "inc-1", len(chain), "finding", START_NS + len(chain), "judge",
                content_hash(content), len(content), previous, content,
            )
        )  # fmt: skip  # as the fields lie
    return tuple(chain)


def head_of(chain: tuple[Exhibit, ...]) -> Head:
    return Head("default", "inc-1", len(chain), exhibit_hash(chain[-1]), START_NS)


FOUR = chain_of(b"a", b"b", b"c", b"d")


def test_a_whole_chain_holds_however_often_it_was_sent() -> None:
    """At-least-once delivery must not look like tampering."""
    heads = [head_of(FOUR[:2]), head_of(FOUR), head_of(FOUR)]

    verified = verify((*FOUR, *FOUR[1:]), heads)

    assert verified.holds
    assert [one.sequence for one in verified.chain] == [0, 1, 2, 3]


@given(st.data())
def test_any_change_of_any_field_is_found(data: st.DataObject) -> None:
    """An exhibit that can be edited is a story."""
    at = data.draw(st.integers(0, 3))
    changes: list[dict[str, object]] = [
        {"content": b"x"}, {"sha256": "0" * 64}, {"kind": "outcome"}, {"source": "x"},
        {"taken_ns": START_NS + 99}, {"detail": "x"}, {"location": "x"}, {"size_bytes": 9},
        {"incident": "inc-2"}, {"scope": "other"}, {"sequence": 7}, {"previous": "1" * 64},
    ]  # fmt: skip  # every field
    changed = replace(FOUR[at], **data.draw(st.sampled_from(changes)))  # type: ignore[arg-type]  # by name

    exhibits = (*FOUR[:at], changed, *FOUR[at + 1 :])

    assert not verify(exhibits, [head_of(FOUR)]).holds


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_lost_exhibit_is_found_and_named(lost: int) -> None:
    """The one that is missing is the one that was worth removing."""
    verified = verify(FOUR[:lost] + FOUR[lost + 1 :], [head_of(FOUR)])

    assert not verified.holds
    assert any(one.sequence == lost and "missing" in one.problem for one in verified.chain)


def test_a_chain_cut_off_at_its_end_is_found() -> None:
    """The signed head outlives what it vouches for; an alert outlives a head."""
    assert not verify(FOUR[:3], [head_of(FOUR[:3]), head_of(FOUR)]).holds
    assert verify(FOUR[:3], [head_of(FOUR[:3])]).holds
    assert not verify(FOUR[:3], [head_of(FOUR[:3])], witnesses=[head_of(FOUR)]).holds


def test_a_chain_made_anew_is_found_by_what_the_alerts_said() -> None:
    """Whoever holds the governor's key can sign another story, not unsay the first."""
    forged = chain_of(b"a", b"x", b"c", b"d")

    assert verify(forged, [head_of(forged)]).holds
    assert not verify(forged, [head_of(forged)], witnesses=[head_of(FOUR)]).holds


def test_without_a_signed_head_nothing_holds() -> None:
    """Hashes alone prove only that somebody can compute hashes."""
    assert not verify(FOUR, []).holds
    assert not verify((), []).holds


def test_an_exhibit_put_beside_the_chain_is_found() -> None:
    """Nobody but the governor appends."""
    planted = chain_of(b"planted", start=FOUR[:2])[-1]

    verified = verify((*FOUR, planted), [head_of(FOUR)])

    assert not verified.holds
    assert [one.sequence for one in verified.others if one.problem] == [2]


def test_what_a_restart_appended_in_another_order_is_no_tampering() -> None:
    """A governor killed before its commit reads again, and interleaves anew."""
    other = chain_of(b"c", b"b", start=FOUR[:1])

    verified = verify((*other, *FOUR), [head_of(other), head_of(FOUR)])

    assert verified.holds
    assert len(verified.others) == 2


def test_the_hash_outlives_the_wire_format() -> None:
    """Evidence is kept for years: this very hash must come out of this very exhibit."""
    kept = Exhibit("default", "inc-1", 0, "finding", START_NS, "judge", "a" * 64, 3)

    assert exhibit_hash(kept) == exhibit_hash(decode(Exhibit, encode(kept)))
    assert exhibit_hash(kept).startswith("75ae153f22ee53ee")
