"""The models topic for commands: read whole, and added to with signed words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.contract import ONLY_PARTITION, Topics
from models.errors import BrokerUnreachable, ConfigurationError, PlimsollError
from models.records.manifest import Manifest, Rehearsal, Stage, Staging
from models.settings import Kafka
from streams.keys import Signer, Trust
from streams.permitted import heed
from streams.stores.models import (
    ModelRecord,
    ModelStore,
    Register,
    announced,
    header_of,
    opened_record,
)
from streams.stores.window import TopicLog

_FLUSH_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A record of the topic that nobody uses, and why."""

    record: str
    why: str


class Registry:
    """What one scope's models topic says now. Raises BrokerUnreachable."""

    def __init__(
        self, kafka: Kafka, topics: Topics, scope: str, *, store: ModelStore, trust: Trust
    ) -> None:
        self._kafka, self._topic, self._trust = kafka, topics.models, trust
        self.store = store
        self.register = Register(scope)
        self.refused: list[Refused] = []
        for message, _, _ in TopicLog(kafka.librdkafka(), self._topic).messages():
            self._take(message)

    def model(self, said: str) -> Manifest:
        """One model, by its id or the beginning of it.

        Raises: ConfigurationError when none or several begin so.
        """
        manifests = self.register.manifests.values()
        exact = [one for one in manifests if one.uid == said]
        found = exact or [one for one in manifests if said and _begins(one.uid, said)]
        if len(found) == 1:
            return found[0]
        what = "no model" if not found else f"{len(found)} models"
        raise ConfigurationError(f"{what} that begins with {said!r}: `plimsoll models list`")

    def say(self, record: ModelRecord, signer: Signer) -> None:
        """Announce a record. Raises: BrokerUnreachable when it could not be delivered."""
        key, value = announced(record, signer)
        failed: list[KafkaError] = []

        def delivered(problem: KafkaError | None, _message: Message) -> None:
            if problem is not None:
                failed.append(problem)

        try:
            producer = Producer({**self._kafka.librdkafka(), "acks": "all", "log_level": 0,
                                 "enable.idempotence": True})  # fmt: skip  # one thought
            producer.produce(
                self._topic, value, key, partition=ONLY_PARTITION, headers=header_of(record),
                on_delivery=delivered,
            )  # fmt: skip  # one call
            left = producer.flush(_FLUSH_S)
        except KafkaException as problem:
            failed, left = [problem.args[0]], 0
        for one in failed:
            heed(one, self._kafka.librdkafka(), "Write", self._topic)
        if left or failed:
            why = failed[0].str() if failed else "it did not answer"
            raise BrokerUnreachable(f"Kafka at {self._kafka.bootstrap}: {why}; nothing was said")

    def _take(self, message: Message) -> None:
        key = (message.key() or b"").decode(errors="replace")
        if message.value() is None:
            self.register.drop(key)
            return
        try:
            self.register.take(key, opened_record(message, self._trust))
        except PlimsollError as problem:
            self.refused.append(Refused(f"{key or 'no key'}@{message.offset()}", str(problem)))


def staging(
    scope: str, model: str, stage: Stage, *, from_ns: int, said_ns: int, by: str,
    because: str = "", rehearsal: Rehearsal | None = None,
) -> Staging:  # fmt: skip  # two lines say as much
    """A word whose id follows from its content: said twice it is one.

    Raises: MalformedRecord when it begins too soon, or lacks what it needs.
    """
    identity = "|".join((scope, model, stage, str(from_ns), str(said_ns), by))
    uid = f"stage-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"
    return Staging(uid, scope, model, stage, from_ns, said_ns, by, because, rehearsal)


def _begins(uid: str, said: str) -> bool:
    return uid.startswith(said) or uid.partition("-")[2].startswith(said)
