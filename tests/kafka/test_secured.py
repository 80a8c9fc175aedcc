"""A Kafka with TLS, passwords and access lists: the line runs with what it is granted alone,
and whoever lacks a right says which.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from infra.secured import SecuredKafka
from models.contract import KIND_HEADER, READER
from models.errors import NotPermitted
from models.permissions import PARTS, Operation, Permission, permissions
from models.records.codec import decode, encode
from models.records.inventory import InventoryEntry
from models.records.rejected import DeadLetter
from models.records.verdict import Level
from producers.gather.loop import Gather
from producers.meters import GatherMeters
from producers.publish import Publisher, PublishMeters
from producers.settings import load as load_producers
from producers.sources.simulated import Fleet
from streams import keys
from streams.archive.tables import archived
from streams.demo.answering import Answering
from streams.settings import load
from streams.stores.log import LogReader
from tests.core.governing import START_NS, finding
from tests.kafka.securing import (
    DEADLINE_S,
    NAMES,
    TOPICS,
    environment,
    lacks,
    permission,
    plimsoll,
    told_of,
    until,
    without,
)
from tests.telemetry.builders import entry, frame

NS = 10**9
WORKERS = ("gather", "worker", "govern", "archive")


@pytest.fixture
def kafka(secured: SecuredKafka) -> SecuredKafka:
    return secured


class Line:
    """The parts that only read and write Kafka, each under its own name."""

    def __init__(self, kafka: SecuredKafka, directory: Path) -> None:
        self._kafka, self.directory = kafka, directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        keys.ensure(directory / "keys", time.time_ns())

    def start(self, part: str) -> subprocess.Popen[bytes]:
        told = environment(self._kafka, part, self.directory) | {
            "PLIMSOLL_GOVERNOR__MODE": "enforce", "PLIMSOLL_GOVERNOR__WITHOUT_REPLAY": "a test",
            "PLIMSOLL_ARCHIVE__LOT_S": "1", "PLIMSOLL_GATHER__TICK_S": "1",
            "PLIMSOLL_GATHER__SILENCE_S": "3",
        }  # fmt: skip  # a table
        with self.log(part).open("wb") as log:
            started = subprocess.Popen(
                (sys.executable, "-m", "streams", part),
                env=told, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip  # one call
        self._running[part] = started
        return started

    def log(self, part: str) -> Path:
        return self.directory / f"{part}.log"

    def said(self) -> str:
        return "\n".join(f"{part}: {self.log(part).read_text()[-800:]}" for part in self._running)

    def check(self) -> None:
        for part, process in self._running.items():
            assert process.poll() is None, f"{part} ended: {self.log(part).read_text()[-2000:]}"

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:  # a failure, which must leave nothing behind
                process.kill()
                process.wait()


@pytest.fixture
def line(kafka: SecuredKafka, tmp_path: Path) -> Iterator[Line]:
    made = Line(kafka, tmp_path)
    yield made
    made.stop()


def collector(kafka: SecuredKafka, directory: Path) -> Publisher:
    told = load_producers(data_dir=directory, kafka=told_of(kafka, "collect"))
    return Publisher(told, time.time_ns, PublishMeters())


def test_the_whole_line_runs_with_what_the_page_grants(
    kafka: SecuredKafka, line: Line, tmp_path: Path
) -> None:
    """What the collector sees is judged; what is found is answered, told and archived."""
    fleet = Fleet(1, time.time_ns() - NS)
    publisher = collector(kafka, tmp_path)
    hosts = {entry.host for entry in fleet.containers()}
    settings = load(data_dir=tmp_path, kafka=told_of(kafka, "respond"))
    for part in WORKERS:
        line.start(part)

    def found() -> set[str]:
        """The levels of the incidents so far."""
        line.check()
        told = plimsoll(kafka, "operate", "incident", "list", "--json", directory=tmp_path)
        assert told.returncode == 0, told.stdout
        return {one["level"] for one in json.loads(told.stdout)}

    def archived() -> bool:
        sql = "SELECT count(*) AS n FROM outcomes WHERE verified"
        asked = ("query", "--dir", str(tmp_path / "archive"), "--json", sql)
        done = plimsoll(kafka, "archive", *asked, directory=tmp_path)
        return done.returncode == 0 and json.loads(done.stdout)[0]["n"] > 0

    with Answering(settings, fleet, hosts, time.time_ns):
        for made in fleet.step(1.0):  # and then the hosts are silent, which is a finding
            publisher.send(made)
        assert publisher.flush(DEADLINE_S)
        until(lambda: "watch" in found(), f"the silence is found; {line.said()}")
        victim = fleet.of("web")[0].entry(fleet.now_ns())
        find(kafka, victim)
        until(lambda: "compromised" in found(), f"the other finding is told; {line.said()}")
        until(lambda: not (fleet.inspect(victim.subject) or {})["networks"], "it is cut off")
        until(archived, f"so was what became of it; {line.said()}")
    publisher.close()

    listed = plimsoll(kafka, "train", "models", "list", "--json", directory=tmp_path)
    assert json.loads(listed.stdout)["models"] == [], listed


def find(kafka: SecuredKafka, victim: InventoryEntry) -> None:
    """What a worker finds of a container that it has known for long, by the worker's name."""
    at_s = time.time() - START_NS / NS
    found = finding(
        Level.COMPROMISED, at_s, lineage=victim.lineage, subject=victim.subject,
        host=victim.host, image=victim.image, role=victim.role,
    )  # fmt: skip  # one call
    producer = Producer({**kafka.kafka("worker").librdkafka()})
    kind: list[tuple[str, str | bytes | None]] = [(KIND_HEADER, b"finding")]
    producer.produce(TOPICS.findings, encode(found), partition=0, headers=kind)
    assert not producer.flush(DEADLINE_S)


@pytest.mark.parametrize("part", PARTS)
def test_each_right_that_a_part_lacks_is_found_and_no_other(kafka: SecuredKafka, part: str) -> None:
    assert not lacks(kafka, part)
    for granted, operation in each(part):
        with without(kafka, part, granted, operation):
            pass


@pytest.mark.parametrize(
    ("part", "kind", "name", "operation"),
    [
        ("worker", "topic", TOPICS.verdicts, "Write"),
        ("worker", "group", NAMES.worker, "Read"),
        ("govern", "topic", "plimsoll-governor-incidents-changelog", "Write"),
        ("archive", "topic", TOPICS.evidence, "Read"),
    ],
)
def test_a_part_that_lacks_a_right_ends_and_says_which(
    kafka: SecuredKafka, line: Line, part: str, kind: str, name: str, operation: Operation
) -> None:
    with without(kafka, part, permission(part, kind, name), operation):
        assert line.start(part).wait(DEADLINE_S) == 1

    said = line.log(part).read_text()
    assert f"Kafka does not let User:{part} do this: {operation} {kind} {name}." in said
    assert "plimsoll topics acls" in said


def test_a_worker_whose_right_is_taken_away_ends_and_says_which(
    kafka: SecuredKafka, line: Line
) -> None:
    worker = line.start("worker")
    until(lambda: members(kafka, NAMES.worker), "the worker joined its group")

    with without(kafka, "worker", permission("worker", "topic", TOPICS.telemetry)):
        assert worker.wait(DEADLINE_S) != 0

    said = line.log("worker").read_text()
    assert f"User:worker do this: Read topic {TOPICS.telemetry}." in said


def members(kafka: SecuredKafka, group: str) -> int:
    admin = AdminClient({**kafka.kafka("worker").librdkafka()})
    (found,) = admin.describe_consumer_groups([group]).values()
    return len(found.result(DEADLINE_S).members)


def test_gather_ends_for_each_right_that_it_lacks(kafka: SecuredKafka, tmp_path: Path) -> None:
    """Rather than to read on and on what it can't hand over."""
    told = load_producers(kafka=told_of(kafka, "gather"), gather={"tick_s": 0.2})
    publisher = collector(kafka, tmp_path)
    raw = Producer({**kafka.kafka("collect").librdkafka()})
    for number, (granted, operation) in enumerate(each("gather")):
        name = f"c{number}"  # new to gather: it writes an inventory entry, and a batch
        made = replace(frame([name], inventory=[entry(name, "shop/new")]), sequence=number)
        publisher.send(made)
        raw.produce(TOPICS.samples, b"no frame")
        assert publisher.flush(DEADLINE_S)
        assert not raw.flush(DEADLINE_S)
        stop = threading.Event()
        giving_up = threading.Timer(DEADLINE_S, stop.set)
        giving_up.start()
        with without(kafka, "gather", granted, operation):
            gather = Gather(told, time.time_ns, GatherMeters())
            what = f"User:gather do this: {operation} {granted.kind} {granted.name}"
            with pytest.raises(NotPermitted, match=what):
                gather.run(stop)
        giving_up.cancel()
    publisher.close()


def each(part: str) -> list[tuple[Permission, Operation]]:
    """The rights of a part, one by one."""
    return [(one, operation) for one in permissions(part, NAMES) for operation in one.operations]


def test_a_collector_without_its_right_says_so_and_keeps_its_frames(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    (needed,) = permissions("collect", NAMES)
    publisher = collector(kafka, tmp_path)
    with without(kafka, "collect", needed), capture_logs() as lines:
        publisher.send(frame(["c1"]))
        until(lambda: served(publisher).away, "the frame goes to disk")

    problems = [line["problem"] for line in lines if line["event"] == "kafka-refused"]
    assert f"User:collect do this: Write topic {TOPICS.samples}" in problems[0]
    until(lambda: not served(publisher).waiting, "the frame follows")
    publisher.close()


def served(publisher: Publisher) -> Publisher:
    publisher.serve()
    return publisher


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("topic", TOPICS.orders, f"Read topic {TOPICS.orders}"),
        ("group", READER, f"Describe group {READER}"),
    ],
)
def test_a_responder_that_may_not_read_says_so_and_goes_on(
    kafka: SecuredKafka, tmp_path: Path, kind: str, name: str, told: str
) -> None:
    """What is in force has to end in time, whatever became of its access."""
    fleet = Fleet(1, time.time_ns())
    keys.ensure(tmp_path / "keys", time.time_ns())
    settings = load(data_dir=tmp_path, kafka=told_of(kafka, "respond"))
    with (
        without(kafka, "respond", permission("respond", kind, name)),
        capture_logs() as lines,
        Answering(settings, fleet, {"h1"}, time.time_ns),
    ):
        until(lambda: any(told in str(line.get("why")) for line in lines), told)


def test_what_is_no_order_becomes_a_dead_letter_as_soon_as_it_may_be_written(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    """Whoever can write to the orders topic leaves a trace there that he can't take away."""
    fleet = Fleet(1, time.time_ns())
    host = fleet.of("web")[0].entry(fleet.now_ns()).host
    keys.ensure(tmp_path / "keys", time.time_ns())
    stranger = keys.Signer("governor", Ed25519PrivateKey.generate())
    forged = encode(stranger.sign(b"anything"))
    settings = load(data_dir=tmp_path, kafka=told_of(kafka, "respond"))
    told = f"Write topic {TOPICS.rejected}"

    def letters() -> list[DeadLetter]:
        scanned = LogReader(kafka.kafka("operate")).scan(TOPICS.rejected)
        found = [decode(DeadLetter, message.value()) for message in scanned]
        return [one for one in found if one.kept in (b"no order", forged)]

    with Answering(settings, fleet, {host}, time.time_ns):
        with (
            without(kafka, "respond", permission("respond", "topic", TOPICS.rejected)),
            capture_logs() as lines,
        ):
            orders = Producer({**kafka.kafka("govern").librdkafka()})
            for value in (b"no order", forged):
                orders.produce(TOPICS.orders, value, host)
            assert not orders.flush(DEADLINE_S)
            until(lambda: any(told in str(line.get("why")) for line in lines), told)
        until(lambda: len(letters()) == 2, "both dead letters")

    first, second = sorted(letters(), key=lambda one: one.offset)
    assert (first.fault, first.kept, first.topic) == ("undecodable", b"no order", TOPICS.orders)
    assert (second.fault, second.kept, second.key) == ("untrusted", forged, host.encode())
    assert {first.rejected_by, second.rejected_by} == {"respond"}
    assert f"key {stranger.key!r} is not in trusted.json" in second.reason


def test_who_may_not_follow_the_alerts_is_told_so(kafka: SecuredKafka, tmp_path: Path) -> None:
    with without(kafka, "follow", permission("follow", "topic", TOPICS.alerts)):
        done = plimsoll(kafka, "follow", "alerts", "tail", "--json", directory=tmp_path)

    assert done.returncode == 1
    assert f"User:follow do this: Read topic {TOPICS.alerts}" in done.stdout


def test_who_may_not_create_topics_is_told_so(kafka: SecuredKafka) -> None:
    with without(kafka, "topics", permission("topics", "topic", TOPICS.rejected), "Describe"):
        done = plimsoll(kafka, "topics", "topics", "create")

    assert done.returncode == 1
    assert f"User:topics do this: Describe topic {TOPICS.rejected}" in done.stderr


def test_the_archive_may_read_what_it_archives() -> None:
    """Two lists of one thing, on the two sides of the core."""
    may = {one.name for one in permissions("archive", NAMES) if one.kind == "topic"}

    assert may == set(archived(TOPICS))


def test_no_part_tells_its_password(kafka: SecuredKafka, line: Line) -> None:
    """Not in what it logs, nor in what the settings show."""
    worker = line.start("worker")
    until(lambda: members(kafka, NAMES.worker), "the worker joined its group")
    shown = plimsoll(kafka, "worker", "--log-level", "debug", "config", "show", "--json")
    worker.terminate()
    worker.wait(30)

    password = kafka.kafka("worker").password
    assert password
    assert password not in line.log("worker").read_text() + shown.stdout + shown.stderr
