"""The topics, as a real broker makes them."""

from __future__ import annotations

import pytest

from models.contract import SINGLE_PARTITION, Topics
from models.errors import BrokerUnreachable
from models.settings import Kafka
from streams.commands.topics import settle
from streams.settings import TopicPlan
from streams.topics import Cluster, compare, plan
from tests.fixtures_kafka import TestKafka

SMALL = TopicPlan(partitions=3, replication=1)


def test_creating_twice_changes_nothing(kafka: TestKafka) -> None:
    """Deployments run `topics create` at every start."""
    topics = Topics(kafka.prefix())
    planned, cluster = plan(topics, SMALL), Cluster(Kafka(kafka.bootstrap))

    done, remain = settle(cluster, planned, update=False, dry_run=False)
    assert {name for name, _ in done} == set(topics.all())
    assert not remain
    assert settle(cluster, planned, update=False, dry_run=False) == ([], [])

    found = cluster.find(planned)
    assert {found[f"{topics.prefix}{role}"].partitions for role in SINGLE_PARTITION} == {1}
    assert found[topics.telemetry].partitions == 3
    assert found[topics.telemetry].config["message.timestamp.type"] == "LogAppendTime"
    assert found[topics.inventory].config["cleanup.policy"] == "compact"


def test_a_dry_run_makes_nothing(kafka: TestKafka) -> None:
    """Somebody who asks first must be able to trust the answer."""
    planned, cluster = plan(Topics(kafka.prefix()), SMALL), Cluster(Kafka(kafka.bootstrap))

    done, _ = settle(cluster, planned, update=False, dry_run=True)

    assert {what for _, what in done} == {"would be created"}
    assert cluster.find(planned) == {}


def test_configuration_is_mended_on_request_and_partitions_never(kafka: TestKafka) -> None:
    """More partitions would part a key from the baseline that was learned for it."""
    topics = Topics(kafka.prefix())
    planned, cluster = plan(topics, SMALL), Cluster(Kafka(kafka.bootstrap))
    settle(cluster, planned, update=False, dry_run=False)
    other = plan(topics, TopicPlan(partitions=6, replication=1, telemetry_days=1.0))

    done, remain = settle(cluster, other, update=True, dry_run=False)

    assert {name for name, _ in done} == {topics.samples, topics.telemetry}
    assert {one.what for one in remain} == {"partitions"}
    assert all(one.found == "3" for one in compare(other, cluster.find(other)))


def test_a_broker_that_is_not_there_is_named() -> None:
    """The person on call needs the address and what to look at."""
    cluster = Cluster(Kafka("127.0.0.1:1"), timeout_s=1.0)

    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1.*kafka\.bootstrap"):
        cluster.find(plan(Topics(), SMALL))
