"""A forest of one image's own, on a real Kafka: trained, judged with beside the fleet's, ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from models.records.codec import decode
from models.records.verdict import VERDICT_KINDS, Level, Summary, Verdict
from tests.fixtures_kafka import TestKafka
from tests.kafka.test_judge_worker import SECOND_NS, Deployment
from tests.kafka.test_models import Trial, promoted

IDLE, WEB = "shop/idle", "shop/web"
"""The first does next to nothing: of what is rare there the fleet's forest has no idea."""
IMAGE = f"{IDLE}@sha256:{1:064d}"
KINDS = ("idle", "web")
CONTAINERS = 24
LEARNED_S = 2_000
"""So many that each telemetry message brings many rows: 4,096 are asked for."""

pytestmark = pytest.mark.timeout(600)  # a worker and six commands start, one after the other


@dataclass
class Told:
    """What happened, in order; times are event times from which each stage held."""

    trial: Trial
    fleet: str = ""
    own: dict[str, Any] = field(default_factory=dict)
    early: dict[str, Any] = field(default_factory=dict)
    listed: list[dict[str, Any]] = field(default_factory=list)
    fleet_ns: int = 0
    own_ns: int = 0
    retired_ns: int = 0
    end_ns: int = 0
    said: list[Verdict | Summary] = field(default_factory=list)

    def named(self, kind: type[Any], lineage: str, from_ns: int, until_ns: int) -> set[str]:
        """Which models were named of a lineage in a time."""
        return {
            one.model for one in self.said
            if isinstance(one, kind) and one.lineage == lineage and from_ns <= one.at_ns < until_ns
        }  # fmt: skip  # one condition


@pytest.fixture(scope="module")
def told(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The whole story once: each test looks at another part of it."""
    deployment = Deployment(kafka, tmp_path_factory.mktemp("own"))
    trial = Trial(deployment, KINDS, CONTAINERS, LEARNED_S)
    story = Told(trial)
    trial.write(time.time_ns())
    story.fleet = trial.say("train")["model"]
    story.own = trial.say("train", "--image", IMAGE)
    story.early = trial.say("train", "--image", IDLE, "--from", "10m", code=1)
    own = story.own["model"]
    with deployment.worker():
        trial.judged()
        story.fleet_ns = promoted(trial, story.fleet, 1)
        story.own_ns = promoted(trial, own, 2, ahead_s=180)
        ends = trial.say("models", "retire", own, "--from", "+360s")["staging"]
        story.retired_ns = ends["from_ns"]
        trial.worker_says("model active", 3)
        story.listed = trial.say("models", "list")["models"]
        trial.write(story.own_ns + 60 * SECOND_NS)
        story.end_ns = story.retired_ns + 130 * SECOND_NS
        trial.write(story.end_ns, attack_from_ns=story.own_ns + 60 * SECOND_NS, victims=(0, 1))
        trial.judged()
    story.said = [
        decode(VERDICT_KINDS[kind], value)
        for kind, value in trial.verdicts() if kind in VERDICT_KINDS
    ]  # fmt: skip  # one condition
    return story


def test_it_is_announced_for_the_image_that_has_earned_it(told: Told) -> None:
    """Whom it serves and what it was held against stand on its card."""
    manifest = told.own["manifest"]
    tried = manifest["evaluation"]

    assert manifest["lineage"] == IDLE
    assert manifest["rows"] >= 4_096
    assert tried["quiet"] > 1_000
    assert tried["rarer"].keys() == tried["rarer_fleet"].keys() >= {"10", "100"}
    by_model = {one["model"]: one for one in told.listed}
    assert {uid: one["serves"] for uid, one in by_model.items()} == {
        told.fleet: "fleet", told.own["model"]: IDLE,
    }  # fmt: skip  # a table
    assert all(one["file"] == "as signed" for one in by_model.values())


def test_too_short_a_history_earns_none(told: Told) -> None:
    """Refused with the number, and nothing is announced."""
    message = told.early["error"]["message"]

    assert f"{IDLE}: " in message
    assert "a forest of its own takes 4096" in message
    assert len(told.listed) == 2


def test_the_worker_judges_that_image_with_it_and_others_with_the_fleet_s(told: Told) -> None:
    """From its event time on and until it is retired; then the fleet's serves again."""
    own, minute = told.own["model"], 60 * SECOND_NS

    # A summary tells of the minute before it.
    assert told.named(Summary, IDLE, told.fleet_ns + minute, told.own_ns) == {told.fleet}
    assert told.named(Summary, IDLE, told.own_ns + minute, told.retired_ns) == {own}
    assert told.named(Summary, IDLE, told.retired_ns + minute, told.end_ns + 1) == {told.fleet}
    assert told.named(Summary, WEB, told.fleet_ns + minute, told.end_ns + 1) == {told.fleet}


def test_a_verdict_names_the_forest_that_took_part_in_it(told: Told) -> None:
    """Two containers are attacked in the same way at the same time, and judged by two forests."""
    window = told.own_ns + 60 * SECOND_NS, told.retired_ns

    assert told.named(Verdict, IDLE, *window) == {told.own["model"]}
    assert told.named(Verdict, WEB, *window) == {told.fleet}
    called = {
        one.lineage for one in told.said
        if isinstance(one, Verdict) and one.level.rank >= Level.SUSPECT.rank
    }  # fmt: skip  # one condition
    assert called == {IDLE, WEB}
