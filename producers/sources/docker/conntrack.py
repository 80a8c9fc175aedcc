"""The kernel's table of connections: bytes both ways, and through address translation.

Read from ``/proc/1/net/nf_conntrack``, which is the host's own table also for a collector
in a container; where the kernel doesn't offer that file, over netlink.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


class ConntrackUnreadable(OSError):
    """The table can't be read here; the message says what is lacking."""


@dataclass(slots=True)
class Entry:
    """One connection: as its first packet named it, and as the answer comes back, which
    tells through address translation who really answers. Counts are 0 while the kernel's
    accounting is off.
    """

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    answerer: str
    answerer_port: int
    answered: bool
    sent_bytes: int
    sent_packets: int
    received_bytes: int
    received_packets: int


PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_TUPLE: Final = r"src=(\S+) dst=(\S+) (?:sport=(\d+) dport=(\d+) |type=\d+ code=\d+ id=\d+ )?"
_COUNTS: Final = r"(?:packets=(\d+) bytes=(\d+) )?"
_LINE: Final = re.compile(
    rf"^\S+ +\d+ \S+ +(\d+) (?:\d+ )?(?:[A-Z]\w* )?{_TUPLE}{_COUNTS}(\[UNREPLIED\] )?{_TUPLE}"
    rf"{_COUNTS}"
)
_LOOPBACK: Final = (" src=127.", " src=0000:0000:0000:0000:0000:0000:0000:0001 ")
"""Twice in a line: the host talks to itself, on busy hosts in most lines of all."""


def entries_of(text: str) -> Iterable[Entry]:
    """The connections that ``nf_conntrack`` lists; lines of another form are passed over."""
    for line in text.split("\n"):
        if line.count(_LOOPBACK[0]) == 2 or line.count(_LOOPBACK[1]) == 2:
            continue
        found = _LINE.match(line)
        entry = _entry_of(found) if found is not None else None
        if entry is not None:
            yield entry


def _entry_of(found: re.Match[str]) -> Entry | None:
    """None where what stands for an address is none."""
    try:
        (
            protocol, source, destination, source_port, port, packets, octets, unreplied,
            answerer, _, answerer_port, _, back_packets, back_octets,
        ) = found.groups()  # fmt: skip  # the line's order
        return Entry(
            PROTOCOLS.get(int(protocol), protocol), _usual(source), int(source_port or 0),
            _usual(destination), int(port or 0), _usual(answerer), int(answerer_port or 0),
            unreplied is None, int(octets or 0), int(packets or 0),
            int(back_octets or 0), int(back_packets or 0),
        )  # fmt: skip  # as the record orders it
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=16_384)
def _usual(address: str) -> str:
    """The kernel prints every digit of an IPv6 address; nobody else does.

    >>> _usual("fd00:0006:0000:0000:0000:0000:0000:0001")
    'fd00:6::1'
    """
    if ":" not in address:
        return address
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))


def reader(root: Path) -> Callable[[], Iterable[Entry]]:
    """What reads the table here, each time it is called.

    Raises: ConntrackUnreadable (and so may the reader) where there is no way to it.
    """
    path = root / "proc/1/net/nf_conntrack"

    def read() -> Iterable[Entry]:
        try:
            return entries_of(path.read_text())
        except OSError as problem:
            raise ConntrackUnreadable(problem.errno, f"{path}: {problem.strerror}") from problem

    if path.exists():
        read()
        return read
    from producers.sources.docker.netlink import Netlink

    link = Netlink()
    link.dump()
    return link.dump


ACCOUNTING: Final = "proc/sys/net/netfilter/nf_conntrack_acct"
BRIDGED: Final = "proc/sys/net/bridge/bridge-nf-call-iptables"


def switched_on(root: Path, name: str) -> bool | None:
    """Whether a kernel setting is 1; None where the kernel has none."""
    try:
        return (root / name).read_text().strip() == "1"
    except OSError:
        return None


def switch_on(root: Path, name: str) -> bool:
    """Set it to 1. Returns whether it could be."""
    try:
        (root / name).write_text("1")
    except OSError:
        return False
    return True
