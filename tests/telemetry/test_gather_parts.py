"""The small parts of gather: what may be committed, what is missing, when it is time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from models.errors import MalformedRecord
from models.records import encode
from models.records.facts import Coverage, Observation, Program
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from producers.gather.incoming import Incoming
from producers.gather.intake import read_frame
from producers.gather.ledger import Ledger
from producers.gather.loop import Gather
from producers.gather.ticker import Ticker
from producers.gather.watch import Watch
from producers.meters import GatherMeters
from producers.settings import load
from tests.telemetry.builders import NS, START_NS, entry, frame

AHEAD_NS = 300 * NS


def incoming(value: bytes | None, key: bytes | None = b"h1") -> Incoming:
    return Incoming("samples", 0, 7, START_NS, key, value)


# ---- ready --------------------------------------------------------------------------------


def test_a_gather_whose_partitions_are_gone_says_so() -> None:
    """One that waits for them for ever must not look as if it had nothing to do."""
    gather = Gather(load(kafka={"bootstrap": "127.0.0.1:1"}), lambda: START_NS, GatherMeters())
    gather._partitions[gather.topics.samples] = 4  # what it asks Kafka for at its start
    mine = [TopicPartition(gather.topics.samples, 2)]
    consumer: Any = None  # asked only where reading is paused

    gather._on_assign(consumer, mine)  # as the client calls it
    assert gather._waits() == ""  # what /readyz answers
    gather._on_lost(consumer, mine)  # as the client calls it
    assert "shares out the partitions" in gather._waits()  # what /readyz answers


# ---- ledger -------------------------------------------------------------------------------


def test_an_offset_counts_only_after_all_before_it() -> None:
    """Committed too early, a crash would lose what had not been delivered."""
    ledger = Ledger()
    first = ledger.current
    first.took("samples", 0, 10)
    first.hold()
    second = ledger.open()
    second.took("samples", 0, 11)
    ledger.open()
    assert ledger.advance() == {}, "the first is not delivered"
    first.release()
    assert ledger.advance() == {("samples", 0): 12}
    assert ledger.advance() == {}


def test_a_lot_waits_for_what_went_on_in_a_later_one() -> None:
    """Telemetry held back for its inventory belongs to the offset that it came with."""
    ledger = Ledger()
    first = ledger.current
    first.took("samples", 0, 10)
    first.hold()  # held back
    second = ledger.open()
    second.took("samples", 0, 11)
    second.hold()  # a record made of both
    second.behind.append(first)
    ledger.open()
    assert ledger.advance() == {}
    second.release()
    assert ledger.advance() == {("samples", 0): 12}


def test_partitions_that_were_taken_away_are_not_committed() -> None:
    """Their new owner may be further already."""
    ledger = Ledger()
    ledger.current.took("samples", 0, 10)
    ledger.current.took("samples", 1, 20)
    ledger.forget({("samples", 0)})
    ledger.open()
    assert ledger.advance() == {("samples", 1): 21}


# ---- watch --------------------------------------------------------------------------------


def problems(facts: tuple[Coverage, ...]) -> list[tuple[str, int]]:
    return [(fact.problem, fact.missing) for fact in facts]


def test_missing_frames_are_counted() -> None:
    """What we did not see is part of what we know."""
    watch = Watch(10 * NS)
    assert watch.frame(frame(sequence=5), START_NS).facts == (), "we were not there before"
    assert watch.frame(frame(sequence=6), START_NS).facts == ()
    assert problems(watch.frame(frame(sequence=9), START_NS).facts) == [("frames-missing", 2)]


def test_frames_that_a_full_spool_gave_up_are_told_once() -> None:
    """The collector says so itself; the gap in its numbers is the same loss."""
    watch = Watch(10 * NS)
    watch.frame(frame(sequence=0), START_NS)
    heard = watch.frame(frame(sequence=4, dropped=3), START_NS)
    assert problems(heard.facts) == [("frames-dropped", 3)]


def test_frames_that_a_spool_gave_up_from_behind_others_are_told_once() -> None:
    """It gives up its oldest: what was in it behind those comes first, and knows nothing of it."""
    watch = Watch(10 * NS)
    watch.frame(frame(sequence=0), START_NS)
    behind = watch.frame(frame(sequence=4), START_NS)
    told = [watch.frame(frame(sequence=n, dropped=2), START_NS) for n in (5, 6)]
    assert problems(behind.facts) == [("frames-missing", 3)]
    assert [problems(one.facts) for one in told] == [[], [("frames-dropped", 1)]]


def test_a_frame_that_comes_twice_is_told_from_a_new_run() -> None:
    """After a crash a collector counts from 0 again."""
    watch = Watch(10 * NS)
    watch.frame(frame(sequence=0), START_NS)
    assert watch.frame(frame(sequence=0), START_NS).repeated
    restarted = watch.frame(frame(sequence=0, producer="run-2"), START_NS)
    assert not restarted.repeated
    assert problems(restarted.facts) == [("restarted", 0)]
    late = watch.frame(frame(sequence=3, producer="run-3"), START_NS)
    assert ("frames-missing", 3) in problems(late.facts)


def test_silence_is_told_once_and_so_is_its_end() -> None:
    """An attacker's first act may be to stop the collector."""
    watch = Watch(10 * NS)
    watch.frame(frame(sequence=0), START_NS)
    assert watch.fall_silent(START_NS + 10 * NS) == []
    (told,) = watch.fall_silent(START_NS + 11 * NS)
    assert (told[1], told[3].problem, told[3].until_ns) == ("h1", "silent", 0)
    assert watch.fall_silent(START_NS + 12 * NS) == []
    assert (watch.speaking(), watch.silent()) == (0, 1)
    back = watch.frame(frame(sequence=1, at_s=20), START_NS + 20 * NS)
    assert [(f.problem, f.until_ns) for f in back.facts] == [("silent", START_NS + 20 * NS)]


def test_a_slow_collector_is_given_three_intervals() -> None:
    """A frame a minute is no silence of ten seconds."""
    watch = Watch(10 * NS)
    watch.frame(replace(frame(), interval_s=60.0), START_NS)
    assert watch.fall_silent(START_NS + 180 * NS) == []
    assert len(watch.fall_silent(START_NS + 181 * NS)) == 1


def test_a_host_that_never_came_back_is_missed() -> None:
    """Known from the inventory, it may have fallen silent while we were down."""
    watch = Watch(10 * NS)
    watch.expect("default", "h9", "pool", START_NS)
    assert [told[1] for told in watch.fall_silent(START_NS + 11 * NS)] == ["h9"]


def test_nobody_is_silent_before_the_time_is_known() -> None:
    """Where the log tells the time, there is none until the first record."""
    watch = Watch(10 * NS)
    watch.expect("default", "h9", "pool", 0)
    assert watch.fall_silent(START_NS) == []
    assert len(watch.fall_silent(START_NS + 11 * NS)) == 1


# ---- ticker -------------------------------------------------------------------------------


def test_ticks_are_written_by_one_and_never_backwards() -> None:
    """Time that runs back would close minutes that are still open."""
    ticker = Ticker(5 * NS)
    assert not ticker.due(START_NS), "another has the duty"
    ticker.on_duty = True
    assert ticker.due(START_NS)
    assert not ticker.due(START_NS + 4 * NS)
    assert ticker.due(START_NS + 5 * NS)
    assert not ticker.due(START_NS + 4 * NS)


# ---- intake -------------------------------------------------------------------------------


def test_a_frame_is_read_as_it_was_written() -> None:
    """The misuse below fails for its fault, not for something else."""
    assert read_frame(incoming(encode(frame(["a"]))), AHEAD_NS) == frame(["a"])
    assert read_frame(incoming(encode(frame()), None), AHEAD_NS) == frame()


def future_observation() -> Frame:
    late = Observation("a", START_NS + 301 * NS, Program("/bin/app"))
    return frame(observations=[late])


def endless() -> InventoryEntry:
    labels = {f"label-{number}": "x" * 1_000 for number in range(600)}
    return replace(entry("a", "shop/web"), labels=labels)


@pytest.mark.parametrize(
    ("value", "fault", "place"),
    [
        (None, "undecodable", ""),
        (b"\xff\xfe", "undecodable", ""),
        (b"[]", "undecodable", ""),
        (b"{}", "unknown-schema", "v"),
        (encode(frame()).replace(b'"v":1', b'"v":9', 1), "unknown-schema", "v"),
        (encode(frame()).replace(b'"sequence":0', b'"sequence":"0"'), "mistyped", "sequence"),
        (encode(frame(["a"])).replace(b"[[0.0],[0.0]]", b"[[null],[null]]"), "empty", "samples"),
        (encode(frame(at_s=301)), "misdated", "at_ns"),
        (encode(future_observation()), "misdated", "observations[0].at_ns"),
        (encode(frame(host="h2")), "misplaced", "host"),
        (encode(frame(inventory=[entry("a", "shop/web", "h2")])), "misplaced", "inventory[0]"),
        (
            encode(frame(inventory=[replace(entry("a", "shop/web"), scope="x")])),
            "misplaced",
            "inventory[0]",
        ),
        (
            encode(frame(inventory=[entry("a", "shop/web", seen_s=301)])),
            "misdated",
            "inventory[0].seen_ns",
        ),
        (encode(frame(inventory=[entry("b", "shop/web"), endless()])), "oversized", "inventory[1]"),
        (b" " * (9 << 20), "oversized", ""),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else "",
)
def test_what_is_no_frame_is_refused_with_its_place(
    value: bytes | None, fault: str, place: str
) -> None:
    """Whoever reads the dead letter must find the spot without our code."""
    with pytest.raises(MalformedRecord) as refused:
        read_frame(incoming(value), AHEAD_NS)
    assert refused.value.fault == fault
    assert refused.value.place.startswith(place)
