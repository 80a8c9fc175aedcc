"""Alerts: valid detection findings, one finding uid from created to closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from models.alert import TECHNIQUES
from models.policy import Policy
from models.records.control import Verb
from models.records.order import Status
from models.records.verdict import Evidence, Family, Level, Reason
from streams.alerts import unwrapped, wrapped
from tests.core.governing import Bench, finding, outcome, tick, word

SCHEMA = orjson.loads(
    (Path(__file__).parents[2] / "docs/schema/ocsf-detection-finding.schema.json").read_bytes()
)
VALID = jsonschema.Draft202012Validator(SCHEMA)


def whole_story() -> list[Any]:
    """Alerts of an incident from opened to closed, through failure and release."""
    bench = Bench()
    bench.take(finding(Level.WATCH), finding(Level.CORRUPTED, at_s=2), finding(at_s=5))
    isolate = bench.orders[-1]
    bench.take(outcome(isolate, Status.FAILED, 6, stage="failed"))
    bench.take(outcome(bench.orders[-1], at_s=8), word(Verb.CONFIRM, bench.uid, 9))
    bench.take(word(Verb.RELEASE, bench.uid, 10))
    releases = [order for order in bench.orders if order.undoes]
    bench.take(*(outcome(one, Status.RELEASED, 11, stage="released") for one in releases))
    bench.take(finding(Level.QUIET, at_s=20), tick(4000), tick(5000))
    return bench.alerts


def test_every_alert_of_a_story_is_a_valid_detection_finding() -> None:
    """Subscribers validate; what their pipeline drops nobody reads."""
    alerts = whole_story()

    assert [alerts[0].change, alerts[-1].change] == ["created", "closed"]
    for alert in alerts:
        VALID.validate(orjson.loads(orjson.dumps(alert.body)))
    assert len({alert.body["finding_info"]["uid"] for alert in alerts}) == 1
    assert len({alert.uid for alert in alerts}) == len(alerts)
    assert {alert.body["type_uid"] for alert in alerts} == {200401, 200402, 200403}


@pytest.mark.parametrize(
    ("level", "severity"),
    [(Level.WATCH, 2), (Level.CORRUPTED, 3), (Level.SUSPECT, 4), (Level.COMPROMISED, 5)],
)
def test_severity_follows_the_level_and_faults_are_no_attacks(level: Level, severity: int) -> None:
    """A leak that pages the security team at night is turned off by morning."""
    bench = Bench(Policy())
    bench.take(finding(level))
    body = bench.alerts[0].body

    assert body["severity_id"] == severity
    assert ("attacks" in body["finding_info"]) == (severity > 3)
    assert body["is_alert"] == (severity > 2)


def test_the_reasons_are_there_for_people_and_machines() -> None:
    """The number, what is usual, and the sentence."""
    bench = Bench(Policy())
    bench.take(finding())
    body = bench.alerts[0].body

    assert "sent 48 MB in 60 s" in body["message"]
    (analysis,) = body["anomaly_analyses"]
    assert analysis["anomalies"][0]["observations"] == [{"value": "800000"}]
    assert analysis["baselines"][0]["observations"] == [{"value": "1000 to 20000"}]
    assert body["unmapped"]["said"][0].startswith("would have isolated; refused: ")
    assert {"T1041", "T1059"} == {a["technique"]["uid"] for a in body["finding_info"]["attacks"]}


@pytest.mark.parametrize("family", Family)
def test_an_alert_of_any_family_is_valid(family: Family) -> None:
    """Each family has its technique, and none is forgotten."""
    bench = Bench(Policy())
    reason = Reason(family, Evidence.FACT, "something of this family")
    bench.take(finding(families=(family,), reasons=(reason,)))

    VALID.validate(orjson.loads(orjson.dumps(bench.alerts[0].body)))
    assert TECHNIQUES[family][0].startswith("T1")


def test_the_envelope_is_a_cloud_event_keyed_by_incident() -> None:
    """Binary mode: whoever reads JSON only need not know what a CloudEvent is."""
    alert = whole_story()[0]
    record = wrapped(alert)
    headers = dict(record.headers)

    assert record.key == alert.incident.encode()
    assert headers["ce_type"] == b"plimsoll.detection_finding.created.v1"
    assert headers["ce_id"] == alert.uid.encode()
    assert headers["ce_source"] == b"/plimsoll/default"
    assert headers["content-type"] == b"application/json"
    assert orjson.loads(record.value) == orjson.loads(orjson.dumps(alert.body))
    assert unwrapped(record.key, record.value, record.headers) == orjson.loads(record.value)
    assert wrapped(alert) == record
