"""The kernel's table of connections over netlink, where ``/proc`` doesn't show it; and those that
were refused, which no table shows.

A general decoder (pyroute2's: 67 µs an entry) turns every attribute into objects; we need
eight values of each, most of which never change: what a pair of tuples says is remembered by
its bytes (3 µs). A dump walks the whole hash table, which costs 10 ms however few entries
there are: five times what the text file costs.
Source: linux/netfilter/nfnetlink_conntrack.h; netlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from producers.sources.docker.conntrack import PROTOCOLS, ConntrackUnreadable, Entry

_NETLINK_NETFILTER: Final = 12
_GET: Final = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_SEEN_REPLY: Final = 1 << 1  # IPS_SEEN_REPLY
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_TIMEOUT_S: Final = 2.0
_BUFFER: Final = 1 << 20
_DELETED: Final = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_ENDINGS: Final = 1 << 2  # NFNLGRP_CONNTRACK_DESTROY, as a bit
_RCVBUFFORCE: Final = 33  # SO_RCVBUFFORCE
_WAITING_BYTES: Final = 1 << 22
MOST_ENDINGS: Final = 5_000
"""Connections that ended, of which one look takes in no more: what is beyond comes at the next."""
_FAMILY_BYTES: Final = 4  # nfgenmsg, before the attributes

# enum ctattr_type
_ORIGINAL, _REPLY, _STATUS, _COUNT_ORIGINAL, _COUNT_REPLY = 1, 2, 3, 9, 10
_NEEDED: Final = {_ORIGINAL, _REPLY, _STATUS}

Tuples = tuple[str, str, int, str, int, str, int]
"""Protocol; source, destination and who answers, each with its port."""
Attributes = dict[int, tuple[int, int]]


class Netlink:
    """The table of this network namespace, dumped again and again."""

    def __init__(self) -> None:
        self._before: dict[bytes, Tuples] = {}
        self._now: dict[bytes, Tuples] = {}

    def dump(self) -> list[Entry]:
        """Every connection.

        Raises: ConntrackUnreadable without CAP_NET_ADMIN, or where the kernel has no table.
        """
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
                link.settimeout(_TIMEOUT_S)
                with suppress(OSError):  # a smaller one does too
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                both = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)  # address families
                found = [
                    entry
                    for data in dumped(link, _GET, both)
                    if (entry := self.entry_of(data[_FAMILY_BYTES:])) is not None
                ]
        except OSError as problem:
            raise ConntrackUnreadable(problem.errno, f"conntrack: {problem.strerror}") from problem
        self._before, self._now = self._now, {}
        return found

    def entry_of(self, data: bytes) -> Entry | None:
        """One connection from its attributes; None where it lacks any that we need, or says
        it in another form: its neighbours in the dump are told all the same.
        """
        parts = _attributes(data, 0, len(data))
        if not parts.keys() >= _NEEDED:
            return None
        try:
            return self._entry(data, parts)
        except (LookupError, ValueError, struct.error):
            return None

    def unanswered(self, data: bytes) -> Entry | None:
        """The same, None too for one that was answered: most are, and cost little here."""
        place = _attributes(data, 0, len(data)).get(_STATUS)
        if place is None or place[0] + 4 > len(data):
            return None
        (status,) = _U32.unpack_from(data, place[0])
        return None if status & _SEEN_REPLY else self.entry_of(data)

    def _entry(self, data: bytes, parts: Attributes) -> Entry:
        tuples = self._tuples(data, parts[_ORIGINAL], parts[_REPLY])
        (status,) = _U32.unpack_from(data, parts[_STATUS][0])
        sent_bytes, sent_packets = _counts(data, parts.get(_COUNT_ORIGINAL))
        received_bytes, received_packets = _counts(data, parts.get(_COUNT_REPLY))
        return Entry(
            *tuples, bool(status & _SEEN_REPLY),
            sent_bytes, sent_packets, received_bytes, received_packets,
        )  # fmt: skip  # as the record orders it

    def _tuples(self, data: bytes, original: tuple[int, int], reply: tuple[int, int]) -> Tuples:
        key = data[original[0] : original[1]] + data[reply[0] : reply[1]]
        found = self._before.get(key)
        if found is None:
            protocol, source, destination, source_port, port = _tuple(data, *original)
            _, answerer, _, answerer_port, _ = _tuple(data, *reply)
            named = PROTOCOLS.get(protocol, str(protocol))
            found = (named, source, source_port, destination, port, answerer, answerer_port)
        self._now[key] = found
        return found


class Refusals:
    """Connections of this network namespace that ended without an answer since the last call.

    One that is refused leaves the table at once: who tries many ports of a host that refuses
    them would not be seen there.
    Raises: ConntrackUnreadable without CAP_NET_ADMIN.
    """

    def __init__(self) -> None:
        try:
            self._link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            with suppress(OSError):  # a smaller one does too
                self._link.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _WAITING_BYTES)
            self._link.bind((0, _ENDINGS))
        except OSError as problem:
            raise ConntrackUnreadable(problem.errno, f"conntrack: {problem.strerror}") from problem
        self._link.settimeout(0.0)

    def since(self) -> list[Entry]:
        """Those since it was asked before, or since it is there."""
        decoder, found, left = Netlink(), [], MOST_ENDINGS
        while left > 0:
            try:
                data = self._link.recv(_BUFFER)
            except OSError as problem:
                if problem.errno == errno.ENOBUFS:
                    continue  # more came than there was room for: those are lost
                break  # no more for now
            for part in messages(data, _DELETED):
                left -= 1
                entry = decoder.unanswered(part[_FAMILY_BYTES:])
                if entry is not None:
                    found.append(entry)
        return found

    def close(self) -> None:
        self._link.close()


def messages(data: bytes, kind: int) -> Iterator[bytes]:
    """Those of one kind, each without its header."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, told, *_ = _HEADER.unpack_from(data, at)
        if told == kind:
            yield data[at + _HEADER.size : at + length]
        at += max(length, _HEADER.size) + 3 & ~3


def dumped(link: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """What the kernel answers to a request for all there is: each without its header.

    Raises: OSError.
    """
    link.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_DUMP, 1, 0) + body)
    while True:
        data = link.recv(_BUFFER)
        at = 0
        while at + _HEADER.size <= len(data):
            length, told, *_ = _HEADER.unpack_from(data, at)
            if told == _DONE:
                return
            if told == _ERROR:
                number = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                raise OSError(number, os.strerror(number))
            yield data[at + _HEADER.size : at + length]
            at += length + 3 & ~3


def _attributes(data: bytes, at: int, end: int) -> Attributes:
    """Where each attribute's content begins and ends, by type."""
    found: Attributes = {}
    unpack = _ATTRIBUTE.unpack_from
    while at + 4 <= min(end, len(data)):
        length, kind = unpack(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = (at + 4, at + length)
        at += length + 3 & ~3
    return found


def _tuple(data: bytes, start: int, end: int) -> tuple[int, str, str, int, int]:
    """Protocol, source, destination and their ports; ports are 0 where there are none."""
    parts = _attributes(data, start, end)
    address, protocol = _attributes(data, *parts[1]), _attributes(data, *parts[2])
    version = socket.AF_INET if 1 in address else socket.AF_INET6
    first = 1 if version == socket.AF_INET else 3
    source, destination = (
        socket.inet_ntop(version, data[slice(*address[kind])]) for kind in (first, first + 1)
    )
    ports = [
        struct.unpack_from(">H", data, protocol[kind][0])[0] if kind in protocol else 0
        for kind in (2, 3)
    ]
    return data[protocol[1][0]], source, destination, ports[0], ports[1]


def _counts(data: bytes, place: tuple[int, int] | None) -> tuple[int, int]:
    """Bytes and packets; 0 while accounting is off."""
    if place is None:
        return 0, 0
    parts = _attributes(data, *place)
    packets = _U64.unpack_from(data, parts[1][0])[0] if 1 in parts else 0
    octets = _U64.unpack_from(data, parts[2][0])[0] if 2 in parts else 0
    return octets, packets
