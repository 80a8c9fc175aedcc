"""Whose word teaches the judge: signed lessons among the telemetry, opened and said."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from models.admission import Opened
from models.contract import KIND_HEADER, PARTITIONER, READER, Topics
from models.errors import (
    BrokerUnreachable,
    ConfigurationError,
    MalformedRecord,
    UntrustedMessage,
)
from models.records.codec import decode, encode
from models.records.lesson import LESSON, Lesson, Teaching
from models.records.signed import Signed
from streams.bounds import bounds
from streams.keys import Clock, Role, Signer, Trust, TrustFile, signed_by
from streams.settings import Settings
from streams.words import why_rejected

_PEOPLE: Final = (Role.OPERATOR, Role.TRAINER)
MAY_TEACH: Final[Mapping[Teaching, tuple[Role, ...]]] = {
    Teaching.BASELINE: _PEOPLE,
    Teaching.UNDO: _PEOPLE,
    Teaching.DISMISS: (Role.GOVERNOR,),
    Teaching.CONFIRM: (Role.GOVERNOR,),
}
"""What follows from an incident is the governor's to say, who has heard an operator."""
_ASK_S: Final = 15.0


def trusted(keys_dir: Path, clock: Clock = time.time_ns) -> Opened:
    """Opens what the keys in this directory's trusted.json have signed."""
    return opener(TrustFile(keys_dir, clock))


def opener(trust: Trust) -> Opened:
    """Opens what these keys have signed, as they counted when the log took it in."""

    def opened(value: bytes | None, arrived_ns: int) -> Lesson:
        signed = decode(Signed, value)
        lesson = decode(Lesson, signed.payload)
        try:
            _, signer = signed_by(trust, signed, MAY_TEACH[lesson.what], arrived_ns)
        except UntrustedMessage as problem:
            raise MalformedRecord("untrusted", str(problem)) from problem
        if Role.GOVERNOR not in MAY_TEACH[lesson.what] and lesson.by != signer:
            problem_ = f"{lesson.by!r} speaks with the key of {signer!r}"
            raise MalformedRecord("untrusted", problem_, "by")
        return lesson

    return opened


class Teacher:
    """Says lessons with one key, and looks whether they were taken in."""

    def __init__(self, settings: Settings, signer: Signer) -> None:
        self._settings, self._signer = settings, signer
        self._topics = Topics(settings.topic_prefix)
        self._digest = ""
        config = {**settings.kafka.librdkafka(), "log_level": 0}
        self._producer = Producer(
            {**config, "acks": "all", "enable.idempotence": True, "partitioner": PARTITIONER}
        )
        self._rejected = Consumer({**config, "group.id": READER, "enable.auto.commit": False})

    def say(self, lesson: Lesson) -> None:
        """Write it into its group's log. Raises: BrokerUnreachable when that failed."""
        value = encode(self._signer.sign(encode(lesson)))
        self._digest = hashlib.sha256(value).hexdigest()
        failed: list[KafkaError] = []

        def delivered(problem: KafkaError | None, _message: Any) -> None:
            if problem is not None:
                failed.append(problem)

        try:
            self._listen()
            self._producer.produce(
                self._topics.telemetry, value, lesson.group.encode(),
                headers={KIND_HEADER: LESSON.encode()}, on_delivery=delivered,
            )  # fmt: skip  # one call
            left = self._producer.flush(_ASK_S)
        except KafkaException as problem:
            failed, left = [problem.args[0]], 0
        if left or failed:
            why = failed[0].str() if failed else "it did not answer"
            raise BrokerUnreachable(
                f"Kafka at {self._settings.kafka.bootstrap}: {why}; nothing was said"
            )

    def awaited(self, there: Callable[[], bool], patience_s: float) -> bool | None:
        """True once ``there`` holds, None when it does not in time.

        Raises: ConfigurationError when the judge refused the lesson, with its reason.
        """
        deadline_s = time.monotonic() + patience_s
        while True:
            for message in self._rejected.consume(100, 0.3):
                why = why_rejected(message.value(), self._digest)
                if why:
                    raise ConfigurationError(f"the judge refused it: {why}")
            if there():
                return True
            if time.monotonic() >= deadline_s:
                return None

    def _listen(self) -> None:
        """Dead letters from the present ends on."""
        topic = self._topics.rejected
        found = self._rejected.list_topics(topic, timeout=_ASK_S).topics[topic]
        ends = {place: bounds(self._rejected, topic, place)[1] for place in found.partitions}
        self._rejected.assign([TopicPartition(topic, place, end) for place, end in ends.items()])
