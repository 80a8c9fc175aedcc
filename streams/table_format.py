"""How a group lies in the table: rows of their own, and a marker that holds the small ones.

Numbers are big-endian. Markers of format 1 hold no rows and no time; those of format 2 hold
rows that were packed without :data:`WORDS`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.errors import MalformedRecord

FORMAT: Final = 1
HOLDING: Final = 2
"""A marker that holds rows, and says when the group is due."""
PRIMED: Final = 3
"""The same, its rows packed by somebody who has read :data:`WORDS`."""
WORDS: Final = (
    b'"condemned":"dismissed":"shadows":"level":"said_ns":"said":"silent":"held_ns":"past_ns":'
    b'"recents":[],"waits":true,"lesson":"before":"facts":"environment ":["5333d27cc18a"],'
    b'"starts":{"command":["entrypoint":["f48212d320c4"],"mounts":["f48212d320c4"],'
    b'"capabilities_added":["f48212d320c4"],"capabilities_dropped":["f48212d320c4"],"privileged":'
    b'["99820a9c5f08"],"user":["e0056144ae1e"],"read_only_root":["99820a9c5f08"],"network_mode":'
    b'["e0056144ae1e"],"pid_mode":["e0056144ae1e"],"security_options":["f48212d320c4"],"devices":'
    b'["f48212d320c4"],"environment HOST":["8a9562b236a8"]},"pending":[[,"seen":[["prog / < ",'
    b'["mate @",["peer ",["port /tcp",["in *:",true],"who":[["host-","cases":{}},{"v":1,'
    b'"features":["cpu_cores","cpu_throttled_ratio","memory_working_set_bytes",'
    b'"memory_limit_ratio","disk_read_bytes_per_s","disk_write_bytes_per_s",'
    b'"network_receive_bytes_per_s","network_transmit_bytes_per_s",'
    b'"network_receive_packets_per_s","network_transmit_packets_per_s",'
    b'"network_connections_opened_per_s","network_peers","processes",'
    b'"network_transmit_bytes_per_packet","network_transmit_bytes_per_received"],"arrays":'
    b'[["<f4",[7,15]],["<f4",[2,6,15]],["<f4",[3,120]]],"name":"@sha256:","first_ns":'
    b'00000000,"line":6.0,"container_blocks":,"tail":{"high":,"excess":0.5,"blocks":},"lift":'
    b'{"height":,"ahead":0.0},"rhythm":{},"together":,"arrays":[["<f8",[1,9,15]],["<i8",[2,1]],'
    b'["<f8",[3,1]],["<f4",[1,6,15]],["<f8",[1,7]]],"arrays":[["<f8",[1,3,15]]],"due_ns":'
    b'"scope":"default","lineage":"","role":"","now_ns":,"block_ns":,"minute_ns":,"interval_s":'
    b'1.0,"window_ns":0,"told":0,"suppressed":0,"images":[],"cases":[],"fresh":[],"trials":'
    b'{"in":"mate":"peer":"port":"prog":},"singles":{},"lost":{},"total":,"learned_ns":,'
    b'"minutes":{"":[,]},"onsets":{"":[,,,-0.0,0.0]}}'
)
"""What small rows hold anyway, the likeliest last: a fifth less to keep of each group. It never
changes: who reads a marker needs the very words that it was packed with.
"""
_ROW: Final = struct.Struct(">BQQI")  # format, version, previous version, length of the body
_MARKER: Final = struct.Struct(">BQBH")  # format, version, sources, rows
_SOURCE: Final = struct.Struct(">BQ")  # index, offset
_WANTED: Final = struct.Struct(">BQ")  # length of the name, version; the name follows
_DUE: Final = struct.Struct(">Q")  # after a marker's head, from format 2 on
_HELD: Final = struct.Struct(">BI")  # length of the name, of the body; both follow
_FASTEST: Final = 1
_NOT_AT_ALL: Final = 0
_PACKED: Final = 16 << 10
"""Rows of more than this are held as they are: they are numbers by then, of which packing saves
two fifths and takes twice as long as to write the state down.
"""


@dataclass(frozen=True, slots=True)
class Body:
    """One row as it lies in the table; ``previous_version`` 0 stands for none."""

    version: int
    current: bytes
    previous_version: int = 0
    previous: bytes = b""

    def at(self, version: int) -> bytes | None:
        """The body of that version, None when the row holds it no more."""
        if version == self.version:
            return self.current
        return self.previous if version and version == self.previous_version else None

    def encode(self) -> bytes:
        head = _ROW.pack(FORMAT, self.version, self.previous_version, len(self.current))
        return head + self.current + self.previous

    @classmethod
    def decode(cls, value: bytes) -> Body:
        _check(value, _ROW.size, FORMAT)
        _format, version, previous_version, length = _ROW.unpack_from(value)
        at = _ROW.size + length
        return cls(version, value[_ROW.size : at], previous_version, value[at:])


@dataclass(frozen=True, slots=True)
class Marker:
    """Which version of each row counts, and the last offset applied of each source.

    ``held`` are the rows that lie in the marker itself, packed; ``due_ns``: no tick before
    it concerns the group. ``primed``: packed with :data:`WORDS`.
    """

    version: int
    offsets: Mapping[int, int]
    wanted: Mapping[str, int]
    due_ns: int = 0
    held: bytes = b""
    primed: bool = True

    def encode(self) -> bytes:
        holding = bool(self.held or self.due_ns)
        form = FORMAT if not holding else PRIMED if self.primed else HOLDING
        head = form, self.version, len(self.offsets), len(self.wanted)
        parts = [_MARKER.pack(*head)]
        parts += [_DUE.pack(self.due_ns)] if holding else []
        parts += [_SOURCE.pack(source, self.offsets[source]) for source in sorted(self.offsets)]
        for name in sorted(self.wanted):
            parts += [_WANTED.pack(len(name.encode()), self.wanted[name]), name.encode()]
        return b"".join([*parts, self.held])

    @classmethod
    def decode(cls, value: bytes) -> Marker:
        """Raises: MalformedRecord, and nothing else."""
        _check(value, _MARKER.size, PRIMED)
        try:
            return cls._decoded(value)
        except (struct.error, UnicodeDecodeError) as problem:
            raise MalformedRecord("undecodable", f"a marker that is cut ({problem})") from problem

    @classmethod
    def _decoded(cls, value: bytes) -> Marker:
        form, version, sources, rows = _MARKER.unpack_from(value)
        at, offsets, wanted = _MARKER.size, {}, {}
        due_ns = due_of(value)
        at += _DUE.size if form != FORMAT else 0
        for _ in range(sources):
            source, offset = _SOURCE.unpack_from(value, at)
            offsets[source], at = offset, at + _SOURCE.size
        for _ in range(rows):
            length, row_version = _WANTED.unpack_from(value, at)
            at += _WANTED.size
            wanted[value[at : at + length].decode()] = row_version
            at += length
        return cls(version, offsets, wanted, due_ns, value[at:], form != HOLDING)

    def rows(self) -> dict[str, bytes]:
        """The rows that it holds. Raises: MalformedRecord when they can't be read."""
        if not self.held:
            return {}
        try:
            unpacking = zlib.decompressobj(zdict=WORDS) if self.primed else zlib.decompressobj()
            whole, at, rows = unpacking.decompress(self.held), 0, {}
            if not unpacking.eof:
                raise MalformedRecord("undecodable", "rows that a marker holds are cut")
            while at < len(whole):
                named, length = _HELD.unpack_from(whole, at)
                at += _HELD.size + named
                rows[whole[at - named : at].decode()] = whole[at : at + length]
                at += length
        except (zlib.error, struct.error, UnicodeDecodeError) as bad:
            raise MalformedRecord("undecodable", f"rows that a marker holds: {bad}") from bad
        return rows


def held(rows: Mapping[str, bytes]) -> bytes:
    """Rows as a marker holds them."""
    parts = []
    for name, body in rows.items():
        parts += [_HELD.pack(len(name.encode()), len(body)), name.encode(), body]
    if not parts:
        return b""
    whole = b"".join(parts)
    packing = zlib.compressobj(_FASTEST if len(whole) <= _PACKED else _NOT_AT_ALL, zdict=WORDS)
    return packing.compress(whole) + packing.flush()


def due_of(marker: bytes) -> int:
    """When a marker says that its group is due; 0, always, where it does not say."""
    if marker[0] not in (HOLDING, PRIMED):
        return 0
    due_ns: int = _DUE.unpack_from(marker, _MARKER.size)[0]
    return due_ns


def version_of(value: bytes) -> int | None:
    """The version of a row or marker; None for another release's."""
    return int.from_bytes(value[1:9]) if value[:1] in (b"\x01", b"\x02", b"\x03") else None


def _check(value: bytes, least_bytes: int, newest: int) -> None:
    if len(value) < least_bytes or not FORMAT <= value[0] <= newest:
        raise MalformedRecord(
            "unknown-schema",
            f"a table row of format {value[:1].hex() or 'none'}, this release reads {newest}: "
            "it was written by a newer release; run that one",
        )
