"""The kernel's connection table, seen and cleared for one address, on real connections."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.responders.docker import conntrack
from tests.docker.responder import until
from tests.fixtures_docker import TestEngine


@pytest.fixture(scope="module")
def addresses(docker_engine: TestEngine) -> list[str]:
    """Addresses of two containers that serve."""
    image = docker_engine.image("tracked")
    network = docker_engine.network("tracked", "10.97.21.0/24").name
    found = []
    for _ in range(2):
        one = docker_engine.run(
            image, ["httpd", "-f", "-p", "80"], network=network, stop_signal="SIGKILL"
        )
        found.append(str(one.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]))
    return found


@pytest.fixture
def served(addresses: list[str]) -> Iterator[tuple[str, str]]:
    """Both addresses, each with an open connection from here."""
    with ExitStack() as held:
        for address in addresses:
            look = functools.partial(_connection, address)
            held.enter_context(until(look, lambda: "it serves"))
        yield addresses[0], addresses[1]


def _connection(address: str) -> socket.socket | None:
    try:
        return socket.create_connection((address, 80), timeout=1.0)
    except OSError:
        return None


@pytest.mark.parametrize("small", [0, 10**9], ids=["asked by filter", "read whole"])
def test_only_the_entries_of_the_address_are_seen_and_deleted(
    served: tuple[str, str], small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sibling's connections must live on."""
    monkeypatch.setattr(conntrack, "SMALL", small)
    victim, sibling = served
    assert conntrack.entries([victim])
    assert all(victim in entry.told()["original"] for entry in conntrack.entries([victim]))
    before = len(conntrack.entries([sibling]))

    assert conntrack.delete([victim]) > 0
    assert conntrack.entries([victim]) == []
    assert len(conntrack.entries([sibling])) == before


def test_the_file_and_netlink_tell_the_same_connections(served: tuple[str, str]) -> None:
    """Some kernels offer one way only; hosts of a fleet must be told of alike."""
    from producers.sources.docker.conntrack import entries_of
    from producers.sources.docker.netlink import Netlink

    path, link = Path("/proc/1/net/nf_conntrack"), Netlink()
    for _ in range(2):  # the second dump answers from what it remembers
        dumped = [one for one in link.dump() if one.destination in served]
        assert len(dumped) >= 2
        if path.exists():
            read = [one for one in entries_of(path.read_text()) if one.destination in served]
            assert sorted(map(str, read)) == sorted(map(str, dumped))


def test_no_address_means_no_entry(served: tuple[str, str]) -> None:
    """A container without networks must not have everybody's connections deleted."""
    assert conntrack.entries([]) == []
    assert conntrack.delete([]) == 0
