"""``plimsoll incident`` and ``plimsoll alerts`` against a real governor on a real Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from models.records.codec import decode, encode
from models.records.exhibit import Exhibit
from models.records.order import Action, Status
from tests.core.governing import START_NS, outcome
from tests.fixtures_kafka import TestKafka
from tests.kafka.test_govern import Stand


@pytest.fixture
def stand(kafka: TestKafka, tmp_path: Path) -> Iterator[Stand]:
    topics = kafka.topics(
        findings=1, control=1, control_state=1, outcomes=1, orders=2, alerts=3, evidence=2,
        rejected=2, telemetry=1,
    )  # fmt: skip  # as many partitions as each needs
    made = Stand(kafka, tmp_path, topics)
    yield made
    made.stop()


def plimsoll(stand: Stand, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PLIMSOLL_KAFKA__BOOTSTRAP": stand.kafka.bootstrap,
        "PLIMSOLL_TOPIC_PREFIX": stand.topics.prefix,
        "PLIMSOLL_DATA_DIR": str(stand.directory),
    }
    return subprocess.Popen(
        (sys.executable, "-m", "streams", *words),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip  # one call, one thought


def said(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err + out
    return out


def now_s() -> float:
    """Seconds since the tests' own beginning of time."""
    return time.time() - START_NS / 1e9


def test_an_incident_is_read_decided_and_proven_by_command(stand: Stand) -> None:
    """What a person on call does at night, from the first look to the proof."""
    stand.worker()
    stand.find(container=1)
    (isolate,) = stand.await_(stand.orders)
    stand.answer(outcome(isolate, at_s=now_s()))
    stand.await_(lambda: [a for a in stand.alerts() if a["unmapped"]["stage"] == "contained"])
    uid = isolate.incident

    (row,) = orjson.loads(said(plimsoll(stand, "incident", "list", "--json")))
    assert (row["incident"], row["level"], row["stage"]) == (uid, "compromised", "contained")
    assert "verified in 0.8 s" in said(plimsoll(stand, "incident", "show", uid[:10]))
    assert "the chain holds" in said(plimsoll(stand, "incident", "verify", uid))
    page = stand.directory / "page.html"
    said(plimsoll(stand, "incident", "report", uid, "--out", str(page)))
    assert "evidence verified" in page.read_text()

    refused = plimsoll(stand, "incident", "approve", uid)
    said(refused, 1)
    release = plimsoll(stand, "incident", "release", uid, "--because", "it was a drill")
    orders = stand.await_(lambda: [o for o in stand.orders() if o.action is Action.RELEASE])
    stand.answer(outcome(orders[0], Status.RELEASED, now_s(), stage="released"))
    assert "isolate released" in said(release)
    assert "it was a drill" in said(plimsoll(stand, "incident", "show", uid))


def test_dismissing_an_incident_closes_it(stand: Stand) -> None:
    """A false alarm costs one command."""
    stand.worker()
    stand.find()
    (isolate,) = stand.await_(stand.orders)
    stand.answer(outcome(isolate, at_s=now_s()))
    stand.await_(lambda: [a for a in stand.alerts() if a["unmapped"]["stage"] == "contained"])

    dismissed = plimsoll(stand, "incident", "dismiss", isolate.incident, "--json")
    orders = stand.await_(lambda: [o for o in stand.orders() if o.action is Action.RELEASE])
    stand.answer(outcome(orders[0], Status.RELEASED, now_s(), stage="released"))
    assert orjson.loads(said(dismissed))["stage"] == "dismissed"
    assert "no open incidents" in said(plimsoll(stand, "incident", "list"))


def test_a_changed_exhibit_is_found_out_by_command(stand: Stand) -> None:
    """Whoever can write to the topic can add to it: the chain must not take it for its own."""
    stand.worker()
    stand.find()
    (isolate,) = stand.await_(stand.orders)
    said(plimsoll(stand, "incident", "verify", isolate.incident))

    bodies = [
        m for m in stand.read(stand.topics.evidence) if b"exhibit" in dict(m.headers()).values()
    ]
    changed = replace(decode(Exhibit, bodies[0].value()), detail="nothing to see here")
    stand.producer.produce(
        stand.topics.evidence, encode(changed), bodies[0].key(), headers=bodies[0].headers()
    )
    stand.producer.flush(20)
    assert "DOES NOT HOLD" in said(plimsoll(stand, "incident", "verify", isolate.incident), 1)


def test_the_tail_tells_what_the_topic_holds_in_the_order_of_time(stand: Stand) -> None:
    """Alerts of several incidents lie in several partitions; a person reads one night."""
    stand.worker()
    for container in range(1, 7):
        stand.find(container=container)
    stand.await_(lambda: len({a["finding_info"]["uid"] for a in stand.alerts()}) == 6)
    assert len({m.partition() for m in stand.read(stand.topics.alerts)}) > 1

    told = said(plimsoll(stand, "alerts", "tail", "--from-beginning", "--until-end", "--json"))
    times = [orjson.loads(line)["time"] for line in told.splitlines()]
    assert len(times) >= 6
    assert times == sorted(times)
