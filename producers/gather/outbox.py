"""What gather sends, and what Kafka has confirmed of it."""

from __future__ import annotations

from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from models.contract import KIND_HEADER, Topics
from models.errors import BrokerUnreachable
from models.permissions import refused
from producers.gather.clock import Clock
from producers.gather.ledger import Lot
from producers.kafka import MOST_MESSAGE_BYTES, producer_settings
from producers.meters import GatherMeters
from producers.settings import Settings

MOST_UNDELIVERED_BYTES: Final = 64 << 20
"""Reading stops when this much waits for Kafka …"""
RESUMED_BYTES: Final = 16 << 20
"""… and goes on when it is down to this."""
log = structlog.get_logger("gather")


class Outbox:
    """A producer whose every message belongs to a lot, or to none.

    Timestamps are the injected clock's, so that simulated time is the log's time too.
    """

    def __init__(self, settings: Settings, clock: Clock, meters: GatherMeters) -> None:
        self.undelivered_bytes = 0
        self._clock, self._meters = clock, meters
        self._bootstrap = settings.kafka.bootstrap
        self._principal = settings.kafka.principal
        self._telemetry = Topics(settings.topic_prefix).telemetry
        self._refused: BrokerUnreachable | None = None
        self._silent = False
        config = producer_settings(settings.kafka, "gather")
        self._producer = Producer(config | {"error_cb": self._on_error})

    @property
    def congested(self) -> bool:
        return self.undelivered_bytes > MOST_UNDELIVERED_BYTES

    @property
    def silent(self) -> bool:
        """Whether no broker answers."""
        return self._silent

    @property
    def relieved(self) -> bool:
        return self.undelivered_bytes <= RESUMED_BYTES

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, *,
        kind: str = "", lot: Lot | None = None, partition: int = -1,
    ) -> None:  # fmt: skip  # two lines read better than eight
        """Queue one message; its lot is released once Kafka has it.

        Raises: BrokerUnreachable when Kafka refused a message for good.
        """
        size = len(value or b"") + len(key or b"")
        if lot is not None:
            lot.hold()
        self.undelivered_bytes += size

        def delivered(problem: KafkaError | None, _message: Any) -> None:
            self.undelivered_bytes -= size
            if problem is not None:
                refusal = refused(problem.code(), self._principal, "Write", topic)
                self._refused = refusal or BrokerUnreachable(
                    f"Kafka refused a message: {problem.str()}; its source offset stays "
                    "uncommitted: mend the topic or its limits, then start gather again"
                )
                return
            self._heard()
            if lot is not None:
                lot.release()

        headers: dict[str, str | bytes | None] = {KIND_HEADER: kind.encode()} if kind else {}
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, delivered,
                    timestamp=self._clock() // 1_000_000, headers=headers,
                )  # fmt: skip  # as the client orders them
            except BufferError:  # librdkafka's own queue is full: let it deliver
                self.poll(0.1)
            except KafkaException as problem:
                raise BrokerUnreachable(f"{topic}: {problem}; nothing of it is lost") from problem
            else:
                return

    def poll(self, seconds: float = 0.0) -> None:
        """Serve delivery reports.

        Raises: BrokerUnreachable when Kafka refused a message for good: the source offsets
        stay uncommitted, so a restart makes it again.
        """
        try:
            self._producer.poll(seconds)
        except KafkaException as problem:  # this client is of no use any more
            code = problem.args[0].code()
            refusal = refused(code, self._principal, "Write", self._telemetry)
            raise refusal or BrokerUnreachable(f"{problem}; nothing of it is lost") from problem
        self._meters.undelivered.set(self.undelivered_bytes)
        if self._refused is not None:
            raise self._refused

    def flush(self, seconds: float) -> bool:
        """Wait for all delivery reports; False when some are still to come."""
        left: int = self._producer.flush(seconds)
        self.poll()
        return left == 0

    def _on_error(self, problem: KafkaError) -> None:
        """Once when Kafka goes away, not with every attempt."""
        if problem.code() == KafkaError._ALL_BROKERS_DOWN and not self._silent:  # noqa: SLF001  # its public name
            self._silent = True
            log.warning(
                "kafka-away", bootstrap=self._bootstrap, problem=problem.str(),
                undelivered_bytes=self.undelivered_bytes,
                todo="look after the brokers; what was made waits here, reading stops when full",
            )  # fmt: skip  # one line a thought

    def _heard(self) -> None:
        if self._silent:
            self._silent = False
            log.info("kafka-back", undelivered_bytes=self.undelivered_bytes)


def fits(value: bytes) -> bool:
    """Whether Kafka would take a message of this size, headers and key included."""
    return len(value) <= MOST_MESSAGE_BYTES - 4_096
