"""Models on a real Kafka: trained, promoted, judged with, rolled back, refused, replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from models.contract import KIND_HEADER
from models.pipeline import Core
from models.policy import Policy
from models.records.codec import decode, encode
from models.records.manifest import Stage
from models.records.telemetry import Tick
from models.records.verdict import VERDICT_KINDS, Level
from streams.keys import Signer, TrustFile
from streams.replaying import replayed
from streams.settings import load
from streams.stores.models import ModelStore, roster_of
from streams.stores.registry import Registry, staging
from streams.stores.window import TelemetryLog
from tests.core.fleet import START_NS, Lineage, exfiltration
from tests.fixtures_kafka import TestKafka
from tests.kafka.test_judge_worker import PARTITIONS, SECOND_NS, Deployment

STEP_S = 5.0
LEARNED_S = 1_500
"""Of telemetry from before now, to train on."""
DEADLINE_S = 120.0


@dataclass
class Trial:
    """A fleet that writes telemetry, and the commands that a data scientist types."""

    deployment: Deployment
    kinds: Sequence[str] = ("web", "database")
    siblings: int = 4
    learned_s: int = LEARNED_S
    lineages: list[Lineage] = field(init=False)
    written: int = 0

    def __post_init__(self) -> None:
        now_s = float((time.time_ns() - START_NS) // SECOND_NS - self.learned_s)
        self.lineages = [
            Lineage(kind, 3, STEP_S, self.siblings, now_s=now_s) for kind in self.kinds
        ]

    @property
    def now_ns(self) -> int:
        return START_NS + int(self.lineages[0].now_s * 1e9)

    def write(
        self, until_ns: int, *, attack_from_ns: int = 0, victims: Collection[int] = (0,)
    ) -> None:
        """Telemetry up to an event time; an exfiltration from the first lineage, or others."""
        story = exfiltration((attack_from_ns - START_NS) / 1e9) if attack_from_ns else None
        while self.now_ns < until_ns:
            for at, lineage in enumerate(self.lineages):
                for arrival in lineage.next(story if at in victims else None):
                    assert not isinstance(arrival.record, Tick)
                    self.deployment.write(arrival.record)
                    self.written += 1
            if self.lineages[0].now_s % 10 == 0:
                for partition in range(PARTITIONS):
                    self.deployment.write(Tick(self.now_ns), partition)
                    self.written += 1
        self.deployment.producer.flush()

    def judged(self) -> None:
        self.deployment.until_committed(self.written)

    def say(self, *arguments: str, code: int = 0) -> Any:
        """What a command answers to a machine."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "streams", *arguments),
            env=self.environment(), capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip  # the call in one line

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PLIMSOLL_KAFKA__BOOTSTRAP": self.deployment.kafka.bootstrap,
            "PLIMSOLL_TOPIC_PREFIX": self.deployment.topics.prefix,
            "PLIMSOLL_DATA_DIR": str(self.deployment.directory),
            "PLIMSOLL_WORKER__GROUP": self.deployment.group,
        }

    @contextmanager
    def governor(self) -> Iterator[None]:
        """One that enforces; nobody carries its orders out."""
        environment = self.environment() | {
            "PLIMSOLL_GOVERNOR__MODE": "enforce", "PLIMSOLL_GOVERNOR__WITHOUT_REPLAY": "a trial",
            "PLIMSOLL_GOVERNOR__GROUP": f"{self.deployment.topics.prefix}governor",
        }  # fmt: skip  # a table
        with (self.deployment.directory / "govern.log").open("wb") as log:
            started = subprocess.Popen(
                (sys.executable, "-m", "streams", "govern"), env=environment, stdout=log,
                stderr=log,
            )  # fmt: skip  # one call
        try:
            yield
        finally:
            started.terminate()
            started.wait(30)

    def until(self, holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def worker_says(self, what: str, times: int = 1) -> str:
        """The worker's log, once it holds ``what`` so often."""
        log, deadline = self.deployment.directory / "worker.log", time.monotonic() + DEADLINE_S
        while (words := log.read_text()).count(what) < times:
            assert time.monotonic() < deadline, words[-3000:]
            time.sleep(0.05)
        return words

    def verdicts(self) -> list[tuple[str, bytes]]:
        """Kind and bytes of all that the worker wrote about groups, by group in order."""
        found = self.deployment.read(self.deployment.topics.verdicts)
        found += self.deployment.read(self.deployment.topics.findings)
        named = ((dict(one.headers())[KIND_HEADER].decode(), one.value()) for one in found)
        return sorted(named)

    def models_between(self, from_ns: int, until_ns: int) -> set[str]:
        """Which models the verdicts and summaries of that time name."""
        named = (
            decode(VERDICT_KINDS[kind], value)
            for kind, value in self.verdicts() if kind in VERDICT_KINDS
        )  # fmt: skip  # one condition
        return {one.model for one in named if from_ns <= one.at_ns < until_ns}

    def registry(self) -> Registry:
        directory, kafka = self.deployment.directory, _kafka(self.deployment)
        return Registry(
            kafka, self.deployment.topics, "default", store=ModelStore(directory / "models"),
            trust=TrustFile(directory / "keys", time.time_ns),
        )  # fmt: skip  # one line a thought


def _kafka(deployment: Deployment) -> Any:
    from models.settings import Kafka

    return Kafka(bootstrap=deployment.kafka.bootstrap)


@dataclass
class Told:
    """What happened, in order; times are event times from which each stage held."""

    trial: Trial
    first: str = ""
    second: str = ""
    first_ns: int = 0
    second_ns: int = 0
    back_ns: int = 0
    forged_ns: int = 0
    end_ns: int = 0


@pytest.fixture(scope="module")
def told(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The whole story once: each test looks at another part of it."""
    directory = tmp_path_factory.mktemp("lifecycle")
    deployment = Deployment(kafka, directory)
    topics = deployment.topics
    deployment.kafka.create({
        topics.orders: 1, topics.outcomes: 1, topics.control: 1, topics.control_state: 1,
        topics.alerts: 1, topics.evidence: 1,
    })  # fmt: skip  # one list
    trial = Trial(deployment)
    story = Told(trial)
    trial.write(time.time_ns())
    story.first = trial.say("train")["model"]
    story.second = trial.say("train", "--seed", "7")["model"]
    with deployment.worker(), trial.governor():
        trial.judged()
        story.first_ns = promoted(trial, story.first, 1)
        trial.say("models", "promote", story.second, "--stage", "shadow", "--from", "+12s")
        trial.worker_says("model in shadow")
        trial.write(story.first_ns + 90 * SECOND_NS, attack_from_ns=story.first_ns)
        trial.judged()
        story.second_ns = promoted(trial, story.second, 2, ahead_s=150)
        story.back_ns = trial.say("models", "rollback", "--from", "+240s")["staging"]["from_ns"]
        trial.worker_says("model active", 3)
        story.forged_ns = forged(trial, story)
        trial.worker_says("model refused")
        story.end_ns = story.forged_ns + 60 * SECOND_NS
        trial.write(story.end_ns)
        trial.judged()
        trial.until(lambda: trial.say("incident", "list", "--all"))
    return story


def promoted(trial: Trial, model: str, times: int, ahead_s: int = 15) -> int:
    """The event time from which the model is active, once the worker knows of it."""
    word = trial.say(
        "models", "promote", model, "--stage", "active", "--from", f"+{ahead_s}s",
        "--without-replay", "a trial",
    )  # fmt: skip  # as it is typed
    trial.worker_says("model active", times)
    return int(word["staging"]["from_ns"])


def forged(trial: Trial, story: Told) -> int:
    """A model whose file was changed, activated by somebody who may."""
    registry = trial.registry()
    manifest = registry.model(story.second)
    content = bytearray(registry.store.load(manifest.sha256))
    content[len(content) // 2] ^= 1
    path = registry.store.path("f" * 64)
    path.write_bytes(content)
    signer = Signer.load(trial.deployment.directory / "keys", "trainer")
    other = replace(manifest, uid="forest-forged", sha256="f" * 64)
    registry.say(other, signer)
    said_ns = time.time_ns()
    word = staging("default", other.uid, Stage.ACTIVE, from_ns=story.back_ns + 60 * SECOND_NS,
                   said_ns=said_ns, by=signer.name, because="forged")  # fmt: skip  # one call
    registry.say(word, signer)
    return word.from_ns


def test_a_card_tells_what_a_model_has_seen_and_how_it_did(told: Told) -> None:
    """Without it nobody can say whether to trust a model."""
    shown = told.trial.say("models", "show", told.first)["manifest"]

    assert shown["rows"] > 1_000
    assert sum(end - first for first, end in shown["offsets"].values()) > 500
    assert set(shown["versions"]) >= {"plimsoll", "numpy", "scikit-learn"}
    assert shown["evaluation"]["samples"] > 500
    assert 0.2 < shown["evaluation"]["surprise"]["0.5"] < 3.0


def test_the_worker_judges_with_a_model_from_its_event_time_on(told: Told) -> None:
    """A verdict that names no model, or another, can't be reproduced."""
    trial = told.trial
    minute = 60 * SECOND_NS

    assert trial.models_between(0, told.first_ns) == {""}
    assert trial.models_between(told.first_ns, told.second_ns) == {told.first}
    assert trial.models_between(told.second_ns, told.back_ns) == {told.second}
    assert trial.models_between(told.back_ns + minute, told.end_ns + minute) == {told.first}


def test_a_forged_file_is_refused_and_the_worker_goes_on_with_what_it_had(told: Told) -> None:
    """Whoever can write to the models folder must not be able to stop or steer judging."""
    words = told.trial.worker_says("model refused")

    assert "was changed: nothing of it used" in words
    assert "forest-forged" not in str(told.trial.models_between(0, 2**62))


def test_a_replay_gives_what_the_worker_wrote_byte_for_byte(told: Told) -> None:
    """What a replay says of another model means nothing if it differs with the same one."""
    trial, registry = told.trial, told.trial.registry()
    source = TelemetryLog(_kafka(trial.deployment).librdkafka(), trial.deployment.topics.telemetry)
    roster = roster_of(registry.register, registry.store)
    models = roster.models
    detection = load().worker.detection

    again = replayed(source, Core(models, detection), Policy(), "default", (0, 2**62))

    said = sorted([
        *(("verdict", encode(one)) for one in again.verdicts),
        *(("summary", encode(one)) for one in again.summaries),
        *(("finding", encode(one)) for one in again.findings),
    ])  # fmt: skip  # a list
    assert said == trial.verdicts()
    assert any(one.level is Level.COMPROMISED for one in again.verdicts)


def test_nothing_changed_nothing_differs(told: Told) -> None:
    """The command, as CI calls it to gate a policy."""
    done = told.trial.say("replay", "--until", "+1h", "--most-isolations", "1")

    assert done["same"] >= 1
    assert (done["new"], done["gone"]) == ([], [])
    assert done["orders"] == {"decided": {"isolate": 1}, "would": {"isolate": 1}}
    assert done["passed"]


def test_a_replay_fails_that_would_isolate_more_than_it_may(told: Told) -> None:
    done = told.trial.say("replay", "--until", "+1h", "--most-isolations", "0", code=1)

    assert not done["passed"]


def test_without_a_replay_nothing_becomes_active(told: Told) -> None:
    """The gate; and the way through it."""
    trial = told.trial
    gone = ("models", "promote", told.second, "--stage", "active", "--from", "+1h")
    refused = trial.say(*gone, code=2)
    assert "was never replayed" in refused["error"]["message"]

    trial.say("replay", "--model", told.second, "--until", "+1h", "--record", code=1)
    refused = trial.say(*gone, code=2)
    assert "failed its last replay" in refused["error"]["message"]

    trial.say("replay", "--model", told.second, "--until", "+1h", "--record",
              "--most-isolations", "1")  # fmt: skip  # as it is typed
    word = trial.say(*gone, "--dry-run")
    assert word["staging"]["rehearsal"]["isolations"] == 1
    assert word["said"] is False


def test_explain_tells_why_and_a_replay_shows_what_the_judge_saw(told: Told) -> None:
    """Somebody has to decide at night whether it was right."""
    container = told.trial.lineages[0].pods[0].member

    shown = told.trial.say("explain", container.name, "--replay")

    verdict, traits = shown["verdict"], shown["portrait"]["traits"]
    assert (verdict["subject"], verdict["level"]) == (container.subject, "compromised")
    assert verdict["model"] == told.first
    (sent,) = (one for one in traits if one["feature"] == "network_transmit_bytes_per_s")
    assert sent["value"] > 2 * sent["high"] > 0
    assert sent["left"] > shown["portrait"]["line"]
    assert sum(one["forest_share"] for one in traits) == pytest.approx(1.0)
    assert shown["portrait"]["siblings"] == 3


def test_explain_takes_an_incident_too(told: Told) -> None:
    """An alert names the incident; nobody knows container ids by heart."""
    (incident,) = told.trial.say("incident", "list", "--all")

    shown = told.trial.say("explain", incident["incident"][:12])
    text = told.trial.run("explain", incident["incident"]).stdout

    assert shown["incident"] == incident["incident"]
    assert shown["verdict"]["subject"] == told.trial.lineages[0].pods[0].member.subject
    for word in ("is compromised", "sent", "usual", "siblings", told.first, "course"):
        assert word in text


def test_the_list_tells_the_stage_of_each(told: Told) -> None:
    """At a glance: what decides, what waits, what was refused."""
    trial = told.trial

    listed = {one["model"]: one for one in trial.say("models", "list")["models"]}

    assert listed.keys() == {told.first, told.second, "forest-forged"}
    assert listed["forest-forged"]["file"] == "missing or changed"
    assert listed[told.first]["file"] == "as signed"
    gone = trial.say("models", "retire", told.second, "--dry-run")
    assert (gone["said"], gone["staging"]["stage"]) == (False, "retired")
    soon = trial.say("models", "retire", told.second, "--from", "+5s", code=2)
    assert "at least 10 s from now" in soon["error"]["message"]
    assert trial.run("models", "show", "forest-forged").returncode == 1


def test_a_baseline_is_shown_in_its_own_units_and_exported(told: Told, tmp_path: Path) -> None:
    """What can't be read can't be reviewed."""
    trial, file = told.trial, tmp_path / "web.toml"

    listed = trial.say("baseline", "list")
    shown = trial.say("baseline", "show", "shop/web")

    assert {one["lineage"] for one in listed} == {"shop/web", "shop/database"}
    usual = {one["feature"]: one for one in shown["features"]}
    assert 0.05 < usual["cpu_cores"]["usual"] < 1.0
    assert usual["cpu_cores"]["low"] <= usual["cpu_cores"]["usual"] <= usual["cpu_cores"]["high"]
    assert shown["known"] > 0.9
    assert "peer 203.0.113.20:443" in shown["facts"]
    assert trial.run("baseline", "export", "shop/web", "--out", str(file)).returncode == 0
    written = tomllib.loads(file.read_text())
    assert written["features"].keys() == usual.keys()
    assert written["facts"] == shown["facts"]


def test_one_version_has_nothing_to_differ_from(told: Told) -> None:
    refused = told.trial.say("baseline", "diff", "shop/web", code=2)
    unknown = told.trial.say("baseline", "show", "shop/nothing", code=2)

    assert "only one version is known" in refused["error"]["message"]
    assert "nothing is known of it" in unknown["error"]["message"]


def test_a_shadow_is_compared_image_by_image_live_and_again(told: Told) -> None:
    """A successor is chosen by what it would have said here, not by what it did elsewhere."""
    trial = told.trial
    window = ("--until", "+1h")

    live = trial.say("models", "compare", told.first, told.second, *window)["images"]
    again = trial.say("models", "compare", told.first, told.second, "--replay", *window)["images"]

    assert {one["image"].partition("@")[0] for one in live} == {"shop/web", "shop/database"}
    for one in live:
        assert one["samples"] > 30
        assert one["correlation"] > 0.5
    (web,) = again
    assert (web["tickets_by_both"], web["isolations_by_both"]) == (1, 1)
    assert (web["tickets_by_one"], web["tickets_by_other"]) == (0, 0)
