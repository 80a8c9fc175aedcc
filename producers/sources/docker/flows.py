"""Connections of the whole host, told as each container's own: what went to whom since the
last look.

A finished connection stays in the kernel's table for two minutes (TCP) or half a minute
(UDP), so looking every few seconds misses none, short as it may have been; one that was refused
is told as it goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from models.records.facts import Connection, Direction
from producers.sources.docker.conntrack import Entry

MOST_TOLD: Final = 256
"""Connections of one container and look that are told one by one, the largest first."""

NOBODY: Final = ""
"""Owns an address of this host that was a container's a moment ago."""

Key = tuple[str, str, int, str, int, str, int]
Peer = tuple[Direction, str, int, str]


@dataclass(slots=True)
class Sum:
    """What connections to one peer carried, seen from the container."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    received_packets: int = 0
    opened: int = 0
    answered: bool = False

    def add(self, one: Entry, before: Entry | None, direction: Direction) -> None:
        sent, sent_packets = one.sent_bytes, one.sent_packets
        received, received_packets = one.received_bytes, one.received_packets
        if before is not None:
            sent, sent_packets = sent - before.sent_bytes, sent_packets - before.sent_packets
            received -= before.received_bytes
            received_packets -= before.received_packets
        if direction is Direction.INGRESS:
            sent, sent_packets, received, received_packets = (
                received, received_packets, sent, sent_packets,
            )  # fmt: skip  # a swap
        self.sent_bytes += sent
        self.received_bytes += received
        self.sent_packets += sent_packets
        self.received_packets += received_packets
        self.opened += before is None
        self.answered |= one.answered


@dataclass(slots=True)
class Traffic:
    """One container's connections since the last look. ``opened`` counts those that it
    opened itself, ``peers`` the addresses that something went to or came from.
    """

    sums: dict[Peer, Sum] = field(default_factory=dict)

    @property
    def opened(self) -> int:
        return sum(s.opened for (way, *_), s in self.sums.items() if way is Direction.EGRESS)

    @property
    def peers(self) -> int:
        return len({peer for _, peer, *_ in self.sums})

    def told(self) -> tuple[list[Connection], int]:
        """The connections worth a line each, and how many were left out."""
        pairs = list(self.sums.items())
        if len(pairs) > MOST_TOLD:
            pairs.sort(key=lambda pair: -(pair[1].sent_bytes + pair[1].received_bytes))
        told = [
            Connection(
                direction, peer, port, protocol, s.sent_bytes, s.received_bytes,
                s.sent_packets, s.received_packets, s.opened, s.answered,
            )
            for (direction, peer, port, protocol), s in itertools.islice(pairs, MOST_TOLD)
        ]  # fmt: skip  # as the record orders it
        return told, len(pairs) - len(told)


class Flows:
    """Remembers every connection's counters from one look to the next."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._before: dict[Key, Entry] | None = None
        self._waiting: dict[Key, None] = {}

    def look(
        self, entries: Iterable[Entry], owners: Mapping[str, str], refused: Iterable[Entry] = ()
    ) -> dict[str, Traffic]:
        """What each subject sent and received since the last look, by subject. ``refused``: what
        ended without an answer since, and was asked for after ``entries``.

        ``owners`` says whose an address is: a container's, the host's, or :data:`NOBODY`'s. The
        first look only remembers: how much of what it finds is new nobody knows. A new
        connection without an answer waits one look, since its answer may be on its way.
        """
        known, self._before = self._before, {}
        waited, self._waiting = self._waiting, {}
        traffic: dict[str, Traffic] = {}
        for one in entries:
            if one.source not in owners and one.answerer not in owners:
                continue
            key = _key(one)
            before = known.get(key) if known is not None else one
            if before is not None and _restarted(one, before):
                before = None
            if before is None and not one.answered and key not in waited:
                self._waiting[key] = None
                continue
            self._before[key] = one
            if before is None or _moved(one, before):
                self._share(traffic, one, before, owners)
        for one in refused if known is not None else ():
            key = _key(one)
            if not (key in self._before or (known and key in known)):
                self._share(traffic, one, None, owners)
        return traffic

    def _share(
        self, traffic: dict[str, Traffic], one: Entry, before: Entry | None,
        owners: Mapping[str, str],
    ) -> None:  # fmt: skip  # three lines
        """A connection between two containers is one's egress and the other's ingress. The peer
        of egress is who really answers, not the address that was asked for. What the host says
        to its own containers leaves nothing, and is told of them alone: proxies and probes do
        so, our own too that looks whether an isolation holds.
        """
        opener, answerer = owners.get(one.source), owners.get(one.answerer)
        if opener == answerer:
            return  # talks to itself: nothing leaves
        if opener == self._host and answerer is not None:
            opener = None
        for subject, direction, peer in (
            (opener, Direction.EGRESS, one.answerer),
            (answerer, Direction.INGRESS, one.source),
        ):
            if subject is not None and subject != NOBODY:
                sums = traffic.setdefault(subject, Traffic()).sums
                at = (direction, peer, one.answerer_port, one.protocol)
                sums.setdefault(at, Sum()).add(one, before, direction)


def _key(one: Entry) -> Key:
    """What makes a connection this one."""
    return (
        one.protocol, one.source, one.source_port, one.destination, one.destination_port,
        one.answerer, one.answerer_port,
    )  # fmt: skip  # as they lie


def _restarted(one: Entry, before: Entry) -> bool:
    """The same ports again: the kernel's counters began anew."""
    return one.sent_bytes < before.sent_bytes or one.received_bytes < before.received_bytes


def _moved(one: Entry, before: Entry) -> bool:
    return (
        one.sent_packets != before.sent_packets or one.received_packets != before.received_packets
    )
