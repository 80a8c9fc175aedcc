"""The simulated fleet: plausible, reproducible, and it reacts to what is done to it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from models.errors import ContainerGone
from models.records import decode, encode
from models.records.facts import BootIdentity, Connection, Direction, Lifecycle, Program
from models.records.frame import Frame
from models.records.inventory import InventoryEntry, State
from models.records.order import Action
from models.records.verdict import Level
from producers.settings import load
from producers.sources.simulated import STORIES, Fleet, varied
from producers.sources.simulated.chance import chance
from producers.sources.simulated.source import SimulatedSource
from tests.telemetry.builders import NS, START_NS

STEP_S = 5.0


def fleet(seed: int = 1) -> Fleet:
    return Fleet(seed, START_NS)


def steps(one: Fleet, number: int) -> list[Frame]:
    return [frame for _ in range(number) for frame in one.step(STEP_S)]


def values(frames: Iterable[Frame], subject: str, feature: str) -> list[float]:
    """What was measured of one container, in order."""
    return [
        float(frame.samples.column(feature)[frame.samples.subjects.index(subject)])
        for frame in frames
        if subject in frame.samples.subjects
    ]


def connections(frames: Iterable[Frame], subject: str) -> list[Connection]:
    return [
        observation.fact
        for frame in frames
        for observation in frame.observations
        if observation.subject == subject and isinstance(observation.fact, Connection)
    ]


def of_part(one: Fleet, name: str) -> list[InventoryEntry]:
    return [entry for entry in one.containers() if entry.role == name]


def test_the_same_seed_makes_the_same_frames() -> None:
    """A demo that goes wrong must be repeatable by its seed."""
    first, second, other = fleet(1), fleet(1), fleet(2)
    for made in (first, second, other):
        made.begin("port-scan")
    once = [encode(frame) for frame in steps(first, 10)]
    assert once == [encode(frame) for frame in steps(second, 10)]
    assert once != [encode(frame) for frame in steps(other, 10)]


def test_the_stories_are_told_as_the_script_has_them() -> None:
    """The demo, its figures and its pictures tell them: variations leave them as they are."""
    one, told = fleet(), hashlib.sha256()
    for story in STORIES:
        one.begin(story.name)
    for frame in steps(one, 120):
        for observation in frame.observations:
            told.update(repr(observation).encode())
    assert told.hexdigest() == "fab9ef125b071c85847cf696823e0cfe8335b99a557b594abf7e4d43a7a39cc5"


def test_a_varied_story_keeps_its_name_and_its_meaning() -> None:
    """What is expected of it must not move with the draw; no two befall one image."""
    script = {story.name: story for story in STORIES}
    for seed in range(50):
        drawn = varied(chance(seed))
        assert {story.name for story in drawn} == set(script)
        assert len({story.part for story in drawn}) == len(drawn)
        for story in drawn:
            usual = script[story.name]
            assert (story.expected, story.action) == (usual.expected, usual.action)
            assert story.twin == usual.twin
            assert type(story.plot) is type(usual.plot)


def test_frames_are_those_of_the_real_collector() -> None:
    """Each survives the wire, counts from 0, and only the first tells the whole inventory."""
    one = fleet()
    frames = steps(one, 4)
    assert all(decode(Frame, encode(frame)) == frame for frame in frames)
    for host in one.hosts:
        mine = [frame for frame in frames if frame.host == host.machine_id]
        assert [frame.sequence for frame in mine] == [0, 1, 2, 3]
        assert [bool(frame.inventory) for frame in mine] == [True, False, False, False]
        assert {frame.producer for frame in mine} == {host.producer}
        assert host.subject in mine[0].samples.subjects


def test_what_one_sends_another_receives() -> None:
    """Load travels from callers to called; bytes are neither made nor lost on the way."""
    one = fleet()
    frames = steps(one, 3)
    owner = {entry.addresses[0]: entry.subject for entry in one.containers()}
    sent, received = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for subject in owner.values():
        for fact in connections(frames, subject):
            if fact.direction is Direction.EGRESS and fact.peer in owner:
                sent[subject, owner[fact.peer]] += fact.sent_bytes
            elif fact.direction is Direction.INGRESS and fact.peer in owner:
                received[owner[fact.peer], subject] += fact.received_bytes
    assert sent == received
    assert sum(sent.values()) > 1e6


def test_siblings_share_their_load() -> None:
    """What all of them do together must be visible as such, or nothing could be told."""
    one = fleet()
    frames = steps(one, 120)
    siblings = of_part(one, "search")
    series = np.array([values(frames, entry.subject, "cpu_cores") for entry in siblings])
    shared = np.corrcoef(series)[np.triu_indices(len(siblings), 1)]
    assert shared.mean() > 0.3


def test_the_day_has_a_rhythm() -> None:
    """A baseline that knows no time of day would be off by half at night."""
    peak = int(15 * 3600 * NS)
    noon, night = (
        Fleet(1, START_NS // (86_400 * NS) * (86_400 * NS) + at) for at in (peak, 3 * peak)
    )
    busy, calm = (
        float(np.mean([values(steps(one, 24), of_part(one, "search")[0].subject, "cpu_cores")]))
        for one in (noon, night)
    )
    assert busy > 1.3 * calm


def test_an_isolated_container_neither_sends_nor_receives() -> None:
    """The response is verified by looking: there must be something to look at."""
    one = fleet()
    steps(one, 2)
    subject = of_part(one, "orders-db")[0].subject
    before = one.disconnect(subject)
    counted = one.counters(subject)
    frames = steps(one, 3)
    assert one.counters(subject) == counted
    assert (one.flows(subject), one.probe(subject)) == ([], False)
    assert connections(frames, subject) == []
    assert set(values(frames, subject, "network_transmit_bytes_per_s")) == {0.0}
    assert values(frames, subject, "cpu_cores")[-1] > 0, "it keeps running"
    one.reconnect(subject, before)
    assert connections(steps(one, 2), subject)


def test_a_redeployed_container_starts_clean() -> None:
    """A new id, an empty layer, and the old one kept for the evidence."""
    one = fleet()
    one.begin("dropped-program")
    steps(one, 4)
    old = one.running[0].victims[0]
    assert [file["path"] for file in one.files(old)] == ["/var/tmp/.font-unix/kworkerd"]
    new = one.redeploy(old)
    frames = steps(one, 2)
    entries = {entry.subject: entry for frame in frames for entry in frame.inventory}
    assert (entries[new].replaces, entries[new].state) == (old, State.RUNNING)
    assert entries[old].state is State.STOPPED
    assert one.files(new) == []
    assert all(p["executable"] != "/var/tmp/.font-unix/kworkerd" for p in one.processes(new))
    assert np.isnan(values(frames, new, "cpu_cores")[0]), "its first look gives no rate"
    assert not np.isnan(values(frames, new, "cpu_cores")[1])


def test_pause_and_stop_are_undone() -> None:
    """What a responder does for a while must leave no trace when it is over."""
    one = fleet()
    subject = of_part(one, "web")[0].subject
    one.pause(subject)
    assert values(steps(one, 2), subject, "cpu_cores")[-1] == 0.0
    one.unpause(subject)
    assert values(steps(one, 2), subject, "cpu_cores")[-1] > 0.0
    one.stop(subject)
    assert values(steps(one, 1), subject, "cpu_cores") == []
    one.start(subject)
    found = one.inspect(subject)
    assert found is not None
    assert found["state"] == "running"


def test_what_does_not_exist_is_gone() -> None:
    """A container that vanished in the middle of a response is an everyday thing."""
    one = fleet()
    assert one.inspect("nobody") is None
    with pytest.raises(ContainerGone, match="does not exist"):
        one.disconnect("nobody")


def test_every_attack_has_a_benign_twin() -> None:
    """A detector is measured by both."""
    attacks = [story for story in STORIES if not story.twin]
    assert [s.twin_of for s in STORIES if s.twin] == [s.name for s in attacks]
    assert len({story.lineage for story in STORIES}) == len(STORIES) == 12
    assert {s.action for s in attacks if s.expected is Level.COMPROMISED} == {Action.ISOLATE}
    with pytest.raises(KeyError, match="no story is called"):
        fleet().begin("a fairy tale")


def test_stories_befall_their_victim_and_end() -> None:
    """What the stories do, in the figures and facts that a collector would write."""
    one = fleet()
    steps(one, 2)
    for story in STORIES:
        one.begin(story.name)
    frames = steps(one, 20)
    victim = {running.story.name: running.victims for running in one.running}
    own = {name: connections(frames, who[0]) for name, who in victim.items() if who}
    assert any(fact.peer == "198.51.100.23" for fact in own["exfiltration"])
    assert any(fact.peer == "203.0.113.77" for fact in own["miner"])
    assert len({(f.peer, f.port) for f in own["port-scan"] if not f.answered}) > 300
    memory = values(frames, victim["memory-leak"][0], "memory_working_set_bytes")
    assert memory[-1] - memory[0] > 80e6
    assert all(not victim[story.name] for story in STORIES if story.twin)
    steps(one, 100)
    assert all(running.ended for running in one.running)
    assert not any(
        f.peer == "198.51.100.23" for f in connections(steps(one, 1), victim["exfiltration"][0])
    )


def boots(frames: Iterable[Frame], part: str) -> list[BootIdentity]:
    facts = [observation.fact for frame in frames for observation in frame.observations]
    return [f for f in facts if isinstance(f, BootIdentity) and f"/{part}@" in f.image]


def test_a_restart_boots_as_before_and_an_attack_does_not() -> None:
    """Identity is what tells them apart."""
    one = fleet()
    usual = {part: boots(steps(fleet(), 1), part)[0] for part in ("mailer", "ledger")}
    steps(one, 1)
    one.begin("restart")
    one.begin("changed-boot")
    frames = steps(one, 1)
    assert boots(frames, "mailer") == [usual["mailer"]]
    (changed,) = boots(frames, "ledger")
    assert changed.privileged
    assert replace(changed, privileged=False) != usual["ledger"]
    events = [o.fact.event for f in frames for o in f.observations if isinstance(o.fact, Lifecycle)]
    assert Counter(events) == Counter({"die": 1, "start": 2, "destroy": 1})


def test_a_deploy_brings_a_new_version_of_the_image() -> None:
    """New digest, new program of its own, new peer: all of it the image's."""
    one = fleet()
    steps(one, 1)
    before = {entry.image for entry in of_part(one, "api")}
    one.begin("deploy")
    frames = steps(one, 24)
    after = {entry.image for entry in of_part(one, "api")}
    assert len(before) == len(after) == 1
    assert before != after
    programs = {
        o.fact.executable: o.fact.in_image
        for f in frames
        for o in f.observations
        if isinstance(o.fact, Program)
    }
    assert programs["/usr/local/bin/flagd"] is True


def test_as_a_source_it_follows_the_clock() -> None:
    """`plimsoll collect --source simulated` is for trying a real Kafka without Docker."""
    now_ns = START_NS
    source = SimulatedSource.open(load(collect={"frame_interval_s": 2.0}), lambda: now_ns)
    assert "none of them is real" in source.opening()
    assert source.poll() == []
    now_ns += 2 * NS
    frames = source.poll()
    assert [frame.at_ns for frame in frames] == [now_ns] * 3
    source.close()
