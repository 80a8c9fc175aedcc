"""One suite that every source of telemetry passes: what pyproject.toml offers is found here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models import features
from models.records import encode
from models.records.frame import Frame
from producers import sources
from producers.gather.incoming import Incoming
from producers.gather.intake import read_frame
from producers.kafka import MOST_MESSAGE_BYTES
from producers.settings import load
from producers.sources.base import Source
from tests.fixtures_docker import TestEngine

PERIOD_S = 0.2
FRAMES = 5
DEADLINE_S = 60.0
NS = 10**9


@dataclass
class Told:
    """A source that was polled for a while, and what it told."""

    source: Source
    opening: str
    frames: list[Frame]
    from_ns: int
    until_ns: int

    def by_host(self) -> list[list[Frame]]:
        hosts = {frame.host for frame in self.frames}
        return [[frame for frame in self.frames if frame.host == host] for host in hosts]


@pytest.fixture(scope="module", params=sources.names())
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    if request.param == "docker":
        engine: TestEngine = request.getfixturevalue("docker_engine")
        engine.run(engine.image("contract"))
    settings = load(
        scope="staging", data_dir=tmp_path_factory.mktemp("data"),
        collect={"sample_period_s": PERIOD_S, "frame_interval_s": PERIOD_S},
    )  # fmt: skip  # the options in a line
    from_ns = time.time_ns()
    source = sources.load(request.param).open(settings, time.time_ns)
    found = Told(source, source.opening(), [], from_ns, 0)
    ends_s = time.monotonic() + DEADLINE_S
    while not found.frames or min(map(len, found.by_host())) < FRAMES:
        assert time.monotonic() < ends_s, f"{len(found.frames)} frames in {DEADLINE_S:.0f} s"
        found.frames.extend(source.poll())
        time.sleep(PERIOD_S / 4)
    found.until_ns = time.time_ns()
    yield found
    source.close()


def test_it_says_what_it_is_under_its_own_name(told: Told) -> None:
    """Operators read rights and costs before they start one."""
    assert isinstance(told.source, Source)
    assert sources.load(told.source.about.name) is type(told.source)
    assert told.source.about.tells
    assert told.opening
    assert "\n" not in told.opening


def test_each_frame_survives_the_wire_and_fits_it(told: Told) -> None:
    """What Kafka does not take, or gather refuses, nobody sees."""
    for frame in told.frames:
        body = encode(frame)
        assert len(body) < MOST_MESSAGE_BYTES - 4_096
        came = Incoming("samples", 0, 0, told.until_ns, frame.host.encode(), body)
        assert read_frame(came, most_ahead_ns=0) == frame


def test_a_hosts_frames_are_of_one_run_and_count_from_0(told: Told) -> None:
    """Otherwise a lost frame would go unnoticed."""
    for frames in told.by_host():
        assert [frame.sequence for frame in frames] == list(range(len(frames)))
        assert len({(frame.producer, frame.pool) for frame in frames}) == 1
        assert all(frame.dropped == 0 for frame in frames)


def test_frames_share_their_scope_and_interval(told: Told) -> None:
    """Gather joins siblings of all hosts by it; staging never teaches production."""
    assert {(frame.scope, frame.interval_s) for frame in told.frames} == {("staging", PERIOD_S)}
    entries = [entry for frame in told.frames for entry in frame.inventory]
    assert {entry.scope for entry in entries} == {"staging"}


def test_frames_follow_each_other_by_the_clock_it_was_given(told: Told) -> None:
    """Replay and lateness stand on event time."""
    for frames in told.by_host():
        times = [frame.at_ns for frame in frames]
        assert times == sorted(set(times))
        assert told.from_ns <= times[0] <= times[-1] <= told.until_ns


def test_whoever_is_told_of_was_introduced(told: Told) -> None:
    """Telemetry without inventory waits, and goes out as nobody's."""
    for frames in told.by_host():
        known: set[str] = set()
        for frame in frames:
            assert {entry.host for entry in frame.inventory} <= {frame.host}
            known |= {entry.subject for entry in frame.inventory}
            about = {observation.subject for observation in frame.observations}
            assert {*frame.samples.subjects, *about} <= known
        assert f"host/{frames[0].host}" in known


def test_it_measures_features_that_detection_knows(told: Told) -> None:
    """A name of its own would be passed over in silence."""
    names = {name for frame in told.frames for name in frame.samples.features}
    assert names
    assert names <= {feature.name for feature in features.MEASURED}


def test_the_inventory_is_told_whole_once_and_then_by_its_changes(told: Told) -> None:
    """Ten thousand hosts must not repeat theirs every second."""
    for frames in told.by_host():
        assert frames[0].inventory
        assert any(not frame.inventory for frame in frames[1:])


def test_closing_twice_is_closing_once(told: Told, tmp_path: Path) -> None:
    """Whoever ends on a signal ends in the middle of anything."""
    another = type(told.source).open(load(data_dir=tmp_path), time.time_ns)
    another.close()
    another.close()
