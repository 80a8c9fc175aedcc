"""The host itself: its identity, its figures, its addresses."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from models.contract import HOST_PREFIX
from models.records.facts import Interface
from models.records.inventory import InventoryEntry
from producers.sources.docker.identity import Here
from producers.sources.docker.interfaces import NetworkFile
from producers.sources.docker.readings import NAN, Reading
from producers.sources.docker.secrecy import printable

SECTOR_BYTES: Final = 512
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_BUSY: Final = (1, 2, 3, 6, 7, 8)
"""user, nice, system, irq, softirq and steal in the first line of /proc/stat."""


def machine_id(root: Path) -> str:
    """Names the machine for as long as its system disk lives; never secret on its own.

    Where there is no such file, a hash of the host's name stands for it.
    """
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            found = (root / name).read_text().strip()
        except OSError:
            continue
        if _MACHINE_ID.fullmatch(found):  # before its first boot an image says "uninitialized"
            return found
    return hashlib.sha256(hostname(root).encode()).hexdigest()[:32]


def hostname(root: Path) -> str:
    try:
        told = (root / "proc/sys/kernel/hostname").read_text(errors="replace").strip()
        return printable(told or platform.node(), 255)
    except OSError:
        return platform.node()


class Host:
    """Reads the host's own counters."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._network = NetworkFile(root / "proc/1/net/dev", self._is_physical)
        self._physical: dict[str, bool] = {}
        self._disks: dict[str, bool] = {}
        self.memory_total_bytes = self._memory()[0]

    def read(self, at_ns: int, processes: float) -> Reading:
        """The host at this time; what can't be read is NaN."""
        total, available = self._memory()
        read, written = self._disk()
        reading = Reading(
            at_ns, cpu_ns=self._cpu_ns(), memory_bytes=total - available,
            read_bytes=read, write_bytes=written, tasks=processes,
        )  # fmt: skip  # as the record orders it
        self._network.fill(reading)
        return reading

    def interfaces(self) -> Iterable[Interface]:
        """What went through each physical one since the reading before."""
        return self._network.moved()

    def entry(self, here: Here, pool: str, now_ns: int) -> InventoryEntry:
        lineage = f"{HOST_PREFIX}{pool}"
        return InventoryEntry(
            scope=here.scope, subject=f"{HOST_PREFIX}{here.host}", host=here.host,
            image=lineage, lineage=lineage, name=hostname(self._root),
            started_ns=self._booted_ns(), seen_ns=now_ns, addresses=tuple(sorted(addresses())),
            memory_limit_bytes=0 if math.isnan(total := self.memory_total_bytes) else int(total),
            cpu_limit_cores=float(os.cpu_count() or 0),
        )  # fmt: skip  # as the record orders it

    def close(self) -> None:
        self._network.close()

    def _cpu_ns(self) -> float:
        fields = self._lines("proc/stat")[:1]
        if not fields:
            return NAN
        values = fields[0].split()
        return sum(int(values[at]) for at in _BUSY) * 1e9 / self._ticks

    def _memory(self) -> tuple[float, float]:
        """Total and available, in bytes; what is available counts caches as free."""
        found = {"MemTotal": NAN, "MemAvailable": NAN}
        for line in self._lines("proc/meminfo")[:5]:
            name, _, value = line.partition(":")
            if name in found:
                found[name] = float(value.split()[0]) * 1024
        return found["MemTotal"], found["MemAvailable"]

    def _disk(self) -> tuple[float, float]:
        """Bytes read and written by whole disks; partitions and mappings count twice."""
        lines = self._lines("proc/diskstats")
        if not lines:
            return NAN, NAN
        read = written = 0
        for line in lines:
            fields = line.split()
            if self._is_disk(fields[2]):
                read += int(fields[5]) * SECTOR_BYTES
                written += int(fields[9]) * SECTOR_BYTES
        return float(read), float(written)

    def _booted_ns(self) -> int:
        for line in self._lines("proc/stat"):
            if line.startswith("btime "):
                return int(line.split()[1]) * 10**9
        return 0

    def _is_physical(self, name: str) -> bool:
        if name not in self._physical:
            self._physical[name] = (self._root / f"sys/class/net/{name}/device").exists()
        return self._physical[name]

    def _is_disk(self, name: str) -> bool:
        if name not in self._disks:
            self._disks[name] = (self._root / f"sys/block/{name}/device").exists()
        return self._disks[name]

    def _lines(self, name: str) -> list[str]:
        try:
            return (self._root / name).read_text(errors="replace").splitlines()
        except OSError:
            return []


def addresses() -> Iterator[str]:
    """The addresses of this network namespace's interfaces, without loopback."""
    yield from _addresses_v4()
    yield from _addresses_v6()


def _addresses_v4() -> Iterator[str]:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # SIOCGIFADDR: an interface without an address
            address = socket.inet_ntoa(found[20:24])
            if not address.startswith("127."):
                yield address


def _addresses_v6() -> Iterator[str]:
    try:
        lines = Path("/proc/net/if_inet6").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
        if address != "::1":
            yield address
