"""Ports that containers accept connections on."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from models.errors import MalformedRecord
from models.records.facts import Listen
from producers.pace import Every
from producers.sources.docker.identity import Known
from producers.sources.docker.sockets import Sockets

_LISTENING: Final = "0A"


def listening(text: str) -> Iterator[tuple[str, int]]:
    """Address and port of each listening socket of ``/proc/PID/net/tcp`` or ``tcp6``."""
    for line in text.splitlines()[1:]:
        fields = line.split(None, 4)
        if len(fields) > 3 and fields[3] == _LISTENING:
            with suppress(ValueError):  # of another form
                address, _, port = fields[1].partition(":")
                yield _address(address), int(port, 16)


def told(places: Iterable[tuple[str, int]]) -> Iterator[Listen]:
    """Those that others can reach: Docker's own resolver listens on loopback in every
    container, on another port each time.
    """
    for address, port in places:
        if not address.startswith("127.") and address != "::1":
            with suppress(MalformedRecord):  # no port of TCP's
                yield Listen(port, "tcp", address)


def _address(text: str) -> str:
    """The kernel prints addresses as words in its own byte order."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, words)


class Namespace:
    """What one container listens on: asked of the kernel, or read as text where we may not."""

    def __init__(self, root: Path, pid: int) -> None:
        self.pid = pid
        self._texts = [root / f"proc/{pid}/net/{name}" for name in ("tcp", "tcp6")]
        self._sockets: Sockets | None = None
        with suppress(OSError):
            self._sockets = Sockets(root, pid)

    def listening(self) -> set[Listen]:
        """Every open port; none once the container has ended."""
        if self._sockets is not None:
            try:
                return set(told(self._sockets.listening()))
            except OSError:
                self.close()
        with suppress(OSError):  # the container ended
            return {one for text in self._texts for one in told(listening(text.read_text()))}
        return set()

    def close(self) -> None:
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            sockets.close()


class Listens:
    """Tells each open port once, and again once a minute with the programs."""

    def __init__(self, root: Path, interval_s: float, refresh_ns: int) -> None:
        self._root = root
        self._look, self._refresh = Every(round(interval_s * 1e9)), Every(refresh_ns)
        self._told: dict[str, set[Listen]] = {}
        self._namespaces: dict[str, Namespace] = {}

    def look(self, now_ns: int, known: Mapping[str, Known]) -> Iterator[tuple[str, Listen]]:
        if not self._look.due(now_ns):
            return
        if self._refresh.due(now_ns):
            self._told.clear()
        alive = {s: one for s, one in known.items() if one.alive and not one.shares}
        self._follow(alive)
        for subject in alive:
            here = self._namespaces[subject].listening()
            before, self._told[subject] = self._told.get(subject, set()), here
            for one in sorted(here - before, key=lambda listen: (listen.port, listen.address)):
                yield subject, one

    def close(self) -> None:
        self._follow({})

    def _follow(self, alive: Mapping[str, Known]) -> None:
        """A namespace for each that runs: a new one when it was restarted."""
        for subject, namespace in list(self._namespaces.items()):
            if subject not in alive or alive[subject].pid != namespace.pid:
                self._namespaces.pop(subject).close()
        for subject in self._told.keys() - alive.keys():
            del self._told[subject]
        for subject, container in alive.items():
            if subject not in self._namespaces:
                self._namespaces[subject] = Namespace(self._root, container.pid)
