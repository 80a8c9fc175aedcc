"""Hosts that are elsewhere, as far as a container can tell: a network namespace of our own.

Containers reach it as they reach the internet: through their bridge, the host's NAT and a
route. Its addresses lie in a range that no real host has (RFC 5737), so that nothing is
reached even when something goes wrong.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Self

from pyroute2 import IPRoute, netns

from infra.demo.interruptions import whole
from infra.demo.machine import DemoUnavailable

NETWORKS: Final = tuple(ipaddress.IPv4Network("198.51.100.0/24").subnets(new_prefix=26))
"""The first that nobody uses here is taken: several demos may run at once."""
ANSWER: Final = b"HTTP/1.0 200 OK\r\n\r\n" + b"." * 1_000
_AT_ONCE_BYTES: Final = 1 << 18
_LOOK_S: Final = 0.2
_MAIN_TABLE: Final = 254


class RemoteHosts:
    """Servers on ``hosts`` (2 to 62: their place in the network), each on all ``ports``. They take
    what is sent, answer when the sender has ended, and count. A context manager: on exit
    namespace, link and route are gone.
    """

    def __init__(self, run: str, hosts: Sequence[int], ports: Sequence[int]) -> None:
        self.namespace = f"plimsoll-{run}"
        self.link = f"plm-{run}"  # fifteen characters, the most that the kernel takes
        self.network = whole(_free_network)
        self._hosts, self._ports = tuple(hosts), tuple(ports)
        self._received: Counter[str] = Counter()
        self._open = ExitStack()
        self._stop = threading.Event()

    def address(self, host: int) -> str:
        return str(self.network[host])

    def received_bytes(self, host: int) -> int:
        """All that ever arrived at a host: what the far end sees, whatever we believe."""
        return self._received[self.address(host)]

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._forget)
            undo.callback(self._disconnect)
            servers = whole(self._made)
            thread = threading.Thread(target=self._serve, args=(servers,), name="remote hosts")
            thread.start()
            undo.callback(thread.join)
            undo.callback(self._stop.set)
            self._open = undo.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    # ---- the network ------------------------------------------------------------------------

    def _made(self) -> list[socket.socket]:
        """Namespace, cable and sockets."""
        netns.create(self.namespace)
        self._connect()
        return self._listen()

    def _connect(self) -> None:
        """A cable from here into the namespace; the addresses are in place before it is up."""
        far = {"ifname": "eth0", "net_ns_fd": self.namespace}
        with IPRoute() as here:
            here.link("add", ifname=self.link, kind="veth", peer=far)
            with self._inside(), IPRoute() as there:
                _up(there, "lo", [])
                _up(there, "eth0", map(self._placed, self._hosts))
            _up(here, self.link, [self._placed(1)])

    def _placed(self, host: int) -> ipaddress.IPv4Interface:
        return ipaddress.IPv4Interface((self.address(host), self.network.prefixlen))

    def _forget(self) -> None:
        if self.namespace in netns.listnetns():
            netns.remove(self.namespace)

    def _disconnect(self) -> None:
        """With the link go its route and its other end. The kernel would do it once the
        namespace is gone, but in its own time.
        """
        with IPRoute() as here:
            for index in here.link_lookup(ifname=self.link):
                here.link("del", index=index)

    def _listen(self) -> list[socket.socket]:
        """Sockets belong to the namespace in which they were made, whoever serves them."""
        with self._inside():
            return [
                socket.create_server((self.address(host), port), backlog=128)
                for host in self._hosts
                for port in self._ports
            ]

    @contextmanager
    def _inside(self) -> Iterator[None]:
        netns.pushns(self.namespace)
        try:
            yield
        finally:
            netns.popns()

    # ---- the servers ------------------------------------------------------------------------

    def _serve(self, servers: Iterable[socket.socket]) -> None:
        with ExitStack() as closing:
            chosen = closing.enter_context(selectors.DefaultSelector())
            for server in servers:
                server.settimeout(0)
                chosen.register(closing.enter_context(server), selectors.EVENT_READ, "")
            while not self._stop.is_set():
                for key, _ in chosen.select(_LOOK_S):
                    self._ready(chosen, key)
            for left in list(chosen.get_map().values()):
                _socket(left).close()

    def _ready(self, chosen: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        """A new connection on a server, or bytes (or the end of them) on a connection."""
        try:
            if not key.data:
                connection, _ = _socket(key).accept()
                connection.settimeout(0)
                address = str(connection.getsockname()[0])
                chosen.register(connection, selectors.EVENT_READ, address)
                return
            taken = _socket(key).recv(_AT_ONCE_BYTES)
            self._received[key.data] += len(taken)
            if taken:
                return
            _socket(key).send(ANSWER)
        except OSError:  # it was reset, or is gone before it was accepted: both are its end
            if not key.data:
                return
        chosen.unregister(key.fileobj)
        _socket(key).close()


def _socket(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


def _up(stack: Any, link: str, places: Iterable[ipaddress.IPv4Interface]) -> None:
    index = stack.link_lookup(ifname=link)[0]
    for place in places:
        prefix = place.network.prefixlen
        stack.addr("add", index=index, address=str(place.ip), prefixlen=prefix)
    stack.link("set", index=index, state="up")


def _free_network() -> ipaddress.IPv4Network:
    """A network to which nothing here leads, but the way to everywhere.

    Raises: DemoUnavailable when all are in use.
    """
    with IPRoute() as here:
        routes = here.get_routes(family=socket.AF_INET, table=_MAIN_TABLE)
        used = [
            ipaddress.IPv4Network(f"{route.get_attr('RTA_DST')}/{route['dst_len']}")
            for route in routes
            if route["dst_len"]
        ]
    for network in NETWORKS:
        if not any(network.overlaps(other) for other in used):
            return network
    raise DemoUnavailable(
        f"there are routes to all of {', '.join(map(str, NETWORKS))} already "
        "(`ip route` shows them): remove what another demo left, or end it first"
    )
