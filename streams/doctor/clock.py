"""Does this machine's clock agree with the log's?

Arrival is dated by the broker. A frame far ahead of it is rejected, a finding that seems a
minute old no longer orders anything, and signed words expire.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaException,
    Producer,
    TopicPartition,
)

from models.contract import KIND_HEADER, PROBE, READER
from streams.bounds import bounds
from streams.doctor.base import Case, Check, Found, State

MOST_SKEW_S: Final = 5.0
"""A clock that is kept by NTP is within a tenth of a second; from a minute on, answers fail."""
_ASK_S: Final = 10.0
_WAIT_TICKS: Final = 3
_HEARD: Final = ("telemetry", "findings", "samples", "orders")
"""Topics on which something new comes every few seconds, while gather runs."""


def _clock(case: Case) -> Iterator[Found]:
    try:
        ahead_s = _by_writing(case) if _writes(case) else _by_reading(case)
    except KafkaException as problem:
        yield Found("", f"not compared: {problem.args[0].str()}", "see topics and rights",
                    State.UNKNOWN)  # fmt: skip  # two lines
        return
    if ahead_s is None:
        yield Found(
            "", "not compared: the log took in nothing while we listened",
            "start gather, which writes the time every few seconds, and ask again", State.UNKNOWN,
        )  # fmt: skip  # what, why, what to do
    elif abs(ahead_s) > MOST_SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        yield Found(
            "this machine", f"its clock is {abs(ahead_s):.0f} s {way} the log's",
            "let NTP keep the clocks of this machine and of the brokers",
        )  # fmt: skip  # what, why, what to do


def _writes(case: Case) -> bool:
    samples = case.names.topics.samples
    return any(one.name == samples and "Write" in one.operations for one in case.wanted())


def _by_writing(case: Case) -> float | None:
    """One empty record among the frames, which gather passes over."""
    stamps: list[tuple[int, int]] = []
    failed: list[Any] = []

    def delivered(problem: Any, message: Any) -> None:
        (failed if problem else stamps).append(problem or message.timestamp())

    producer = Producer({**case.kafka.librdkafka(), "log_level": 0})
    before_ns = case.clock()
    header: list[tuple[str, str | bytes | None]] = [(KIND_HEADER, PROBE.encode())]
    producer.produce(case.names.topics.samples, None, headers=header, on_delivery=delivered)
    producer.flush(_ASK_S)
    if failed:
        raise KafkaException(failed[0])
    middle_ns = (before_ns + case.clock()) // 2
    return _ahead_s(stamps[0], middle_ns) if stamps else None


def _by_reading(case: Case) -> float | None:
    """The next record that the log takes in, of a topic that one of the parts reads."""
    readable = {one.name for one in case.wanted() if "Read" in one.operations}
    prefix = case.names.topics.prefix
    topics = [prefix + role for role in _HEARD if prefix + role in readable]
    if not topics:
        return None
    consumer = Consumer(
        {**case.kafka.librdkafka(), "group.id": READER, "enable.auto.commit": False,
         "log_level": 0, "fetch.wait.max.ms": 50}
    )  # fmt: skip  # one thought
    ends_s = time.monotonic() + _WAIT_TICKS * case.settings.gather.tick_s
    try:
        consumer.assign([place for topic in topics for place in _ends(consumer, topic)])
        while time.monotonic() < ends_s:
            message = consumer.poll(0.2)
            if message is None:
                continue
            if (problem := message.error()) is not None:
                raise KafkaException(problem)
            if (ahead_s := _ahead_s(message.timestamp(), case.clock())) is not None:
                return ahead_s
        return None
    finally:
        consumer.close()


def _ends(consumer: Consumer, topic: str) -> Iterator[TopicPartition]:
    found = consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    for partition in found.partitions:
        yield TopicPartition(topic, partition, bounds(consumer, topic, partition)[1])


def _ahead_s(stamp: tuple[int, int], now_ns: int) -> float | None:
    """None when it was not the log that dated the record."""
    dated, at_ms = stamp
    return (now_ns - at_ms * 10**6) / 1e9 if dated == TIMESTAMP_LOG_APPEND_TIME else None


CLOCK: Final = Check("clock", "does this machine's agree with the log's?", _clock,
                     ("login", "topics"))  # fmt: skip  # two lines
