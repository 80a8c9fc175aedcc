"""Ports that containers accept connections on."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from models.errors import MalformedRecord
from models.records.facts import Listen
from producers.pace import Every
from producers.sources.docker.identity import Known

_LISTENING: Final = "0A"


def listening(text: str, protocol: str = "tcp") -> Iterator[Listen]:
    """The listening sockets of ``/proc/PID/net/tcp`` or ``tcp6`` that others can reach:
    Docker's own resolver listens on loopback in every container, on another port each time.
    """
    for line in text.splitlines()[1:]:
        fields = line.split(None, 4)
        if len(fields) > 3 and fields[3] == _LISTENING:
            with suppress(ValueError, MalformedRecord):  # of another form
                address, _, port = fields[1].partition(":")
                told = _address(address)
                if not told.startswith("127.") and told != "::1":
                    yield Listen(int(port, 16), protocol, told)


def _address(text: str) -> str:
    """The kernel prints addresses as words in its own byte order."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, words)


class Listens:
    """Tells each open port once, and again once a minute with the programs."""

    def __init__(self, root: Path, interval_s: float, refresh_ns: int) -> None:
        self._root = root
        self._look, self._refresh = Every(round(interval_s * 1e9)), Every(refresh_ns)
        self._told: dict[str, set[Listen]] = {}

    def look(self, now_ns: int, known: Mapping[str, Known]) -> Iterator[tuple[str, Listen]]:
        if not self._look.due(now_ns):
            return
        if self._refresh.due(now_ns):
            self._told.clear()
        for subject in self._told.keys() - known.keys():
            del self._told[subject]
        for subject, container in known.items():
            if container.alive and not container.shares:
                here = set(self._open_ports(container.pid))
                told = self._told.get(subject, set())
                self._told[subject] = here
                for one in sorted(here - told, key=lambda listen: (listen.port, listen.address)):
                    yield subject, one

    def _open_ports(self, pid: int) -> Iterator[Listen]:
        for name in ("tcp", "tcp6"):
            try:
                yield from listening((self._root / f"proc/{pid}/net/{name}").read_text())
            except OSError:
                return  # the container ended
