"""Saying a word: signed with an operator's key, and the governor's answer awaited."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from models.contract import ONLY_PARTITION, READER, Topics
from models.errors import BrokerUnreachable, MalformedRecord
from models.records.codec import decode, encode
from models.records.control import Verb, Word
from models.records.rejected import DeadLetter
from models.settings import Kafka
from models.words import WordAnswer, answer_key
from streams.alerts import unwrapped
from streams.bounds import bounds
from streams.keys import Signer
from streams.permitted import heed

_ASK_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a word; ``accepted`` None when nobody answered in time."""

    word: str
    accepted: bool | None
    detail: str


class Speaker:
    """One operator at one Kafka; close it when done."""

    def __init__(
        self, kafka: Kafka, topics: Topics, scope: str, signer: Signer, clock: Callable[[], int]
    ) -> None:
        self._kafka, self._topics, self._scope = kafka, topics, scope
        self._signer, self._clock = signer, clock
        config = {**kafka.librdkafka(), "log_level": 0}
        self._producer = Producer({**config, "acks": "all", "enable.idempotence": True})
        self._consumer = Consumer({**config, "group.id": READER, "enable.auto.commit": False})

    def close(self) -> None:
        self._consumer.close()

    def word(self, verb: Verb, target: str, until_ns: int = 0, because: str = "") -> Word:
        """A word of now, not said yet."""
        uid = f"word-{uuid.uuid4().hex[:20]}"
        return Word(
            uid, self._scope, verb, target, self._signer.name, self._clock(), until_ns, because
        )

    def say(self, word: Word, patience_s: float) -> Said:
        """Say it, and wait for the answer.

        Raises: BrokerUnreachable when the word itself could not be delivered.
        """
        try:
            self._listen()
            value = encode(self._signer.sign(encode(word)))
            self._deliver(value)
            return self._answer(word, value, patience_s)
        except KafkaException as problem:
            heed(problem.args[0], self._kafka.librdkafka(), "Write", self._topics.control)
            raise self._unreachable(problem) from problem

    def follow(self, incident: str, patience_s: float) -> dict[str, Any] | None:
        """The next alert of the incident in which no order waits any more; None in time."""
        deadline_s = time.monotonic() + patience_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            message = self._consumer.poll(min(left_s, 0.5))
            if message is None or message.error() or message.topic() != self._topics.alerts:
                continue
            if message.key() != incident.encode():
                continue
            body = unwrapped(message.key(), message.value(), message.headers() or [])
            if all(act["answer"] != "waiting" for act in body["unmapped"]["actions"]):
                return body
        return None

    def _listen(self) -> None:
        """From the present ends on: what was said before is not about this word."""
        begins = []
        for topic in (self._topics.control_state, self._topics.alerts, self._topics.rejected):
            found = self._consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
            config = self._kafka.librdkafka()
            heed(found.error, config, "Read", topic)
            if found.error is not None:
                why = f"topic {topic}: {found.error.str()}; run `plimsoll topics create` first"
                raise BrokerUnreachable(why)
            for partition in found.partitions:
                end = bounds(self._consumer, topic, partition)[1]
                begins.append(TopicPartition(topic, partition, end))
        self._consumer.assign(begins)

    def _deliver(self, value: bytes) -> None:
        failed: list[KafkaError] = []

        def delivered(problem: KafkaError | None, _message: Any) -> None:
            if problem is not None:
                failed.append(problem)

        self._producer.produce(
            self._topics.control, value, partition=ONLY_PARTITION, on_delivery=delivered
        )
        left, config = self._producer.flush(_ASK_S), self._kafka.librdkafka()
        for problem in failed:
            heed(problem, config, "Write", self._topics.control)
        if left or failed:
            why = failed[0].str() if failed else "it did not answer"
            raise BrokerUnreachable(f"Kafka at {self._kafka.bootstrap}: {why}; nothing was said")

    def _answer(self, word: Word, value: bytes, patience_s: float) -> Said:
        digest, key = hashlib.sha256(value).hexdigest(), answer_key(word.uid).encode()
        deadline_s = time.monotonic() + patience_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            message = self._consumer.poll(min(left_s, 0.5))
            if message is None or message.error() or message.value() is None:
                continue
            if message.topic() == self._topics.control_state and message.key() == key:
                answer = decode(WordAnswer, message.value())
                return Said(word.uid, answer.accepted, answer.detail)
            if message.topic() == self._topics.rejected:
                why = why_rejected(message.value(), digest)
                if why:
                    return Said(word.uid, accepted=False, detail=f"not believed: {why}")
        detail = (
            f"no governor answered within {patience_s:.0f} s; the word is in the log and will be "
            "heard when one runs (plimsoll govern), unless it is older than 10 minutes by then"
        )
        return Said(word.uid, None, detail)

    def _unreachable(self, problem: KafkaException) -> BrokerUnreachable:
        why = problem.args[0].str()
        return BrokerUnreachable(
            f"Kafka at {self._kafka.bootstrap}: {why}; is it up (plimsoll config show)?"
        )


def why_rejected(value: bytes | None, digest: str) -> str:
    """Why these very bytes became a dead letter; empty when they did not."""
    try:
        letter = decode(DeadLetter, value)
    except MalformedRecord:
        return ""
    return letter.reason if letter.sha256 == digest else ""
