"""A source of another package is found by its entry point, and used like one of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from models.records import decode
from models.records.frame import Frame
from producers import sources
from producers.sources.docker.source import DockerSource

SOURCE = """
from models.records.frame import Frame
from producers.sources.base import About

class Beam:
    about = About("lighthouse", "one host that says nothing but that it is there")

    def __init__(self, scope, clock):
        self.scope, self.clock, self.sequence = scope, clock, 0

    @classmethod
    def open(cls, settings, clock):
        return cls(settings.scope, clock)

    def opening(self):
        return "the light is on"

    def poll(self):
        frame = Frame(self.scope, "rock", "coast", "beam-1", self.sequence, self.clock(), 1.0)
        self.sequence += 1
        return [frame]

    def close(self):
        pass

class Rock:
    about = About("rock", "nothing at all")
"""
ENTRY_POINTS = """[plimsoll.sources]
lighthouse = lighthouse:Beam
rock = lighthouse:Rock
sunk = lighthouse:Ship
docker = lighthouse:Beam
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """As pip would have installed it."""
    (tmp_path / "lighthouse.py").write_text(SOURCE)
    about = tmp_path / "lighthouse-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lighthouse\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def test_a_source_of_another_package_is_collected_from(package: Path) -> None:
    """Nobody should have to change ours to watch something new."""
    told = subprocess.run(
        (sys.executable, "-c", "from streams.cli import main; main()", "collect", "--source",
         "lighthouse", "--sample-period-s", "0.1", "--once", "--dry-run", "--json"),
        env={**os.environ, "PYTHONPATH": str(package), "PLIMSOLL_DATA_DIR": str(package)},
        capture_output=True, check=True,
    )  # fmt: skip  # the command in two lines

    frames = [decode(Frame, line) for line in told.stdout.splitlines()]
    assert [(frame.host, frame.sequence) for frame in frames] == [("rock", 0), ("rock", 1)]
    assert b"plimsoll collect: the light is on" in told.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rock", "lacks what producers/sources/base.py asks for"),
        ("sunk", "can't be loaded"),
        ("kite", "there are docker, lighthouse, rock, simulated, sunk"),
    ],
)
def test_what_is_no_source_is_refused_by_name(
    package: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    """A typing error, or a package half installed: whoever starts it must see which."""
    monkeypatch.syspath_prepend(package)
    with pytest.raises(ConfigurationError, match=says):
        sources.load(name)


def test_no_package_takes_the_place_of_another(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evil twin would tell a quiet fleet."""
    assert sources.load("docker") is DockerSource
    monkeypatch.syspath_prepend(package)
    with pytest.raises(ConfigurationError, match="'docker' is offered twice, by lighthouse:Beam"):
        sources.load("docker")
