"""What an observation tells: a fact's key, the family it speaks for, how loud if it is new.

Grades: 1 speaks only together with something else, 2 makes a suspect alone, 3 is a proof.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from models.records.facts import (
    Change,
    Connection,
    Direction,
    Exec,
    Fact,
    FileChange,
    Listen,
    Program,
)
from models.records.verdict import Family

WEAK: Final = 1
STRONG: Final = 2
PROOF: Final = 3
STRANGERS: Final = frozenset({"peer", "mate", "port"})
"""Kinds that tell of somebody it did not talk to before: an address (or a port there), or a
lineage of ours. Each has its own unseen mass: to a crawler every host is new, no port is.
"""
PLACES: Final = frozenset({"country", "network"})
"""Kinds that tell where a peer is, which of a known one is no news."""
TEACHABLE: Final = frozenset({
    "peer", "mate", "port", "country", "network", "in", "from", "listen", "prog", "hand", "file",
    "xfile", "exec", "who",
})  # fmt: skip  # a list
"""Kinds that people may call normal. Proofs are not among them, whoever says so."""

_DRAWN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:tmp[._-]?|_MEI|\.mount_)[A-Za-z0-9_]{6,}"
    r"|(?<![A-Za-z0-9])(?=[A-Za-z0-9]{6})[A-Za-z]*(?:[0-9]+[A-Za-z]+){2,}[0-9]*"
    r"|[0-9]{3,}"
)
"""What is drawn anew for each start or release: the folders of mktemp, Python, PyInstaller and
AppImage, letters and digits mixed, numbers of three digits or more."""


@dataclass(frozen=True, slots=True)
class Told:
    """``key`` starts with its kind; ``text`` is how a reason begins."""

    key: str
    family: Family
    grade: int
    text: str


def told(fact: Fact) -> tuple[Told, ...]:
    """The facts that an observation holds; none where it is of no interest."""
    if isinstance(fact, Connection):
        return _connection(fact)
    if isinstance(fact, Program):
        return _program(fact)
    if isinstance(fact, FileChange):
        return _file(fact)
    if isinstance(fact, Listen):
        text = f"listens on port {fact.port}/{fact.protocol}"
        return (Told(f"listen {fact.port}/{fact.protocol}", Family.INGRESS, WEAK, text),)
    if isinstance(fact, Exec):
        return _exec(fact)
    return ()


def teachable(key: str) -> bool:
    """Whether people may call this fact normal.

    >>> teachable("peer 198.51.100.9:443"), teachable("drop /tmp/xmrig"), teachable("oom")
    (True, False, False)
    """
    return key.partition(" ")[0] in TEACHABLE and " " in key


@functools.lru_cache(maxsize=65_536)
def local(address: str) -> bool:
    """Whether an address stays on the machine or speaks to everybody: no peer at all.

    >>> local("127.0.0.11"), local("224.0.0.251"), local("10.0.0.7")
    (True, True, False)
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False  # a name: judged as it stands
    broadcast = ip.version == 4 and address.endswith("255.255.255.255")
    return ip.is_loopback or ip.is_multicast or ip.is_link_local or ip.is_unspecified or broadcast


def shape(path: str) -> str:
    """A path that its image did not bring, without what is drawn anew for each start: by that it
    is known again.

    >>> shape("/tmp/_MEIxWfLqa/main"), shape("/opt/releases/20261126/app"), shape("/tmp/xmrig")
    ('/tmp/*/main', '/opt/releases/*/app', '/tmp/xmrig')
    >>> shape("/tmp/tmp.RbJqWzKx/run"), shape("/srv/b92577a1f13c/x86_64/python3.11")
    ('/tmp/*/run', '/srv/*/x86_64/python3.11')
    """
    return _DRAWN.sub("*", path)


def _connection(fact: Connection) -> tuple[Told, ...]:
    if not fact.peer_lineage and local(fact.peer):
        return ()
    peer = f"@{fact.peer_lineage}" if fact.peer_lineage else fact.peer
    if fact.direction is Direction.INGRESS:
        # Who calls from outside is legion; which of our containers do, and where, is not.
        key = f"in {peer if fact.peer_lineage else '*'}:{fact.port}"
        text = f"was called by {fact.peer_lineage or fact.peer} on port {fact.port}"
        return (Told(key, Family.INGRESS, WEAK, text), *_from(fact))
    kind = "mate" if fact.peer_lineage else "peer"
    place = ", ".join(filter(None, (fact.peer_network, fact.peer_country)))
    text = f"talks to {peer.removeprefix('@')}:{fact.port}{f' ({place})' if place else ''}"
    port = f"talks to port {fact.port}, at {peer.removeprefix('@')}"
    return (
        Told(f"{kind} {peer}:{fact.port}", Family.EGRESS, WEAK, text),
        *_places(fact),
        Told(f"port {fact.port}/{fact.protocol}", Family.EGRESS, WEAK, port),
    )


def _places(fact: Connection) -> tuple[Told, ...]:
    """Where a peer is, as far as gather could tell."""
    told: tuple[Told, ...] = ()
    if fact.peer_country:
        text = f"talks to somebody in {fact.peer_country}, at {fact.peer}"
        told += (Told(f"country {fact.peer_country}", Family.EGRESS, WEAK, text),)
    if fact.peer_network:
        number = fact.peer_network.split(" ", 1)[0]  # who runs it is called this or that
        text = f"talks to the network {fact.peer_network}, at {fact.peer}"
        told += (Told(f"network {number}", Family.EGRESS, WEAK, text),)
    return told


def _from(fact: Connection) -> tuple[Told, ...]:
    if not fact.peer_country:
        return ()
    text = f"was called from {fact.peer_country}, by {fact.peer} on port {fact.port}"
    return (Told(f"from {fact.peer_country}", Family.INGRESS, WEAK, text),)


def _program(fact: Program) -> tuple[Told, ...]:
    by = f", started by {fact.parent}" if fact.parent else ""
    if fact.in_image is False:
        text = f"runs {fact.executable}, which is not in its image{by}"
        return (Told(f"drop {shape(fact.executable)}", Family.PROCESS, PROOF, text),)
    text = f"runs {fact.executable}{by}"
    program = fact.executable if fact.in_image else shape(fact.executable)
    started = f"{program} < {shape(fact.parent)}"
    if fact.login:
        by_hand = f"{fact.login}, who has logged in, {text}"
        return (Told(f"hand {started}", Family.ACCESS, WEAK, by_hand),)
    return (Told(f"prog {started}", Family.PROCESS, WEAK, text),)


def _file(fact: FileChange) -> tuple[Told, ...]:
    path = PurePosixPath(shape(fact.path))
    if fact.executable and fact.change is not Change.DELETED:
        text = f"{fact.change} the executable {fact.path}"
        return (Told(f"xfile {path.parent}", Family.INTEGRITY, STRONG, text),)
    text = f"{fact.change} {fact.path}"
    return (Told(f"file {path.parent} {path.suffix}", Family.INTEGRITY, WEAK, text),)


def _exec(fact: Exec) -> tuple[Told, ...]:
    program = fact.command.split(maxsplit=1)[0] if fact.command.strip() else "?"
    by = f" by {fact.by}" if fact.by else ""
    text = f"somebody ran {fact.command[:200]!r} in it{by}"
    told = (Told(f"exec {program}", Family.ACCESS, WEAK, text),)
    if not fact.by:
        return told
    return (*told, Told(f"who {fact.by}", Family.ACCESS, WEAK, f"{fact.by} ran a command in it"))
