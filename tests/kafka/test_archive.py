"""The archive on a real Kafka: killed when it hurts most, and still the log row by row."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.kafka import free_port
from models.records.codec import encode
from models.records.facts import Connection, Direction, Observation
from models.records.inventory import InventoryEntry
from models.records.samples import Samples
from models.records.telemetry import Batch, Member, Sightings, Tick
from models.records.verdict import Level
from streams.archive import layout
from tests.core.governing import finding
from tests.fixtures_kafka import TestKafka
from tests.kafka.archiving import PARTITIONS, Deployment, until

SECOND_NS = 10**9
START_NS = 1_790_000_000 * SECOND_NS
GROUPS = 5
Sample = tuple[str, int, float | None]
"""Subject, time and CPU."""


@pytest.fixture
def deployment(kafka: TestKafka, tmp_path: Path) -> Deployment:
    return Deployment(kafka, tmp_path)


def batch(group: int, at_s: int) -> Batch:
    """Three samples, of the last of which the CPU was not measured."""
    subjects = tuple(f"{group}-{number}" for number in range(3))
    members = tuple(Member(subject, "h1", f"shop/{group}@sha256:1") for subject in subjects)
    values = np.array([[at_s + 0.25, at_s + 0.5, np.nan], [1.0, 2.0, 3.0]])
    at_ns = START_NS + at_s * SECOND_NS
    table = Samples(
        ("cpu_cores", "processes"), subjects, np.arange(3), np.full(3, at_ns, np.int64), values
    )
    return Batch("default", f"shop/{group}", "web", members, table, 1.0)


def samples_of(written: list[Batch]) -> Counter[Sample]:
    """What the archive must hold, from the records themselves."""
    found: Counter[Sample] = Counter()
    for one in written:
        cpu = one.samples.column("cpu_cores")
        for at, subject in enumerate(one.samples.subjects):
            value = None if np.isnan(cpu[at]) else float(cpu[at])
            found[subject, int(one.samples.times_ns[at]) // SECOND_NS, value] += 1
    return found


def samples_in(deployment: Deployment) -> Counter[Sample]:
    rows = deployment.table("samples")
    return Counter((row["subject"], int(row["time"].timestamp()), row["cpu_cores"]) for row in rows)


def write(deployment: Deployment, from_s: int, seconds: int) -> list[Batch]:
    """Batches of every group and, between them, what else the topics carry."""
    written = []
    for at_s in range(from_s, from_s + seconds):
        for group in range(GROUPS):
            written.append(batch(group, at_s))
            deployment.write(written[-1])
        fact = Connection(Direction.EGRESS, "198.51.100.9", 443, "tcp")
        seen = Observation("0-0", START_NS + at_s * SECOND_NS, fact)
        deployment.write(Sightings("default", "shop/0", "web", written[0].members, (seen,)))
        for partition in range(PARTITIONS):
            deployment.write(Tick(START_NS + at_s * SECOND_NS), partition)
        deployment.send("findings", encode(finding(Level.SUSPECT, at_s)), kind="finding")
        deployment.send("telemetry", b"{torn", kind="batch", key=f"torn-{at_s}",
                        at_ms=START_NS // 10**6 + at_s * 1000)  # fmt: skip  # one thought
    deployment.flush()
    return written


def test_killed_at_the_worst_moments_it_holds_each_record_once(deployment: Deployment) -> None:
    """Between the last byte and the rename nothing of a lot counts; after it, all does. Both
    moments, again and again, with records coming all the while.
    """
    moments = [
        ("before", 1),
        ("after", 1),
        ("before", 1),
        ("after", 1),
        ("before", 2),
        ("after", 2),
    ]
    written, at_s = write(deployment, 0, 5), 5
    for when, number in moments:
        with deployment.dying(when, number) as process:
            while process.poll() is None:
                written += write(deployment, at_s, 2)
                at_s += 2
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        assert process.returncode == -signal.SIGKILL, deployment.said()
    deployment.archived()

    assert samples_in(deployment) == samples_of(written)
    for role, tables in {
        "telemetry": ("samples", "connections", "ticks", "undecodable"),
        "findings": ("findings",),
    }.items():
        ends = {p: end for (t, p), end in deployment.ends().items() if t.endswith(f".{role}")}
        held = deployment.places(*tables)
        assert held.keys() == {(p, at) for p, end in ends.items() for at in range(end)}
    for table in ("connections", "ticks", "undecodable", "findings"):
        assert set(deployment.places(table).values()) == {1}, table
    assert not list((deployment.root / layout.DRAFTS).iterdir())


def test_killed_anywhere_and_restarted_it_holds_each_record_once(deployment: Deployment) -> None:
    """A power cut does not wait for a good moment."""
    written: list[Batch] = []
    for turn in range(6):
        said = len(deployment.events())
        with deployment.archiving(PLIMSOLL_ARCHIVE__LOT_MB="1") as process:
            written += write(deployment, 100 * turn, 20)
            until(lambda before=said: len(deployment.events()) > before, "a line")  # type: ignore[misc]  # bound now
            process.kill()
    deployment.archived()

    assert samples_in(deployment) == samples_of(written)
    assert set(deployment.places("ticks").values()) == {1}


def test_what_retention_took_is_said_and_recorded(deployment: Deployment) -> None:
    """A hole that nobody knows of makes every sum over it wrong."""
    for at_s in range(4):
        deployment.write(Tick(START_NS + at_s * SECOND_NS), 1)
    deployment.flush()
    deployment.archived()
    for at_s in range(4, 10):
        deployment.write(Tick(START_NS + at_s * SECOND_NS), 1)
    deployment.flush()
    admin = AdminClient({"bootstrap.servers": deployment.kafka.bootstrap})
    topic = deployment.topics.telemetry
    for gone in admin.delete_records([TopicPartition(topic, 1, 7)]).values():
        gone.result(20)

    deployment.archived()

    assert sorted(deployment.places("ticks")) == [(1, at) for at in (0, 1, 2, 3, 7, 8, 9)]
    (hole,) = deployment.table("gaps")
    found = (hole["topic"], hole["log_partition"], hole["first_missing"], hole["next_found"])
    assert (*found, hole["because"]) == (topic, 1, 4, 7, "retention")
    (told,) = (one for one in deployment.events() if one["event"].startswith("records are missing"))
    assert (told["first"], told["next"], told["level"]) == (4, 7, "error")


def test_compaction_leaves_holes_that_are_none(deployment: Deployment) -> None:
    """The inventory topic keeps the newest entry of each container on purpose."""
    for number in range(6):
        entry = InventoryEntry("default", f"c{number}", "h1", "shop/cart@1", "shop/cart")
        deployment.send("inventory", encode(entry), key=f"c{number}", partition=0)
    deployment.send("inventory", None, key="c0", partition=0)
    deployment.flush()
    deployment.archived()
    admin = AdminClient({"bootstrap.servers": deployment.kafka.bootstrap})
    deployment.send("inventory", None, key="c1", partition=0)
    deployment.flush()
    (gone,) = admin.delete_records([TopicPartition(deployment.topics.inventory, 0, 7)]).values()
    gone.result(20)
    deployment.archived()

    assert not deployment.table("gaps")
    deleted = [row["subject"] for row in deployment.table("inventory") if row["deleted"]]
    assert deleted == ["c0", "c1"]


def test_what_cannot_be_decoded_is_archived_as_it_came(deployment: Deployment) -> None:
    """With its bytes, its reason and its place: someone will want to know."""
    deployment.send("telemetry", b"\xff\x00", kind="batch", key="k", partition=2)
    deployment.send("orders", b"{}", partition=0)
    deployment.flush()
    deployment.archived()

    rows: dict[str, dict[str, Any]] = {
        row["topic"].rpartition(".")[2]: row for row in deployment.table("undecodable")
    }
    assert (rows["telemetry"]["value"], rows["telemetry"]["log_key"]) == (b"\xff\x00", b"k")
    assert (rows["telemetry"]["log_partition"], rows["telemetry"]["kind"]) == (2, "batch")
    assert (rows["telemetry"]["fault"], rows["orders"]["fault"]) == (
        "undecodable",
        "unknown-schema",
    )


def test_it_counts_what_it_wrote_and_what_waits(deployment: Deployment) -> None:
    """Whoever watches it needs to see it fall behind before retention overtakes it."""
    for at_s in range(5):
        deployment.write(Tick(START_NS + at_s * SECOND_NS), 1)
    deployment.flush()
    port = free_port()
    told = ""

    def counted() -> bool:
        nonlocal told
        with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}") as page:
            told = page.read().decode()
        return 'plimsoll_archive_rows_total{table="ticks"} 5.0' in told

    with deployment.archiving(PLIMSOLL_ARCHIVE__METRICS_PORT=str(port)):
        until(counted, "five rows")

    assert f'plimsoll_archive_lag{{topic="{deployment.topics.telemetry}"}} 0.0' in told
    assert 'plimsoll_records_total{kind="telemetry"} 5.0' in told


def test_new_partitions_are_followed_by_the_next_start(deployment: Deployment) -> None:
    """And the old ones go on where they were."""
    deployment.write(Tick(START_NS), 0)
    deployment.flush()
    deployment.archived()
    deployment.write(Tick(START_NS), 0)
    deployment.write(Tick(START_NS), 2)
    deployment.flush()
    deployment.archived()

    assert deployment.places("ticks") == {(0, 0): 1, (0, 1): 1, (2, 0): 1}


def test_another_cluster_s_archive_is_left_alone(deployment: Deployment, tmp_path: Path) -> None:
    """The same offsets mean other records there. Under `up` the other parts go on: 1, not 2."""
    deployment.write(Tick(START_NS), 0)
    deployment.flush()
    deployment.archived()
    newest = layout.newest(deployment.root)
    assert newest is not None
    (path,) = deployment.root.glob("day=*/lot-*/lot.json")
    path.write_text(path.read_text().replace(newest.cluster, "another-cluster"))

    with deployment.archiving() as process:
        assert process.wait(60) == 1

    assert "holds records of Kafka cluster another-cluster" in deployment.said()


def test_a_missing_topic_is_named(kafka: TestKafka, tmp_path: Path) -> None:
    """Started before its topics exist, it must not wait in silence."""
    deployment = Deployment(kafka, tmp_path)
    with deployment.archiving(PLIMSOLL_TOPIC_PREFIX="nowhere.") as process:
        assert process.wait(60) == 2

    assert "nowhere.telemetry" in deployment.said()
    assert "plimsoll topics create" in deployment.said()
