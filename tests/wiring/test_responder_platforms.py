"""How a platform is found: by one line, ours and others' in the same place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from models.errors import ConfigurationError
from streams.responders import names, platform_of
from streams.responders.docker import Docker
from streams.settings import Responder as ResponderSettings
from streams.settings import load

PLATFORM = """\
    from streams.responders.simulated import Simulated

    def make(settings):
        return Simulated(settings.docker_host)

    def odd(settings):
        return object()
    """


def settings(platform: str) -> ResponderSettings:
    return load(responder={"platform": platform, "docker_host": "acme://here"}).responder


@contextmanager
def installed(place: Path, monkeypatch: pytest.MonkeyPatch, **offers: str) -> Iterator[None]:
    """A package of its own, as pip would leave it."""
    (place / "acme_responder.py").write_text(dedent(PLATFORM))
    about = place / "acme_responder-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-responder\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in offers.items())
    (about / "entry_points.txt").write_text(f"[plimsoll.responders]\n{lines}")
    monkeypatch.syspath_prepend(str(place))
    try:
        yield
    finally:
        sys.modules.pop("acme_responder", None)


def test_ours_is_found_by_its_name() -> None:
    """The engine is asked when it is first needed: a responder starts without it."""
    made = platform_of(settings("docker"))
    assert isinstance(made, Docker)


def test_one_of_a_package_of_its_own_is_found_in_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should have to change this project to answer on another platform."""
    with installed(tmp_path, monkeypatch, acme="acme_responder:make"):
        assert names() == ("acme", "docker")
        made = platform_of(settings("acme"))
    assert made.about.name == "simulated"
    assert vars(made)["_runtime"] == "acme://here", "it is given the responder's settings"


@pytest.mark.parametrize(
    ("offers", "asked", "said"),
    [
        ({}, "acme", "known are docker"),
        ({"acme": "acme_responder:gone"}, "acme", "can't be loaded"),
        ({"acme": "acme_nowhere:make"}, "acme", "can't be loaded"),
        ({"acme": "acme_responder:odd"}, "acme", "lacks what"),
        ({"docker": "acme_responder:make"}, "docker", "offered twice"),
    ],
)
def test_what_is_no_platform_is_refused_at_the_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offers: dict[str, str],
    asked: str,
    said: str,
) -> None:
    """What holds a container socket is not chosen by chance, nor half loaded."""
    with (
        installed(tmp_path, monkeypatch, **offers),
        pytest.raises(ConfigurationError, match=said),
    ):
        platform_of(settings(asked))
