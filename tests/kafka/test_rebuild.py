"""A changelog that is gone: no hang, nothing ordered, and all of it back from the telemetry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from models.state import pack
from tests.fixtures_kafka import TestKafka
from tests.kafka.test_judge_worker import PARTITIONS, Deployment, fill


def changelog(deployment: Deployment) -> str:
    return f"{deployment.group}-baselines-changelog"


def records_deleted(deployment: Deployment) -> None:
    """As by a retention that somebody set: the partitions go on where they were, empty."""
    ends = {one.partition(): one.offset() + 1 for one in deployment.read(changelog(deployment))}
    upto = [TopicPartition(changelog(deployment), at, end) for at, end in ends.items()]
    admin = AdminClient({"bootstrap.servers": deployment.kafka.bootstrap})
    entry = ConfigEntry(
        "cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(
        ResourceType.TOPIC, changelog(deployment), incremental_configs=[entry]
    )
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)
    for future in admin.delete_records(upto).values():
        future.result(20)


def topic_deleted(deployment: Deployment) -> None:
    admin = AdminClient({"bootstrap.servers": deployment.kafka.bootstrap})
    for future in admin.delete_topics([changelog(deployment)]).values():
        future.result(20)


def rebuild(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PLIMSOLL_KAFKA__BOOTSTRAP": deployment.kafka.bootstrap,
        "PLIMSOLL_TOPIC_PREFIX": deployment.topics.prefix,
        "PLIMSOLL_DATA_DIR": str(deployment.directory),
        "PLIMSOLL_WORKER__GROUP": deployment.group,
    }
    return subprocess.run(
        [sys.executable, "-m", "streams", "rebuild", *arguments, "--json"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip  # one call


def said(deployment: Deployment) -> str:
    return (deployment.directory / "worker.log").read_text()


def equals_the_replay(deployment: Deployment) -> bool:
    rows, replay = deployment.state(), deployment.replay()
    kept = {group: rows.get(group) for group in replay}
    return all(
        state is not None and pack(state) == pack(replay[group]) for group, state in kept.items()
    )


@pytest.mark.timeout(600)  # three workers and four commands start, one after the other
@pytest.mark.parametrize("lost", [records_deleted, topic_deleted])
def test_a_lost_changelog_is_told_and_rebuilt(
    kafka: TestKafka, tmp_path: Path, lost: Callable[[Deployment], None]
) -> None:
    """A worker that went on as if nothing were missing would judge by a normal of its own, and
    isolate by it.
    """
    deployment = Deployment(kafka, tmp_path)
    total = fill(deployment, 60)
    with deployment.worker():
        deployment.until_committed(total)
    assert "a partition is cold" not in said(deployment)

    lost(deployment)
    total += fill(deployment, 10)
    with deployment.worker():
        deployment.until_committed(total)
        running = rebuild(deployment)
    assert running.returncode == 2
    assert "stop them first" in running.stdout
    assert said(deployment).count("a partition is cold") >= PARTITIONS
    assert not equals_the_replay(deployment)

    planned = json.loads(rebuild(deployment, "--dry-run").stdout)
    assert [one["cold"] for one in planned] == [True] * PARTITIONS, "it is remembered"
    assert not equals_the_replay(deployment)
    made = json.loads(rebuild(deployment).stdout)
    assert all(one["complete"] and one["rows_written"] for one in made)
    assert equals_the_replay(deployment)

    before = said(deployment)
    total += fill(deployment, 1)
    with deployment.worker():
        deployment.until_committed(total)
    assert equals_the_replay(deployment)
    assert "cold" not in said(deployment)[len(before) :]
    assert rebuild(deployment, "--dry-run").stdout == "[]\n"
