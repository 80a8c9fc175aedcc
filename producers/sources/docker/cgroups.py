"""A container's counters from cgroup files, version 1 and 2, without asking the engine.

Files stay open: reading one anew takes a tenth of opening it, and a cgroup can be removed
while its files are open.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from producers.sources.docker.readings import NAN, Reading

MOST: Final = 65_536
V1_CONTROLLERS: Final = ("cpuacct", "cpu", "memory", "blkio", "pids")


class Cgroups:
    """Where cgroups are mounted, and which a process is in. ``root`` is the host's ``/``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        base = root / "sys/fs/cgroup"
        self.version = 2 if (base / "cgroup.controllers").exists() else 1
        self.readable = self.version == 2 or (base / "memory").is_dir()
        self._base = base

    def files_of(self, pid: int, container: str) -> Files | None:
        """The counters of that process's cgroup; None where they can't be read.

        Raises: nothing; a process that is gone is None as well.
        """
        try:
            told = (self._root / f"proc/{pid}/cgroup").read_text(errors="surrogateescape")
        except OSError:
            return None
        folders = self._folders(told, container)
        if folders is None:
            return None
        return FilesV2(folders["cpu"]) if self.version == 2 else FilesV1(folders)

    def _folders(self, told: str, container: str) -> dict[str, Path] | None:
        """Each controller's folder for the process that said so in ``/proc/PID/cgroup``."""
        paths: dict[str, str] = {}
        for line in told.splitlines():
            _, controllers, path = line.split(":", 2)
            for name in controllers.split(","):
                paths[name] = path
        wanted = {"cpu": ""} if self.version == 2 else {name: name for name in V1_CONTROLLERS}
        found: dict[str, Path] = {}
        for name, mount in wanted.items():
            place = self._place(self._base / mount, paths.get(mount, ""), container)
            if place is None:
                return None
            found[name] = place
        return found

    def _place(self, mount: Path, path: str, container: str) -> Path | None:
        """Seen from a cgroup namespace of our own the path may not lead there; the names
        that engines give do.
        """
        tries = (path.lstrip("/"), f"docker/{container}", f"system.slice/docker-{container}.scope")
        for one in tries:
            if one and ".." not in one and (mount / one).is_dir():
                return mount / one
        return None


class Files:
    """Open files of one cgroup."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._open = [_opened(path) for path in paths]

    def read(self, at_ns: int) -> Reading:
        """What the counters say. NaN where a file is missing, or the cgroup is gone."""
        raise NotImplementedError

    def close(self) -> None:
        for file in self._open:
            if file >= 0:
                os.close(file)
        self._open = [-1] * len(self._open)


class FilesV1(Files):
    def __init__(self, folders: dict[str, Path]) -> None:
        blkio = folders["blkio"] / "blkio.throttle.io_service_bytes_recursive"
        super().__init__((
            folders["cpuacct"] / "cpuacct.usage",
            folders["cpu"] / "cpu.stat",
            folders["memory"] / "memory.usage_in_bytes",
            folders["memory"] / "memory.stat",
            blkio if blkio.exists() else folders["blkio"] / "blkio.throttle.io_service_bytes",
            folders["pids"] / "pids.current",
        ))  # fmt: skip  # a list of files

    def read(self, at_ns: int) -> Reading:
        usage, cpu, memory, stat, io, pids = map(_read, self._open)
        # total_cache counts shared memory too, which nothing can give back
        cache = _field(stat, b"total_cache ") - _field(stat, b"total_shmem ")
        return Reading(
            at_ns,
            cpu_ns=_number(usage),
            periods=_field(cpu, b"nr_periods "),
            throttled_periods=_field(cpu, b"nr_throttled "),
            memory_bytes=max(_number(memory) - cache, 0.0),
            read_bytes=_summed(io, b" Read "),
            write_bytes=_summed(io, b" Write "),
            tasks=_number(pids),
        )


class FilesV2(Files):
    def __init__(self, folder: Path) -> None:
        names = ("cpu.stat", "memory.current", "memory.stat", "io.stat", "pids.current")
        super().__init__(folder / name for name in names)

    def read(self, at_ns: int) -> Reading:
        cpu, memory, stat, io, pids = map(_read, self._open)
        cache = _field(stat, b"file ") - _field(stat, b"shmem ")
        slab = _field(stat, b"slab_reclaimable ")
        return Reading(
            at_ns,
            cpu_ns=_field(cpu, b"usage_usec ") * 1000.0,
            periods=_field(cpu, b"nr_periods ", 0.0),
            throttled_periods=_field(cpu, b"nr_throttled ", 0.0),
            memory_bytes=max(_number(memory) - cache - slab, 0.0),
            read_bytes=_summed(io, b" rbytes="),
            write_bytes=_summed(io, b" wbytes="),
            tasks=_number(pids),
        )


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _read(file: int) -> bytes | None:
    """The file anew from its beginning; None without one."""
    if file >= 0:
        with suppress(OSError):  # the cgroup is gone
            return os.pread(file, MOST, 0)
    return None


def _number(text: bytes | None) -> float:
    try:
        return float(text) if text else NAN
    except ValueError:  # "max"
        return NAN


def _field(text: bytes | None, name: bytes, otherwise: float = NAN) -> float:
    """The number behind a name at the beginning of a line."""
    if text is None:
        return NAN
    at = 0 if text.startswith(name) else text.find(b"\n" + name) + 1
    if not at and not text.startswith(name):
        return otherwise
    end = text.find(b"\n", at)
    return _number(text[at + len(name) : end if end >= 0 else len(text)])


def _summed(text: bytes | None, name: bytes) -> float:
    """All numbers behind a name, one a device; 0 where no device was touched yet."""
    if text is None:
        return NAN
    total = 0.0
    for part in text.split(name)[1:]:
        total += _number(part.split(None, 1)[0] if part.strip() else None)
    return total
