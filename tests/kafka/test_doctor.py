"""`plimsoll doctor` on a real broker that is secured: each thing that can be wrong is found,
told apart from the others, and comes with what to do.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.kafka import free_port
from infra.secured import ADMIN, Authority, SecuredKafka
from models.contract import KIND_HEADER, ONLY_PARTITION
from models.permissions import PARTS
from models.records.codec import encode
from models.records.telemetry import Tick
from models.settings import Kafka
from producers.gather.loop import Gather
from producers.meters import GatherMeters
from producers.settings import load as load_producers
from streams import keys
from streams.demo.backlog import Backlog
from streams.doctor import CHECKS
from streams.doctor.base import Case, Check, Diagnosis, Found, State, examine
from streams.settings import load
from tests.kafka.securing import (
    NAMES,
    TOPICS,
    permission,
    plimsoll,
    told_of,
    until,
    without,
)
from tests.telemetry.builders import frame

NS = 10**9
ALL_OF_UP = ("collect", "gather", "worker", "govern", "respond", "archive")


@pytest.fixture
def kafka(secured: SecuredKafka) -> SecuredKafka:
    return secured


def case(
    kafka: SecuredKafka, part: str, directory: Path, *, clock: Any = time.time_ns, **told: Any
) -> Case:
    """One part with its own identity; ``told`` are settings, those of Kafka in a table."""
    reach = told_of(kafka, part) | told.pop("reach", {})
    mine = {"data_dir": directory, "kafka": reach}
    here = {"spool": told.pop("spool", {}), "gather": {"tick_s": told.pop("tick_s", 1.0)}}
    producers, streams = (
        load_producers(**mine, **here),
        load(**mine, **{"topics": {"partitions": 4}} | told),
    )
    both = {
        name: getattr(one, name)
        for one in (producers, streams) for name in type(one).model_fields
    }  # fmt: skip  # one expression
    return Case(SimpleNamespace(**both), (part,), NAMES, clock)


def faults(case: Case, *names: str) -> dict[str, list[Diagnosis]]:
    """What these checks find, and those that they rest on."""
    chosen = [check for check in CHECKS if check.name in names]
    known = {check.name: check for check in CHECKS}
    for check in chosen:
        chosen += [known[one] for one in check.after if known[one] not in chosen]
    found = examine(case, sorted(chosen, key=CHECKS.index))
    told: dict[str, list[Diagnosis]] = {}
    for one in found:
        if one.state is not State.SOUND:
            told.setdefault(one.check, []).append(one)
    return told


def only(found: dict[str, list[Diagnosis]], check: str) -> Diagnosis:
    """The one fault, which makes the checks that rest on it unknown."""
    (fault,) = [one for many in found.values() for one in many if one.state is State.FAULT]
    assert fault.check == check, found
    assert fault.todo
    return fault


def test_a_deployment_in_good_order_is_sound(kafka: SecuredKafka, tmp_path: Path) -> None:
    """Each part with its own identity: nothing is wrong, and nothing else is asked of Kafka."""
    keys.ensure(tmp_path / "keys", time.time_ns())
    for part in ALL_OF_UP:
        with ticking(kafka):
            assert not faults(case(kafka, part, tmp_path), "clock", "rights", "folders", "keys")


def test_a_wrong_address_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    found = faults(case(kafka, "worker", tmp_path, reach={"bootstrap": nobody}), "rights")

    fault = only(found, "address")
    assert fault.about == nobody
    assert "refused" in fault.problem
    assert found["rights"][0].problem == "not looked at: first mend login"


def test_a_name_that_is_no_host_s_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    found = faults(case(kafka, "worker", tmp_path, reach={"bootstrap": "no.invalid:1"}), "address")

    assert "no such host" in only(found, "address").problem


def test_a_certificate_of_others_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority().pem)

    fault = only(faults(case(kafka, "worker", tmp_path, reach={"ca_file": other}), "login"), "tls")

    assert "certificate does not hold" in fault.problem
    assert "kafka.ca_file" in fault.todo
    assert str(other) in fault.todo


def test_a_broker_under_a_name_that_it_does_not_prove_is_found(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    port = kafka.server.bootstrap.partition(":")[2]
    told = case(kafka, "worker", tmp_path, reach={"bootstrap": f"localhost:{port}"})

    fault = only(faults(told, "login"), "tls")
    assert "as its certificate does" in fault.todo


def test_a_missing_authority_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    told = case(kafka, "worker", tmp_path, reach={"ca_file": tmp_path / "none.pem"})

    assert "none.pem" in only(faults(told, "login"), "tls").problem


def test_plain_text_to_a_listener_for_tls_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    told = case(kafka, "worker", tmp_path, reach={"security_protocol": "sasl_plaintext"})

    assert only(faults(told, "login"), "tls").todo == "set kafka.security_protocol to sasl_ssl"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"password": "guessed"}, "uthentication failed"),
        ({"username": "stranger"}, "uthentication failed"),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "SCRAM-SHA-512"),
    ],
)
def test_wrong_credentials_are_found(
    kafka: SecuredKafka, tmp_path: Path, wrong: dict[str, str], says: str
) -> None:
    told = case(kafka, "worker", tmp_path, reach=wrong)

    fault = only(faults(told, "rights"), "login")
    assert says in fault.problem
    assert "kafka.username" in fault.todo
    assert "guessed" not in fault.problem


def test_no_credentials_at_all_are_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    told = case(kafka, "worker", tmp_path, reach={"security_protocol": "ssl"})

    assert "may want a password" in only(faults(told, "login"), "login").todo


def test_a_password_that_cannot_be_read_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    file = {"password": "", "password_file": tmp_path / "secret"}

    fault = only(faults(case(kafka, "worker", tmp_path, reach=file), "login"), "login")
    assert fault.about == str(tmp_path / "secret")


def test_a_missing_topic_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    with gone(kafka, TOPICS.verdicts):
        fault = only(faults(case(kafka, "worker", tmp_path), "topics"), "topics")

    assert (fault.about, fault.problem) == (f"topic {TOPICS.verdicts}", "it does not exist")
    assert fault.todo == "plimsoll topics create"


def test_another_number_of_partitions_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    told = case(kafka, "collect", tmp_path, topics={"partitions": 6})

    fault = only(faults(told, "topics"), "topics")
    assert fault.problem == "it has 4 partitions, planned are 6"
    assert "set topics.partitions to 4" in fault.todo


def test_another_configuration_is_found_by_who_may_see_it(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    told = case(kafka, "topics", tmp_path, topics={"partitions": 4, "evidence_days": 7.0})
    fault = only(faults(told, "topics"), "topics")

    assert fault.about == f"topic {TOPICS.evidence}"
    assert "retention.ms" in fault.problem
    assert fault.todo == "plimsoll topics create --update"


def test_a_missing_right_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    told = case(kafka, "worker", tmp_path)
    with without(kafka, "worker", permission("worker", "topic", TOPICS.verdicts)):
        fault = only(faults(told, "rights"), "rights")

    assert fault.problem == f"User:worker may not Write topic {TOPICS.verdicts}"
    assert fault.todo == "plimsoll topics acls worker prints what to grant"


@pytest.mark.parametrize("part", ["collect", "worker", "respond"])
@pytest.mark.parametrize("wrong_s", [-90.0, 90.0])
def test_a_clock_that_is_wrong_is_found(
    kafka: SecuredKafka, tmp_path: Path, part: str, wrong_s: float
) -> None:
    """A collector's right is to write: it learns the log's time from what it writes."""

    def clock() -> int:
        return time.time_ns() + round(wrong_s * NS)

    with ticking(kafka):
        fault = only(faults(case(kafka, part, tmp_path, clock=clock), "clock"), "clock")

    way = "ahead of" if wrong_s > 0 else "behind"
    told = re.fullmatch(rf"its clock is (\d+) s {way} the log's", fault.problem)
    assert told is not None
    # Between the log's last record and our look passes a moment, a second on a busy machine.
    assert abs(int(told[1]) - abs(wrong_s)) <= 5


def test_a_log_that_takes_nothing_in_tells_no_time(kafka: SecuredKafka, tmp_path: Path) -> None:
    (found,) = faults(case(kafka, "worker", tmp_path, tick_s=0.3), "clock")["clock"]

    assert found.state is State.UNKNOWN
    assert "start gather" in found.todo


def test_gather_passes_over_what_the_doctor_writes(kafka: SecuredKafka, tmp_path: Path) -> None:
    """Otherwise each look would leave a dead letter."""
    gathered(kafka)  # what other tests wrote
    assert not faults(case(kafka, "collect", tmp_path), "clock")

    counted = gathered(kafka).rejected.collect()

    assert not any(one.value for metric in counted for one in metric.samples)


def gathered(kafka: SecuredKafka) -> GatherMeters:
    """What a gather counts that reads all there is."""
    told = load_producers(kafka=told_of(kafka, "gather"))
    meters, stop = GatherMeters(), threading.Event()
    thread = threading.Thread(target=Gather(told, time.time_ns, meters).run, args=(stop,))
    thread.start()
    behind = Backlog(kafka.kafka(ADMIN).librdkafka(), NAMES.gather, TOPICS.samples)
    until(lambda: not behind.records(), "all is read and committed")
    stop.set()
    thread.join(60)
    behind.close()
    return meters


def test_an_engine_that_is_not_there_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    where = f"unix://{tmp_path}/none.sock"
    told = {"PLIMSOLL_RESPONDER__DOCKER_HOST": where, "PLIMSOLL_GATHER__TICK_S": "0.1"}
    done = plimsoll(kafka, "respond", "doctor", "respond", "--json", directory=tmp_path, told=told)

    (fault,) = [one for one in json.loads(done.stdout) if one["check"] == "engine"]
    assert (fault["state"], fault["about"]) == ("fault", f"docker at {where}")
    assert "responder.docker_host" in fault["todo"]


def test_a_folder_that_cannot_be_written_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    told = case(kafka, "archive", tmp_path, archive_dir=tmp_path / "taken" / "archive")

    fault = only(faults(told, "folders"), "folders")
    assert "archive_dir" in fault.about
    assert fault.todo.startswith("set archive_dir to another place")


def test_a_disk_without_room_for_the_spool_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    """A spool that can't grow to its bound loses frames before it says so."""
    told = case(kafka, "collect", tmp_path, spool={"most_bytes": 1 << 60})

    fault = only(faults(told, "folders"), "folders")
    assert "MB are free" in fault.problem
    assert "spool_file" in fault.todo


def test_a_key_that_is_not_there_is_found(kafka: SecuredKafka, tmp_path: Path) -> None:
    assert "keys init" in only(faults(case(kafka, "govern", tmp_path), "keys"), "keys").todo


def test_the_command_answers_a_person_and_a_machine(kafka: SecuredKafka, tmp_path: Path) -> None:
    asked = ("doctor", "follow")
    told = {"PLIMSOLL_TOPICS__PARTITIONS": "4"}
    well = plimsoll(kafka, "follow", *asked, "--json", directory=tmp_path, told=told)
    with without(kafka, "follow", permission("follow", "topic", TOPICS.alerts)):
        ill = plimsoll(kafka, "follow", *asked, "--json", directory=tmp_path, told=told)
        seen = plimsoll(kafka, "follow", *asked, directory=tmp_path, told=told)

    states = {one["check"]: one["state"] for one in json.loads(well.stdout)}
    assert well.returncode == 0
    assert states == {check.name: "sound" for check in CHECKS} | {"clock": "unknown"}
    assert ill.returncode == 1
    (fault,) = [one for one in json.loads(ill.stdout) if one["state"] == "fault"]
    assert fault["problem"] == f"User:follow may not Read topic {TOPICS.alerts}"
    assert seen.returncode == 1
    assert fault["todo"] in seen.stdout


def test_what_rests_on_a_fault_is_not_looked_at() -> None:
    """Ten faults of which nine follow from one hide that one."""
    looked: list[str] = []

    def look(name: str, *found: Found) -> Any:
        def at(_case: Case) -> tuple[Found, ...]:
            looked.append(name)
            return found

        return at

    checks = [
        Check("first", "?", look("first", Found("x", "broken", "mend it"))),
        Check("second", "?", look("second"), ("first",)),
        Check("third", "?", look("third"), ("second",)),
        Check("apart", "?", look("apart")),
    ]
    nowhere = Case(SimpleNamespace(kafka=Kafka()), tuple(PARTS), NAMES, time.time_ns)

    found = [(one.check, one.state) for one in examine(nowhere, checks)]

    assert looked == ["first", "apart"]
    assert found == [
        ("first", State.FAULT), ("second", State.UNKNOWN), ("third", State.UNKNOWN),
        ("apart", State.SOUND),
    ]  # fmt: skip  # in their order


@contextmanager
def ticking(kafka: SecuredKafka) -> Iterator[None]:
    """Somebody writes to the topics that are read, as gather and the governor do."""
    producer, stop = Producer({**kafka.kafka(ADMIN).librdkafka()}), threading.Event()
    header: list[tuple[str, str | bytes | None]] = [(KIND_HEADER, b"tick")]

    def tick() -> None:
        while not stop.wait(0.2):
            value = encode(Tick(time.time_ns()))
            for topic in (TOPICS.findings, TOPICS.orders):
                producer.produce(topic, value, partition=ONLY_PARTITION, headers=header)
            producer.produce(TOPICS.telemetry, value, partition=0, headers=header)
            producer.produce(TOPICS.samples, encode(frame()))
            producer.poll(0)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        producer.flush(20)


@contextmanager
def gone(kafka: SecuredKafka, topic: str) -> Iterator[None]:
    """The topic, which is as planned again afterwards."""
    admin = AdminClient({**kafka.kafka(ADMIN).librdkafka()})
    admin.delete_topics([topic])[topic].result(20)
    until(lambda: topic not in admin.list_topics(timeout=10).topics, "it is gone")
    try:
        yield
    finally:
        done = plimsoll(kafka, "topics", "topics", "create", "--partitions", "4")
        assert done.returncode == 0, done.stderr
