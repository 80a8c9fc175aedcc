"""What people teach, on a real Kafka: a false alarm dismissed, a baseline imported and undone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from models.contract import KIND_HEADER
from models.pipeline import Core
from models.policy import Policy
from models.records.codec import decode, encode
from models.records.lesson import Lesson, Teaching
from models.records.rejected import DeadLetter
from models.records.verdict import Finding, Level
from streams.keys import Signer
from streams.lessons import trusted
from streams.replaying import Decided, replayed
from streams.settings import load
from streams.stores.window import TelemetryLog
from tests.fixtures_kafka import TestKafka
from tests.kafka.test_judge_worker import SECOND_NS, Deployment
from tests.kafka.test_models import Trial

WEB = "shop/web"


@dataclass
class Told:
    """What happened, in order."""

    trial: Trial
    incident: str = ""
    dismissed: dict[str, Any] = field(default_factory=dict)
    again_ns: int = 0
    shown: dict[str, Any] = field(default_factory=dict)
    lessons: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def told(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The whole story once: each test looks at another part of it."""
    deployment = Deployment(kafka, tmp_path_factory.mktemp("lessons"))
    topics = deployment.topics
    deployment.kafka.create({
        topics.orders: 1, topics.outcomes: 1, topics.control: 1, topics.control_state: 1,
        topics.alerts: 1, topics.evidence: 1,
    })  # fmt: skip  # one list
    trial = Trial(deployment)
    story, file = Told(trial), deployment.directory / "web.toml"
    now_ns = time.time_ns()
    with deployment.worker(), trial.governor():
        trial.write(now_ns - 60 * SECOND_NS)
        trial.write(now_ns, attack_from_ns=now_ns - 55 * SECOND_NS)
        trial.judged()
        trial.until(lambda: trial.say("incident", "list", "--all"))
        (row,) = trial.say("incident", "list", "--all")
        story.incident = row["incident"]
        story.dismissed = trial.say("incident", "dismiss", story.incident, "--because", "a backup")
        trial.written += 1
        trial.worker_says("taught")
        trial.write(now_ns + 130 * SECOND_NS)
        story.again_ns = now_ns + 130 * SECOND_NS
        trial.write(now_ns + 200 * SECOND_NS, attack_from_ns=story.again_ns)
        forged(trial)
        trial.judged()
        trial.run("baseline", "export", WEB, "--out", str(file))
        edited = file.read_text().replace('scope = "default"', 'scope = "staging"')
        file.write_text(edited)
        story.shown["dry"] = trial.say("baseline", "import", str(file), "--dry-run")
        text = _with(file.read_text(), "memory_working_set_bytes", "high", 9e9)
        file.write_text(text)
        story.shown["import"] = trial.say(
            "baseline", "import", str(file), "--full", "--from", "10m", "--because", "reviewed"
        )
        trial.written += 1
        story.shown["after"] = _memory(trial)
        story.lessons = trial.say("baseline", "lessons", WEB)
        uid = story.shown["import"]["lesson"]
        story.shown["undo"] = trial.say("baseline", "undo", WEB, uid)
        trial.written += 1
        story.shown["undone"] = _memory(trial)
        trial.judged()
    return story


def _with(text: str, feature: str, name: str, value: float) -> str:
    """The file with one number changed, as an editor would."""
    lines, inside = text.splitlines(), False
    for at, line in enumerate(lines):
        if line.startswith("["):
            inside = line == f"[features.{feature}]"
        if inside and line.startswith(f"{name} = "):
            lines[at] = f"{name} = {value:e}"
    return "\n".join(lines)


def _memory(trial: Trial) -> float:
    shown = trial.say("baseline", "show", WEB)
    (found,) = (o for o in shown["features"] if o["feature"] == "memory_working_set_bytes")
    return float(found["high"])


def forged(trial: Trial) -> None:
    """A lesson by somebody whose key may not teach that."""
    signer = Signer.load(trial.deployment.directory / "keys", "operator")
    lesson = Lesson(
        "lesson-forged", "default", WEB, "", Teaching.DISMISS, "operator", time.time_ns(),
        facts=("exec bash",),
    )  # fmt: skip  # one lesson
    trial.deployment.write(lesson, value=encode(signer.sign(encode(lesson))))
    trial.deployment.producer.flush()
    trial.written += 1


def _findings(told: Told, from_ns: int) -> list[Finding]:
    deployment = told.trial.deployment
    found = [
        decode(Finding, one.value()) for one in deployment.read(deployment.topics.findings)
        if dict(one.headers())[KIND_HEADER] == b"finding"
    ]  # fmt: skip  # one condition
    return [one for one in found if one.verdict.at_ns >= from_ns]


def test_what_an_operator_dismissed_is_not_found_again(told: Told) -> None:
    """The word reaches the judge through its own log."""
    assert told.dismissed["accepted"]
    assert "normal here for 30 days" in told.dismissed["detail"]
    assert any(one.verdict.level is Level.COMPROMISED for one in _findings(told, 0))
    assert not [one for one in _findings(told, told.again_ns) if one.rises]


def test_a_lesson_by_a_key_that_may_not_teach_is_a_dead_letter(told: Told) -> None:
    """Who may write to the topic must not be able to teach."""
    deployment = told.trial.deployment
    letters = [
        decode(DeadLetter, one.value()) for one in deployment.read(deployment.topics.rejected)
    ]

    assert [one.fault for one in letters] == ["untrusted"]
    assert "needed: governor" in letters[0].reason


def test_a_replay_of_the_same_log_gives_the_same_bytes(told: Told) -> None:
    """With lessons in it: otherwise no model or policy could be judged by a replay."""

    def again(**given: Any) -> Decided:
        topic = told.trial.deployment.topics.telemetry
        kafka = {"bootstrap.servers": told.trial.deployment.kafka.bootstrap}
        detection = load().worker.detection
        source = TelemetryLog(kafka, topic, **given)
        return replayed(source, Core(detection=detection), Policy(), "default", (0, 2**62))

    keys: Path = told.trial.deployment.directory / "keys"
    would = again(opened=trusted(keys))
    said = sorted([
        *(("verdict", encode(one)) for one in would.verdicts),
        *(("summary", encode(one)) for one in would.summaries),
        *(("finding", encode(one)) for one in would.findings),
    ])  # fmt: skip  # a list
    assert said == told.trial.verdicts()
    assert len(again().alarms()) > len(would.alarms())


def test_an_unchanged_file_changes_nothing_and_a_dry_run_says_nothing(told: Told) -> None:
    """The difference is shown before anything is said."""
    dry = told.shown["dry"]

    assert not dry["said"]
    assert dry["facts"] == []
    assert all(abs(one["deviations"] or 0.0) < 1e-3 for one in dry["changes"])


def test_an_edited_file_is_what_the_judge_knows_until_it_is_undone(told: Told) -> None:
    """Checked, signed, taken in at a place of the log; and reversible."""
    done = told.shown["import"]

    assert (done["said"], done["taken_in"], done["in_full"]) == (True, True, True)
    assert told.shown["after"] == pytest.approx(9e9, rel=0.3)
    assert told.shown["undo"]["taken_in"]
    assert told.shown["undone"] < 1e9


def test_what_people_taught_is_listed_with_who_and_why(told: Told) -> None:
    """Words of people are on the record."""
    dismissed, imported = told.lessons

    assert (dismissed["what"], dismissed["by"]) == ("dismiss", "operator")
    assert "a backup" in dismissed["because"]
    assert (imported["what"], imported["because"]) == ("baseline", "reviewed")
