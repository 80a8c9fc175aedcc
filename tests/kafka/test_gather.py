"""Gather on a real Kafka: complete, in order, committed only after delivery."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from models.contract import Topics, partition_of
from models.errors import BrokerUnreachable, ConfigurationError, Fault
from models.records import encode
from models.records.codec import MAGIC
from models.records.facts import Coverage
from models.records.inventory import InventoryEntry
from producers.gather import loop, outbox
from tests.fixtures_kafka import TestKafka, broker_or_skip, create_topics
from tests.kafka.gathering import (
    Fleet,
    Made,
    committed,
    gather_process,
    gathering,
    until,
)
from tests.telemetry.builders import NS, START_NS, entry, frame


@pytest.fixture
def topics(kafka: TestKafka) -> Topics:
    """Kept for good: our telemetry is dated long ago, Kafka would soon delete it."""
    made = Topics(kafka.prefix())
    partitions = {
        made.samples: 2,
        made.telemetry: 4,
        made.inventory: 2,
        made.findings: 1,
        made.rejected: 1,
    }
    kafka.create(partitions, retention_ms="-1")
    return made


@pytest.fixture
def made(kafka: TestKafka, topics: Topics) -> Iterator[Made]:
    reader = Made(kafka.bootstrap, topics)
    yield reader
    reader.close()


def in_order(made: Made) -> bool:
    """Whether no sample comes for the first time after a newer one: the judge would drop it."""
    return all(list(dict.fromkeys(times)) == sorted(set(times)) for times in made.order.values())


def coverage(made: Made) -> list[tuple[str, Coverage]]:
    return [
        (observation.subject, observation.fact)
        for record in made.sightings
        for observation in record.observations
        if isinstance(observation.fact, Coverage)
    ]


def test_frames_become_batches_complete_and_in_order(
    kafka: TestKafka, topics: Topics, made: Made
) -> None:
    """The whole promise of gather: each sample once, each key where the judge looks."""
    fleet = Fleet(kafka.bootstrap, topics)
    with gathering(kafka.bootstrap, topics):
        fleet.write(20)
        made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
        until(lambda: committed(kafka.bootstrap, topics, 2) == 60, "all committed")

    assert set(made.rows().values()) == {1}
    assert in_order(made)
    assert {batch.lineage for batch in made.batches} == {"shop/0", "shop/1", "shop/2"}
    assert all(partition_of(key, 4) == partition for key, partition in made.keys)


@pytest.mark.parametrize(("encoding", "begins"), [("json", b"{"), ("binary", MAGIC)])
def test_batches_are_written_in_the_form_that_the_setting_says(
    kafka: TestKafka, topics: Topics, made: Made, encoding: str, begins: bytes
) -> None:
    """Whoever reads telemetry with tools of their own may need JSON."""
    fleet = Fleet(kafka.bootstrap, topics)
    fleet.write(2)
    with gathering(kafka.bootstrap, topics, encoding=encoding):
        made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")

    assert all(value.startswith(begins) for value in made.values)


def test_siblings_of_all_hosts_are_sent_together(
    kafka: TestKafka, topics: Topics, made: Made
) -> None:
    """A batch of one host's containers would make shared load look like an anomaly."""
    fleet = Fleet(kafka.bootstrap, topics)
    fleet.write(1)
    with gathering(kafka.bootstrap, topics, batch_wait_ms=3_000):
        made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
    assert {member.host for member in made.batches[0].members} == {"host0", "host1", "host2"}


def test_time_is_written_to_every_partition(kafka: TestKafka, topics: Topics, made: Made) -> None:
    """A judge without ticks in one partition would never close a minute there."""
    fleet, now_ns = Fleet(kafka.bootstrap, topics), START_NS
    places = {(topics.telemetry, at) for at in range(4)} | {(topics.findings, 0)}
    with gathering(kafka.bootstrap, topics, clock=lambda: now_ns, tick_s=5.0):
        fleet.write(1)
        made.until(lambda: set(made.ticks) == places, "the first ticks")
        now_ns = START_NS + 5 * NS
        made.until(lambda: set(made.ticks.values()) == {2}, "the second ticks")
    assert made.tick_times[1] == [START_NS, START_NS + 5 * NS]


def bad_frames() -> dict[Fault, tuple[bytes, bytes]]:
    """One of each fault: its bytes, and the key under which it lies."""
    plain = encode(frame(["x"], host="host1"))
    return {
        "undecodable": (b"\x00", b"host0"),
        "unknown-schema": (plain.replace(b'"v":1', b'"v":9', 1), b"host1"),
        "missing": (plain.replace(b'"pool":"pool",', b""), b"host1"),
        "mistyped": (plain.replace(b"[[0.0],", b'[["much"],'), b"host1"),
        "empty": (plain.replace(b"[[0.0],[0.0]]", b"[[null],[null]]"), b"host1"),
        "out-of-range": (plain.replace(b'"sequence":0', b'"sequence":-1'), b"host1"),
        "misdated": (encode(frame(["x"], host="host2", at_s=4_000)), b"host2"),
        "misplaced": (encode(frame(["x"], host="host2")), b"host1"),
        "oversized": (plain.replace(b':"pool"', b':"' + b"p" * 600 + b'"'), b"host1"),
    }


def test_what_is_no_frame_leaves_as_one_dead_letter(
    kafka: TestKafka, topics: Topics, made: Made
) -> None:
    """Its neighbours are unharmed, and its offset is done with."""
    fleet, bad = Fleet(kafka.bootstrap, topics), bad_frames()
    fleet.write(1)
    for value, key in bad.values():
        fleet.raw(value, key)
    fleet.write(1)
    with gathering(kafka.bootstrap, topics) as gather:
        made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
        made.until(lambda: len(made.letters) >= len(bad), "the dead letters")
        until(lambda: committed(kafka.bootstrap, topics, 2) == 6 + len(bad), "all committed")
        assert {
            fault: gather.meters.read("rejected", fault=fault) for fault in bad
        } == dict.fromkeys(bad, 1)

    assert {letter.fault: letter.kept for letter in made.letters} == {
        fault: value for fault, (value, _) in bad.items()
    }
    assert len(made.letters) == len(bad)
    places = {letter.fault: letter.place for letter in made.letters}
    assert (places["mistyped"], places["missing"]) == ("samples.columns[0]", "pool")
    assert all(letter.topic == topics.samples and letter.reason for letter in made.letters)
    assert set(made.rows().values()) == {1}


def test_no_well_formed_frame_stops_the_others(
    kafka: TestKafka, topics: Topics, made: Made
) -> None:
    """What gather adds to it may be more than Kafka takes: its sender would have stopped the
    telemetry of all, for as long as that frame is kept.
    """
    fleet = Fleet(kafka.bootstrap, topics)
    fleet.write(1)
    names = [f"long-{number}" for number in range(14)]
    known = [replace(entry(name, "long", "host1"), name="n" * 60_000) for name in names]
    fleet.send(frame(host="host1", producer="odd", inventory=known))
    fleet.send(frame(names * 5, host="host1", producer="odd", sequence=1))
    wide = tuple(f"{number:05000}" for number in range(195))
    fleet.send(frame(names[:1], host="host1", producer="odd", sequence=2, features=wide))
    fleet.write(1)
    with gathering(kafka.bootstrap, topics):
        made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
        made.until(lambda: bool(made.letters), "the dead letter")
        until(lambda: committed(kafka.bootstrap, topics, 2) == 9, "all committed")
    assert [(letter.fault, letter.topic) for letter in made.letters] == [
        ("oversized", topics.telemetry)
    ]
    found = Counter(row.subject for b in made.batches if b.lineage == "long" for row in b.members)
    assert found.keys() == set(names)


def test_nothing_is_committed_that_kafka_did_not_take(kafka: TestKafka) -> None:
    """The broker refuses what we made: the source must be there for another try."""
    topics = kafka.topics(samples=2, inventory=2, findings=1, rejected=1)
    kafka.create({topics.telemetry: 4}, max_message_bytes="100")
    Fleet(kafka.bootstrap, topics).write(1)
    with (
        pytest.raises(BrokerUnreachable, match="source offset stays"),
        gathering(kafka.bootstrap, topics) as gather,
    ):
        until(lambda: gather.ended, "the refusal")
    assert committed(kafka.bootstrap, topics, 2) == 0


def test_killed_twice_it_loses_nothing_and_repeats_little(
    kafka: TestKafka, topics: Topics, made: Made
) -> None:
    """kill -9 between sending and committing makes some twice: bounded, in order, and the
    judge drops them by their sample times.
    """
    fleet = Fleet(kafka.bootstrap, topics)
    for _ in range(2):
        fleet.write(40)
        seen = len(made.rows())
        with gather_process(kafka.bootstrap, topics) as process:
            made.until(lambda seen=seen: len(made.rows()) > seen, "something new")  # type: ignore[misc]  # bound now
            process.send_signal(signal.SIGKILL)
    fleet.write(10)
    with gather_process(kafka.bootstrap, topics) as process:
        made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
        process.terminate()
        assert process.wait(30) == 0

    assert made.rows().keys() == fleet.rows
    assert max(made.rows().values()) <= 3, "at most once more with each kill"
    assert in_order(made)
    assert committed(kafka.bootstrap, topics, 2) == 270


def test_two_share_the_work_and_one_may_leave(kafka: TestKafka, topics: Topics, made: Made) -> None:
    """What one had in hand is sent and committed before another takes over."""
    fleet = Fleet(kafka.bootstrap, topics)
    with gathering(kafka.bootstrap, topics):
        fleet.write(10)
        made.until(lambda: made.rows().keys() >= fleet.rows, "rows of one")
        with gathering(kafka.bootstrap, topics) as second:
            until(lambda: len(second.owned) == 1, "shared")
            fleet.write(10)
            made.until(lambda: made.rows().keys() >= fleet.rows, "rows of both")
        fleet.write(10)
        made.until(lambda: made.rows().keys() >= fleet.rows, "rows of the one that stayed")
    assert set(made.rows().values()) == {1}, "an orderly change repeats nothing"


def test_inventory_is_remembered_by_the_next(kafka: TestKafka, topics: Topics, made: Made) -> None:
    """Collectors send the whole inventory once; gather may be restarted any time."""
    fleet = Fleet(kafka.bootstrap, topics)
    for _ in range(2):
        with gathering(kafka.bootstrap, topics):
            fleet.write(1)
            made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
    assert {batch.lineage for batch in made.batches} == {"shop/0", "shop/1", "shop/2"}


def test_a_silent_host_is_reported_also_by_the_next_gather(
    kafka: TestKafka, topics: Topics, made: Made
) -> None:
    """Whoever stops a collector while gather is down must not get away with it."""
    fleet, now_ns = Fleet(kafka.bootstrap, topics, hosts=1), START_NS
    host = InventoryEntry("default", "host/host0", "host0", "linux", "host/pool")
    fleet.send(frame(host="host0", inventory=[host]))
    with gathering(kafka.bootstrap, topics) as first:
        until(lambda: first.meters.read("frames") == 1, "the frame")
    with gathering(kafka.bootstrap, topics, clock=lambda: now_ns) as second:
        until(lambda: len(second.owned) == 2, "assigned")
        now_ns = START_NS + 11 * NS
        made.until(lambda: bool(coverage(made)), "the report")
    assert [(subject, fact.problem) for subject, fact in coverage(made)] == [
        ("host/host0", "silent")
    ]


def test_a_missing_topic_is_named(kafka: TestKafka) -> None:
    """Started before its topics exist, it must not wait in silence."""
    topics = Topics(kafka.prefix())
    with (
        pytest.raises(ConfigurationError, match=f"{topics.prefix}samples does not exist"),
        gathering(kafka.bootstrap, topics),
    ):
        pass


def test_kafka_may_go_away_for_a_while(tmp_path: Path) -> None:
    """A broker's restart is everyday life: nothing is lost, nobody has to act."""
    server = broker_or_skip(tmp_path)
    topics = Topics("away.")
    kinds = ("samples", "telemetry", "inventory", "findings", "rejected")
    create_topics(server.bootstrap, {f"away.{kind}": 1 for kind in kinds}, retention_ms="-1")
    fleet, made = Fleet(server.bootstrap, topics), Made(server.bootstrap, topics, 1)
    try:
        with gathering(server.bootstrap, topics):
            fleet.write(5)
            made.until(lambda: made.rows().keys() >= fleet.rows, "rows before")
            fleet.write(5)
            server.kill()
            server.start()
            fleet.write(5)
            made.until(lambda: made.rows().keys() >= fleet.rows, "rows after")
    finally:
        made.close()
        server.stop()
    assert in_order(made)


def test_it_ends_where_kafka_answers_and_its_group_gives_it_nothing(
    kafka: TestKafka, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for ever is started anew by nobody."""
    monkeypatch.setattr(loop, "ALONE_S", 1.0)
    stranger = Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": f"{topics.prefix}gather",
        "partition.assignment.strategy": "cooperative-sticky",  # with which ours can't share
    })  # fmt: skip  # one thought
    stranger.subscribe([topics.samples])
    until(lambda: stranger.poll(0.1) is None and bool(stranger.assignment()), "the stranger's part")

    with (
        pytest.raises(BrokerUnreachable, match="no partitions for 1 s"),
        gathering(kafka.bootstrap, topics) as running,
    ):
        until(lambda: stranger.poll(0.1) is None and running.ended, "gather's end")
    stranger.close()


def test_reading_stops_while_kafka_takes_nothing(
    kafka: TestKafka, topics: Topics, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for delivery must not fill the memory: with no room at all, reading stops
    after every record and goes on once that is delivered, and still nothing is lost.
    """
    monkeypatch.setattr(outbox, "MOST_UNDELIVERED_BYTES", 0)
    monkeypatch.setattr(outbox, "RESUMED_BYTES", 0)
    fleet = Fleet(kafka.bootstrap, topics)
    with gathering(kafka.bootstrap, topics) as gather:
        for turn in range(5):
            fleet.write(2)
            made.until(lambda: made.rows().keys() >= fleet.rows, "all rows")
            until(lambda turn=turn: gather.meters.read("pauses") > turn, "a pause")  # type: ignore[misc]  # bound now
    assert set(made.rows().values()) == {1}
    assert in_order(made)
