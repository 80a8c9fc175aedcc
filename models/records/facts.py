"""Observations: discrete facts about a container or host, one dataclass for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from models.records import checks


class Direction(StrEnum):
    EGRESS = "egress"
    INGRESS = "ingress"


class Change(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Connection:
    """What went between a container and one peer during the interval before ``at_ns``.

    ``port`` is the service's: the peer's for egress, the container's own for ingress.
    ``peer_lineage`` is filled by gather where the peer is a container that it knows, so
    that a sibling with a fresh address is no stranger; ``peer_country`` (ISO 3166) and
    ``peer_network`` (autonomous system and who runs it) where it knows where others are.
    """

    KIND: ClassVar[str] = "connection"
    direction: Direction
    peer: str
    port: int
    protocol: str
    sent_bytes: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    received_packets: int = 0
    opened: int = 0
    answered: bool = True
    peer_lineage: str = ""
    peer_country: str = ""
    peer_network: str = ""

    def __post_init__(self) -> None:
        checks.name(self.peer, "peer", 256)
        checks.between(self.port, 0, 65_535, "port")


@dataclass(frozen=True, slots=True)
class Interface:
    """What went through one of several network interfaces during the interval before
    ``at_ns``; samples tell their sum.
    """

    KIND: ClassVar[str] = "interface"
    interface: str
    received_bytes: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    sent_packets: int = 0

    def __post_init__(self) -> None:
        checks.name(self.interface, "interface", 64)


@dataclass(frozen=True, slots=True)
class Listen:
    """The container accepts connections on a port."""

    KIND: ClassVar[str] = "listen"
    port: int
    protocol: str
    address: str = ""

    def __post_init__(self) -> None:
        checks.between(self.port, 0, 65_535, "port")


@dataclass(frozen=True, slots=True)
class Program:
    """A program runs. ``in_image`` is None where that could not be determined. ``login``: who has
    logged in to the host and runs it at a terminal; empty for services and what they start.
    """

    KIND: ClassVar[str] = "program"
    executable: str
    in_image: bool | None = None
    parent: str = ""
    user: str = ""
    pid: int = 0
    sha256: str = ""
    login: str = ""

    def __post_init__(self) -> None:
        checks.name(self.executable, "executable", 4096)


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file in the container's writable layer differs from its image."""

    KIND: ClassVar[str] = "file"
    path: str
    change: Change
    executable: bool = False
    size_bytes: int = 0
    changed_ns: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        checks.name(self.path, "path", 4096)


@dataclass(frozen=True, slots=True)
class BootIdentity:
    """All that decides how a container starts. Environment values are HMACs under the
    deployment's key: equal values stay equal, none can be read.
    """

    KIND: ClassVar[str] = "boot"
    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    mounts: tuple[str, ...] = ()
    capabilities_added: tuple[str, ...] = ()
    capabilities_dropped: tuple[str, ...] = ()
    privileged: bool = False
    user: str = ""
    read_only_root: bool = False
    network_mode: str = ""
    pid_mode: str = ""
    security_options: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exec:
    """Somebody started a command in a running container. The command is scrubbed of what
    looks like a secret before it is sent; ``by`` is empty where the source cannot tell.
    """

    KIND: ClassVar[str] = "exec"
    command: str
    by: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The container was created, started, stopped, killed, paused, renamed …"""

    KIND: ClassVar[str] = "lifecycle"
    event: str
    exit_code: int | None = None
    out_of_memory: bool = False

    def __post_init__(self) -> None:
        checks.name(self.event, "event", 64)


@dataclass(frozen=True, slots=True)
class Coverage:
    """We see less than we should: a producer fell silent, lost frames or lacks a right.
    ``until_ns`` is 0 while it lasts.
    """

    KIND: ClassVar[str] = "coverage"
    problem: str
    detail: str = ""
    missing: int = 0
    until_ns: int = 0

    def __post_init__(self) -> None:
        checks.name(self.problem, "problem", 64)


Fact = (
    Connection
    | Interface
    | Listen
    | Program
    | FileChange
    | BootIdentity
    | Exec
    | Lifecycle
    | Coverage
)


@dataclass(frozen=True, slots=True)
class Observation:
    """A fact about one subject: a container's full id, or ``host/MACHINE-ID``."""

    subject: str
    at_ns: int
    fact: Fact

    def __post_init__(self) -> None:
        checks.name(self.subject, "subject")
        checks.time(self.at_ns, "at_ns")
