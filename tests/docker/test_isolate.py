"""Isolation among neighbours: what others do at its addresses neither counts nor suffers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from models.records.order import Action
from streams.responders.base import Acted, State
from streams.responders.docker import Docker, conntrack
from streams.responders.docker.engine import Engine
from tests.docker.responder import until
from tests.fixtures_docker import TestEngine

SUBNET, ADDRESS = "10.97.31.0/24", "10.97.31.77"


@pytest.fixture(scope="module")
def platform() -> Iterator[Docker]:
    engine = Engine("unix:///var/run/docker.sock", 60.0)
    yield Docker(engine)
    engine.close()


@pytest.fixture(scope="module")
def network(docker_engine: TestEngine) -> str:
    return str(docker_engine.network("neighbours", SUBNET).name)


@pytest.fixture(scope="module")
def image(docker_engine: TestEngine) -> str:
    return docker_engine.image("neighbours", command=("httpd", "-f", "-p", "80"))


@contextmanager
def serving(engine: TestEngine, image: str, network: str) -> Iterator[str]:
    """A container that serves at ADDRESS; its id."""
    made = engine.client.containers.create(image, network="none", stop_signal="SIGKILL")
    try:
        engine.client.networks.get("none").disconnect(made)
        engine.client.networks.get(network).connect(made, ipv4_address=ADDRESS)
        made.start()
        until(answered, lambda: "it serves").close()
        yield str(made.id)
    finally:
        made.remove(force=True)


def answered() -> socket.socket | None:
    with suppress(OSError):
        return socket.create_connection((ADDRESS, 80), timeout=1.0)
    return None


def isolated(platform: Docker, subject: str) -> tuple[State, Acted]:
    before = platform.snapshot(Action.ISOLATE, subject, {})
    return before, platform.carry_out(Action.ISOLATE, subject, "order", before)


def unverified(platform: Docker, subject: str, before: State, acted: Acted) -> list[str]:
    checks = platform.verify(Action.ISOLATE, subject, before, acted)
    return [f"{one.name}: {one.detail}" for one in checks if not one.passed]


@contextmanager
def knocking() -> Iterator[None]:
    """A scraper on the host that does not know yet."""
    enough = threading.Event()

    def knock() -> None:
        while not enough.is_set():
            with suppress(OSError), socket.create_connection((ADDRESS, 80), timeout=0.02):
                pass

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        until(lambda: len(conntrack.entries([ADDRESS])) > 3, lambda: "it knocks")
        yield
    finally:
        enough.set()
        thread.join()


def test_who_knocks_in_vain_does_not_make_it_unverified(
    platform: Docker, docker_engine: TestEngine, image: str, network: str
) -> None:
    """Every scraper and proxy goes on for a while: the container would be paused for it."""
    with serving(docker_engine, image, network) as subject, knocking():
        before, acted = isolated(platform, subject)
        until(lambda: conntrack.entries([ADDRESS]), lambda: "it still knocks")
        assert unverified(platform, subject, before, acted) == []


def test_a_connection_that_lives_on_does(
    platform: Docker, docker_engine: TestEngine, image: str, network: str
) -> None:
    """Else the check would pass whatever is in the table."""
    with serving(docker_engine, image, network) as subject:
        before = platform.snapshot(Action.ISOLATE, subject, {})
        with until(answered, lambda: "it is connected"):
            found = unverified(platform, subject, before, Acted(""))
    assert {"conntrack", "probe-in", "probe-out"} <= {one.partition(":")[0] for one in found}


def test_who_has_its_address_by_now_is_left_alone(
    platform: Docker, docker_engine: TestEngine, image: str, network: str
) -> None:
    """An orchestrator's replacement gets the address that became free: its connections are
    neither cut nor taken for the container's own.
    """
    with serving(docker_engine, image, network) as subject:
        before, acted = isolated(platform, subject)
        with (
            serving(docker_engine, image, network),
            until(answered, lambda: "the successor is connected") as connection,
        ):
            platform.carry_out(Action.ISOLATE, subject, "order", before)
            assert conntrack.entries([ADDRESS]), "the successor's connection is still tracked"
            assert unverified(platform, subject, before, acted) == []
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert connection.recv(100)
