"""What the demo needs of librdkafka's broker inside a process: delivery, and the backlog."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.demo.backlog import Backlog
from streams.demo.broker import EmbeddedBroker
from tests.kafka.trial import Trial
from tests.kafka.worker import POISON


def test_a_killed_worker_loses_nothing_on_the_embedded_broker(tmp_path: Path) -> None:
    """It knows neither topic creation nor retention settings, and starts without Java."""
    embedded = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    broker = next(iter(embedded.list_topics(timeout=10).brokers.values()))
    options = {"may_create_topics": False, "nap_s": 0.02, "most": 20}
    with Trial(f"{broker.host}:{broker.port}", "t.", tmp_path, options) as trial:
        for topic in (trial.outputs, trial.dead):
            embedded.list_topics(topic, timeout=10)  # asking creates it
        trial.produce(400)
        trial.produce(1, POISON)
        first = trial.start()
        trial.until_outputs(100)
        first.kill()
        trial.start()
        trial.until_committed()
        verdict = trial.verdict()

    assert (verdict.lost, verdict.rejected, verdict.state_equal) == (0, 1, True)


def test_the_backlog_is_that_of_the_partition_that_has_most() -> None:
    """The fleet waits by it; a sum would let one partition overflow while others are read."""
    broker = EmbeddedBroker(["frames"])
    kafka = {"bootstrap.servers": broker.bootstrap}
    producer = Producer(kafka)
    for number in range(13):
        producer.produce("frames", b"", partition=0 if number < 10 else 1)
    assert producer.flush(20) == 0
    backlog = Backlog(kafka, "gather", "frames")
    assert backlog.records() == 10

    reader = Consumer({**kafka, "group.id": "gather"})
    reader.commit(offsets=[TopicPartition("frames", 0, 8)], asynchronous=False)
    assert backlog.records() == 3
    reader.close()
    backlog.close()
