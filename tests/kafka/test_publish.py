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

from infra.kafka import KafkaServer
from models.contract import Topics, partition_of
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


def publisher(directory: Path, bootstrap: str, prefix: str, **spool: Any) -> Publisher:
    settings = load(
        data_dir=directory, topic_prefix=prefix, kafka={"bootstrap": bootstrap},
        spool={"drain_frames_per_s": 1000.0, **spool},
    )  # fmt: skip  # the options in a line
    return Publisher(settings, time.time_ns, PublishMeters())


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
