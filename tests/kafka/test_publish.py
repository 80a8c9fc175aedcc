"""Frames on a Kafka that goes away: none lost, none out of order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from infra.kafka import KafkaServer
from models.contract import Topics, partition_of
from models.errors import ConfigurationError
from models.records import decode
from models.records.frame import Frame
from producers.publish import Publisher, PublishMeters
from producers.settings import load
from producers.spool import Spool
from tests.fixtures_kafka import TestKafka, broker_or_skip, create_topics

START_NS = 1_700_000_000 * 10**9


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One of our own: it is stopped and frozen."""
    settings = {"auto.create.topics.enable": "false"}  # as in production
    with broker_or_skip(tmp_path_factory.mktemp("broker"), settings=settings) as server:
        yield server


def frame(sequence: int) -> Frame:
    return Frame("default", "host-1", "default", "run-1", sequence, START_NS + sequence, 1.0)


def publisher(
    directory: Path, bootstrap: str, prefix: str, clock: Callable[[], int] = time.time_ns,
    **spool: Any,
) -> Publisher:  # fmt: skip  # one signature, three lines
    settings = load(
        data_dir=directory, topic_prefix=prefix, kafka={"bootstrap": bootstrap},
        spool={"drain_frames_per_s": 1000.0, **spool},
    )  # fmt: skip  # the options in a line
    return Publisher(settings, clock, PublishMeters())


def until(effect: Callable[[], bool], what: str, serve: Publisher | None = None) -> None:
    ends = time.monotonic() + 40
    while not effect():
        assert time.monotonic() < ends, f"not within 40 s: {what}"
        if serve is not None:
            serve.serve()
        time.sleep(0.02)


def written(bootstrap: str, topic: str, count: int) -> list[Frame]:
    """What the topic's partition of host-1 holds, once it holds so many."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition_of(b"host-1", 4), 0)])
    found: list[Frame] = []
    ends = time.monotonic() + 40
    while len(found) < count and time.monotonic() < ends:
        for message in consumer.consume(1000, 0.5):
            assert message.error() is None
            found.append(decode(Frame, message.value()))
    consumer.close()
    return found


def sequences(frames: list[Frame]) -> list[int]:
    return [one.sequence for one in frames]


def test_frames_reach_the_partition_of_their_host(kafka: TestKafka, tmp_path: Path) -> None:
    """Where every other client looks for it: murmur2 over the host's id."""
    topics = kafka.topics(samples=4)
    sender = publisher(tmp_path, kafka.bootstrap, topics.prefix)
    for number in range(5):
        sender.send(frame(number))
    sender.close()

    assert sequences(written(kafka.bootstrap, topics.samples, 5)) == list(range(5))
    assert len(Spool(tmp_path / "spool.db", 1 << 20)) == 0


def test_a_broker_that_stops_for_a_while_costs_no_frame_and_no_order(
    broker: KafkaServer, tmp_path: Path
) -> None:
    """Kafka is upgraded, a rack loses power: the minutes of an attack must not be missing."""
    topics = Topics("away.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix)
    for number in range(20):
        sender.send(frame(number))
    until(lambda: sender.waiting == 0, "the first are confirmed", sender)

    broker.stop()
    for number in range(20, 40):
        sender.send(frame(number))
    until(lambda: (tmp_path / "spool.db").exists() and sender.away, "it is noticed", sender)
    for number in range(40, 60):
        sender.send(frame(number))
    assert sender.waiting == 40

    broker.start()
    for number in range(60, 80):
        sender.send(frame(number))
    until(lambda: sender.waiting == 0 and not sender.away, "all are confirmed", sender)
    sender.send(frame(80))
    sender.close()

    found = written(broker.bootstrap, topics.samples, 81)
    assert sequences(found) == list(range(81))
    assert all(one.dropped == 0 for one in found)


def test_the_one_on_call_sees_where_kafka_was_looked_for_and_why_in_vain(
    broker: KafkaServer, tmp_path: Path
) -> None:
    """At three in the morning one line must be enough to begin with."""
    topics = Topics("told.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix)
    broker.stop()
    try:
        with capture_logs() as lines:
            sender.send(frame(0))
            until(lambda: sender.away, "it is noticed", sender)
            until(lambda: any(one["event"] == "spool-waits" for one in lines), "told", sender)
    finally:
        broker.start()
    found = {one["event"]: one for one in lines}
    assert found["kafka-away"]["bootstrap"] == broker.bootstrap
    assert "refused" in found["kafka-away"]["problem"]
    assert found["spool-waits"]["frames"] == 1
    registry = sender._meters.registry
    assert (registry.get_sample_value("plimsoll_collect_spool_age_seconds") or 0) > 10**6
    until(lambda: sender.waiting == 0, "confirmed", sender)
    assert registry.get_sample_value("plimsoll_collect_spool_age_seconds") == 0
    sender.close()


def test_a_clock_that_is_set_back_holds_nothing_up(broker: KafkaServer, tmp_path: Path) -> None:
    """A machine that boots with the wrong time is corrected by hours, in either direction."""
    topics = Topics("clock.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    now_ns = time.time_ns()
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix, lambda: now_ns)
    broker.freeze()
    try:
        now_ns -= 3_600 * 10**9
        sender.send(frame(0))
        until(lambda: sender.away, "it is noticed", sender)
        now_ns -= 3_600 * 10**9
    finally:
        broker.thaw()
    until(lambda: sender.waiting == 0 and not sender.away, "all are confirmed", sender)
    sender.close()
    assert sequences(written(broker.bootstrap, topics.samples, 1)) == [0]


def test_a_spool_is_drained_no_faster_than_allowed(broker: KafkaServer, tmp_path: Path) -> None:
    """Ten thousand hosts come back at once: their return must not be the next outage."""
    topics = Topics("slow.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix, drain_frames_per_s=20.0)
    broker.freeze()
    sender.send(frame(0))
    until(lambda: sender.away, "it is noticed", sender)
    for number in range(1, 81):
        sender.send(frame(number))
    begun_s = time.monotonic()
    broker.thaw()
    until(lambda: sender.waiting == 0, "all are confirmed", sender)
    assert time.monotonic() - begun_s > 2.5, "20 at once, 60 at 20 a second"
    sender.close()
    assert sequences(written(broker.bootstrap, topics.samples, 81)) == list(range(81))


def test_a_full_disk_costs_what_it_can_not_hold_and_says_so(
    broker: KafkaServer, tmp_path: Path
) -> None:
    """The disk is the host's, and others fill it; the collector goes on all the same."""
    topics = Topics("disk.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix)
    base = sender._spool._base
    broker.freeze()
    try:
        sender.send(frame(0))
        until(lambda: sender.away, "it is noticed", sender)
        (pages,) = base.execute("PRAGMA page_count").fetchone()
        base.execute(f"PRAGMA max_page_count = {pages + 20}")
        with capture_logs() as lines:
            for number in range(1, 1001):
                sender.send(frame(number))
    finally:
        broker.thaw()
    lost = sender._meters.registry.get_sample_value(
        "plimsoll_collect_lost_frames_total", {"reason": "disk"}
    )
    assert lost is not None
    assert 100 < lost < 1000
    assert sum(one["event"] == "frames-lost" for one in lines) == 1, "a line a while, not each"
    until(lambda: sender.waiting == 0, "the rest is confirmed", sender)
    base.execute("PRAGMA max_page_count = 1000000")
    sender.send(frame(1001))
    sender.close()

    found = written_all(broker.bootstrap, topics.samples, 1001)
    assert sequences(found) == sorted(set(sequences(found)))
    assert sum(one.dropped for one in found) == lost == 1002 - len(found)


def test_two_collectors_do_not_share_a_spool(kafka: TestKafka, tmp_path: Path) -> None:
    """Each would send the other's frames, and count them as its own."""
    sender = publisher(tmp_path, kafka.bootstrap, "both.")
    with pytest.raises(ConfigurationError, match="if another collector runs here, end it"):
        publisher(tmp_path, kafka.bootstrap, "both.")
    sender.close()
    publisher(tmp_path, kafka.bootstrap, "both.").close()


def test_what_a_killed_collector_had_on_disk_is_sent_by_the_next(
    broker: KafkaServer, tmp_path: Path
) -> None:
    """The host may be rebooted while Kafka is away."""
    topics = Topics("killed.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    broker.freeze()
    try:
        script = (
            "import time; from pathlib import Path\n"
            "from tests.kafka.test_publish import frame, publisher\n"
            f"sender = publisher(Path({str(tmp_path)!r}), {broker.bootstrap!r}, 'killed.')\n"
            "for number in range(30): sender.send(frame(number))\n"
            "while not sender.away: sender.serve(); time.sleep(0.02)\n"
            "print('on disk', flush=True); time.sleep(600)\n"
        )
        with subprocess.Popen((sys.executable, "-c", script), stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            while b"on disk" not in (line := child.stdout.readline()):
                assert line, "the collector ended"
            child.send_signal(signal.SIGKILL)
    finally:
        broker.thaw()

    heir = publisher(tmp_path, broker.bootstrap, topics.prefix)
    heir.send(frame(30))
    until(lambda: heir.waiting == 0, "all are confirmed", heir)
    heir.close()

    found = sequences(written(broker.bootstrap, topics.samples, 31))
    kept = [number for at, number in enumerate(found) if number not in found[:at]]
    assert kept == list(range(31))  # gather drops what comes twice


def test_a_spool_that_overflows_gives_up_the_oldest_and_the_next_frame_says_so(
    broker: KafkaServer, tmp_path: Path
) -> None:
    """A loss that is counted is a gap; one that is not is a lie."""
    topics = Topics("full.")
    create_topics(broker.bootstrap, {topics.samples: 4})
    broker.freeze()
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix, most_bytes=1 << 20)
    big = "x" * 500
    try:
        sender.send(frame(0))
        until(lambda: sender.away, "it is noticed", sender)
        for number in range(1, 3000):
            sender.send(Frame("default", "host-1", big, "run-1", number, START_NS + number, 1.0))
    finally:
        broker.thaw()
    until(lambda: sender.waiting == 0, "all are confirmed", sender)
    sender.send(frame(3000))
    sender.close()

    topic = written_all(broker.bootstrap, topics.samples, 3000)
    assert sequences(topic) == sorted(set(sequences(topic)))
    assert topic[0].sequence == 0  # it was on its way already
    assert topic[-1].sequence == 3000
    missing = 3001 - len(topic)
    assert missing > 100
    assert missing == sender._meters.registry.get_sample_value(
        "plimsoll_collect_lost_frames_total", {"reason": "spool-full"}
    )
    assert sum(one.dropped for one in topic) == missing


def written_all(bootstrap: str, topic: str, last: int) -> list[Frame]:
    """Everything up to the frame of that sequence."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition_of(b"host-1", 4), 0)])
    found: list[Frame] = []
    ends = time.monotonic() + 40
    while not found or found[-1].sequence != last:
        assert time.monotonic() < ends, f"frame {last} never came"
        found.extend(decode(Frame, message.value()) for message in consumer.consume(1000, 0.5))
    consumer.close()
    return found


def test_a_topic_that_is_missing_at_first_costs_nothing(
    broker: KafkaServer, tmp_path: Path
) -> None:
    """Collectors are often there before anybody has made the topics."""
    topics = Topics("later.")
    sender = publisher(tmp_path, broker.bootstrap, topics.prefix)
    for number in range(5):
        sender.send(frame(number))
    until(lambda: sender.waiting == 5 and sender.away, "it is noticed", sender)

    create_topics(broker.bootstrap, {topics.samples: 4})
    until(lambda: sender.waiting == 0, "all are confirmed", sender)
    sender.close()

    found = sequences(written(broker.bootstrap, topics.samples, 5))
    assert sorted(set(found)) == list(range(5))
