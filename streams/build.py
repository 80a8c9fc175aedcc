"""The one place that creates an app and hands each part what it needs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import faust
from confluent_kafka import Consumer, KafkaException

from models import governor
from models.contract import READER, Topics
from models.detection import Detection
from models.errors import BrokerUnreachable, ConfigurationError
from models.governor import Packer
from models.pipeline import Core
from models.records.manifest import Rehearsal
from models.settings import Kafka
from streams import heap
from streams.agents import govern, judge
from streams.delivery.app import (
    Delivery,
    continuity_of,
    make_app,
    make_table,
    outbox_of,
)
from streams.delivery.rejected import Rejects
from streams.keys import Signer, Trust, TrustFile
from streams.lessons import trusted
from streams.meters import Meters
from streams.permitted import heed
from streams.policies import Gate, policy_of
from streams.settings import Settings
from streams.stores.baselines import TABLE, rows_on
from streams.stores.models import (
    ModelFollower,
    ModelStore,
    RehearsalFollower,
    Roster,
    forest_of,
)
from streams.tables import Rows

_ASK_S: Final = 15.0


def judge_app(settings: Settings, meters: Meters, clock: Callable[[], int]) -> faust.App:
    """The judge's app, not started. Raises: BrokerUnreachable, ConfigurationError."""
    heap.keep()
    topics = Topics(settings.topic_prefix)
    partitions = partitions_of(settings.kafka, topics.telemetry)
    app = make_app(settings.worker.group, delivery_of(settings, settings.worker))
    continuity_of(app).counted_by(meters.gaps.inc)
    rows = rows_on(make_table(app, TABLE, partitions), topics)
    cores = _Cores(settings.worker.detection)
    opened = trusted(settings.keys_dir, clock)
    # Before the first event: judged without its model it would be judged otherwise when it
    # comes again.
    model_follower(settings, clock).start(cores.use)

    def judge_of() -> judge.Judge:
        outbox = outbox_of(app)
        rejects = Rejects(
            outbox, topics.rejected, by="worker",
            counted=lambda fault: meters.rejected.labels(fault).inc(),
        )  # fmt: skip  # one line a thought
        return judge.Judge(
            rows, cores.current, outbox, rejects, topics, partitions, meters, opened, clock
        )

    judge.attach(app, judge_of, topics.telemetry)
    return app


def governor_app(settings: Settings, meters: Meters, clock: Callable[[], int]) -> faust.App:
    """The governor's app, not started.

    Raises: BrokerUnreachable, ConfigurationError, UntrustedFile (policy or keys).
    """
    topics = Topics(settings.topic_prefix)
    signer = Signer.load(settings.keys_dir, settings.governor.signing_key)
    trust = TrustFile(settings.keys_dir, clock)
    gate = Gate(policy_of(settings), settings)
    if gate.needed:
        rehearsal_follower(settings, trust, gate.hear).begin()
        gate.at(clock())  # says at once what holds
    app = make_app(settings.governor.group, delivery_of(settings, settings.governor))
    continuity_of(app).counted_by(meters.gaps.inc)
    table = make_table(app, "incidents", partitions_of(settings.kafka, topics.findings))
    packer = Packer()
    rows = Rows(
        table, packer.pack, governor.unpack, govern.sources(topics),
        when_lost="open incidents are forgotten: `plimsoll incident list` and the alerts tell of "
        "them, what is isolated ends by itself or by a release",
    )  # fmt: skip  # by subject

    def governor_of() -> govern.Governor:
        outbox = outbox_of(app)
        rejects = Rejects(
            outbox, topics.rejected, by="govern",
            counted=lambda fault: meters.rejected.labels(fault).inc(),
        )  # fmt: skip  # one line a thought
        return govern.Governor(
            rows, gate.at, settings.scope, trust, signer, outbox, rejects, topics, meters
        )

    govern.attach(app, governor_of, topics)
    return app


def rehearsal_follower(
    settings: Settings, trust: Trust, heard: Callable[[Rehearsal, int], None]
) -> RehearsalFollower:
    """What past windows came to, as trainers and operators sign it."""
    return RehearsalFollower(
        settings.kafka.librdkafka(), Topics(settings.topic_prefix).models, settings.scope,
        trust=trust, heard=heard,
    )  # fmt: skip  # one line a thought


def model_follower(settings: Settings, clock: Callable[[], int]) -> ModelFollower:
    """What keeps a worker's models up with the models topic."""
    return ModelFollower(
        settings.kafka.librdkafka(), Topics(settings.topic_prefix).models, settings.scope,
        store=ModelStore(settings.models_dir), trust=TrustFile(settings.keys_dir, clock),
        opened=forest_of,
    )  # fmt: skip  # one line a thought


class _Cores:
    """The core as it is now; replaced whole, so that no batch sees half of a change."""

    def __init__(self, detection: Detection) -> None:
        self._core = Core(detection=detection)

    def current(self) -> Core:
        return self._core

    def use(self, roster: Roster) -> None:
        self._core = replace(self._core, models=roster.models)


# ---- Kafka ------------------------------------------------------------------------------------


def delivery_of(settings: Settings, part: Any) -> Delivery:
    """How an app of ours talks to Kafka; ``part`` is settings.worker or settings.governor."""
    return Delivery(
        bootstrap=settings.kafka.bootstrap,
        commit_interval_s=part.commit_interval_s,
        session_timeout_s=part.session_timeout_s,
        heartbeat_s=min(3.0, part.session_timeout_s / 4),
        replication=max(settings.topics.replication, 1),
        may_create_topics=settings.topics.create_changelogs,
        credentials=credentials_of(settings.kafka),
    )


def credentials_of(kafka: Kafka) -> Any:
    """The same settings in Faust's words; None for plain text."""
    context = ssl_context_of(kafka) if kafka.uses_ssl else None
    if kafka.uses_sasl:
        return faust.SASLCredentials(
            username=kafka.username, password=kafka.secret(), mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )  # fmt: skip  # one line a thought
    return faust.SSLCredentials(context) if context else None


def ssl_context_of(kafka: Kafka) -> ssl.SSLContext:
    """Raises: ConfigurationError when a certificate or key can't be read."""
    try:
        context = ssl.create_default_context(cafile=kafka.ca_file)
        if kafka.certificate_file and kafka.key_file:
            context.load_cert_chain(kafka.certificate_file, kafka.key_file)
    except OSError as problem:
        raise ConfigurationError(
            f"certificates of kafka ({kafka.ca_file}, {kafka.certificate_file}, "
            f"{kafka.key_file}): {problem}"
        ) from problem
    return context


def partitions_of(kafka: Kafka, topic: str) -> int:
    """How many partitions a topic has. Raises: BrokerUnreachable, with what to do."""
    # A consumer creates no topic by asking for it: one with the broker's default number of
    # partitions could never be put right.
    consumer = Consumer({**kafka.librdkafka(), "group.id": READER})
    try:
        found = consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
    except KafkaException as problem:
        raise BrokerUnreachable(
            f"Kafka at {kafka.bootstrap}: {problem.args[0].str()}; is kafka.bootstrap right "
            "(plimsoll config show), is the broker up?"
        ) from problem
    finally:
        consumer.close()
    heed(found.error, kafka.librdkafka(), "Read", topic)
    if found.error is not None or not found.partitions:
        why = found.error.str() if found.error else "it has no partitions"
        raise BrokerUnreachable(f"topic {topic}: {why}; run `plimsoll topics create` first")
    return len(found.partitions)


__all__ = [
    "continuity_of", "delivery_of", "governor_app", "judge_app", "model_follower",
    "partitions_of", "policy_of",
]  # fmt: skip  # a list to read across
