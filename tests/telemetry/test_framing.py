"""Frames of the fullest host fit a message, and lose nothing."""

from __future__ import annotations

import itertools

import pytest

from models.records import encode
from models.records.facts import (
    Change,
    Connection,
    Direction,
    Fact,
    FileChange,
    Interface,
    Lifecycle,
    Listen,
    Observation,
)
from producers.kafka import MOST_MESSAGE_BYTES
from producers.sources.framing import PLAIN_BYTES, Framing
from tests.telemetry.builders import START_NS, entry

LONG = 2**63 - 1
IPV6 = "fe80:1234:5678:9abc:def0:1234:5678:9abc"
LARGEST: tuple[Fact, ...] = (
    Connection(Direction.INGRESS, IPV6, 65_535, "icmpv6", LONG, LONG, LONG, LONG, LONG, False),
    Interface("x" * 64, LONG, LONG, LONG, LONG),
    Listen(65_535, "icmpv6", IPV6),
    Lifecycle("x" * 64, LONG, False),
)


@pytest.mark.parametrize("fact", LARGEST, ids=lambda fact: str(fact.KIND))
def test_what_is_not_weighed_is_never_heavier_than_taken_for(fact: Fact) -> None:
    """Each connection is encoded once, when it is sent; before that its weight is a bound."""
    assert len(encode(Observation("a" * 64, START_NS, fact))) <= PLAIN_BYTES


def test_frames_of_the_fullest_host_fit_a_message_and_lose_nothing() -> None:
    """What is too large for Kafka is given up: a busy host must not lose its frames."""
    names = tuple(f"feature-{number}" for number in range(13))
    rows = [
        (f"{n:064}", START_NS + n, [1.1e-7 / 3 + n + f for f in range(13)]) for n in range(5_000)
    ]
    file = FileChange("/" + "é" * 2_000, Change.ADDED, True, LONG, START_NS, "a" * 64)
    facts = [
        Observation(f"{n:064}", START_NS, fact) for n in range(900) for fact in (*LARGEST, file)
    ]
    known = [entry(f"{n:064}", "shop/" + "x" * 400) for n in range(1_500)]

    framing = Framing("default", "host", "pool", names)
    made = framing.frames(START_NS, 1.0, rows, facts, known)

    assert max(len(encode(one)) for one in made) < MOST_MESSAGE_BYTES - 4_096
    assert [one.sequence for one in made] == list(range(len(made)))
    assert sum(len(one.samples) for one in made) == len(rows)
    assert list(itertools.chain(*(one.observations for one in made))) == facts
    assert list(itertools.chain(*(one.inventory for one in made))) == known
