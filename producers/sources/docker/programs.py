"""Which programs run, in each container and on the host outside of them.

Looked at once a sample period: a program that starts and ends between two looks is not
seen here (what it sent is: connections outlive it in the kernel's table).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from models.records.facts import Program
from producers.pace import Every
from producers.sources.docker.identity import Known
from producers.sources.docker.layers import unescaped
from producers.sources.docker.secrecy import printable

REFRESH_NS: Final = 60 * 10**9
"""What still runs is told again this often, for those who came later."""
HOST_EVERY: Final = 10
"""The host's own long-lived processes are looked at again every so many looks."""
OUTSIDE: Final = "(outside)"
"""The parent of what was started from outside of the container: by ``docker exec``."""
ENGINE: Final = frozenset({
    "dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v1",
    "containerd-shim-runc-v2", "runc", "crun", "docker-proxy", "docker-init",
})  # fmt: skip  # a list
_HELPERS: Final = frozenset(
    {"xtables-nft-multi", "xtables-legacy-multi", "iptables", "ip6tables", "ip", "kmod"}
)
_CONTAINER: Final = re.compile(r"[0-9a-f]{64}")
_DELETED: Final = " (deleted)"
STRANGER_NS: Final = 10 * 10**9
"""So long a process in a container that we don't know may become known; then it is taken for
one of the host's, such as those of another engine."""
RUNTIME_NS: Final = 5 * 10**9
"""So long a process may be the runtime on its way into a container; a busy host takes seconds."""
_KERNEL: Final = "\0kernel"
_NOBODY: Final = str(2**32 - 1)
"""The login of what nobody has logged in for."""
_CHUNK: Final = 1 << 20


@dataclass(slots=True)
class Process:
    """``subject`` is empty until we know whose it is, ``executable`` what it is."""

    seen_ns: int
    subject: str = ""
    executable: str = ""

    def younger_than(self, span_ns: int, now_ns: int) -> bool:
        """A clock that was set back makes it old: nothing waits for a time to come again."""
        return 0 <= now_ns - self.seen_ns < span_ns


class Programs:
    """Tells what is new since the last look: a program, or a parent that starts it."""

    def __init__(self, root: Path, host_subject: str, hash_most_bytes: int) -> None:
        self._proc = f"{root / 'proc'}"
        self._root = root
        self._host = host_subject
        self._hash_most = hash_most_bytes
        self._processes: dict[int, Process] = {}
        self._told: dict[str, set[tuple[str, str, bool | None, str]]] = {}
        self._refresh = Every(REFRESH_NS)
        self._looks = 0

    def look(self, now_ns: int, known: Mapping[str, Known]) -> Iterator[tuple[str, Program]]:
        """Programs of each subject that it was not told to run, or not for a minute."""
        self._age(now_ns, known)
        present = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208  # the fastest
        for pid in self._processes.keys() - present:
            del self._processes[pid]
        for pid in present - self._processes.keys():
            self._processes[pid] = Process(now_ns)
        for pid, process in self._processes.items():
            if not process.subject:
                young = process.younger_than(STRANGER_NS, now_ns)
                process.subject = self._subject(pid, known, wait=young)
        also_host = self._looks % HOST_EVERY == 0
        self._looks += 1
        for pid, process in self._processes.items():
            if process.executable and not also_host and process.subject == self._host:
                continue
            if process.subject and process.executable != _KERNEL:
                yield from self._look_at(pid, process, known, now_ns)

    def counts(self) -> int:
        """Processes that are no kernel threads, on the whole host."""
        return sum(process.executable != _KERNEL for process in self._processes.values())

    def _age(self, now_ns: int, known: Mapping[str, Known]) -> None:
        if self._refresh.due(now_ns):
            self._told.clear()
            for process in self._processes.values():
                process.executable = process.executable if process.executable == _KERNEL else ""
        for subject in self._told.keys() - known.keys() - {self._host}:
            del self._told[subject]

    def _look_at(
        self, pid: int, process: Process, known: Mapping[str, Known], now_ns: int
    ) -> Iterator[tuple[str, Program]]:
        executable = self._executable(pid)
        if not executable:
            self._unreadable(pid, process)
            return
        if executable == process.executable:
            return
        if process.younger_than(RUNTIME_NS, now_ns) and self._is_runtime(pid, executable, known):
            return
        subject = self._subject(pid, known)  # the number may be another's by now
        if self._executable(pid) == executable:
            process.subject = subject
        elif process.seen_ns != now_ns:
            return
        container = known.get(process.subject)
        parent = self._parent(pid, process.subject, container)
        in_image = self._in_image(pid, executable, container) if container else None
        proves = in_image is False and not _nameless(executable)
        if not proves and self._executable(pid) != executable:
            return  # it has ended: whose it was, and who started it, the kernel no longer tells
        process.executable = executable
        if container is None and _at_work(executable, parent):
            return
        yield from self._tell(pid, process, parent, in_image)

    def _unreadable(self, pid: int, process: Process) -> None:
        """Kernel threads have no executable; a process that just ended is gone next time."""
        if process.executable:
            return
        try:
            with open(f"{self._proc}/{pid}/cmdline", "rb") as file:  # noqa: PTH123  # the fastest
                empty = not file.read(1)
        except OSError:
            return
        if empty and "kthreadd" in (self._status(pid, "Name"), self._name_of_parent(pid)):
            process.executable = _KERNEL

    def _name_of_parent(self, pid: int) -> str:
        parent = self._status(pid, "PPid")
        return self._status(int(parent), "Name") if parent.isdigit() and parent != "0" else ""

    def _is_runtime(self, pid: int, executable: str, known: Mapping[str, Known]) -> bool:
        """Whether it is ``runc`` between entering a container and becoming its program. It calls
        itself so, was started from outside, and runs from its file on the host, from a copy in
        memory, or, as the kernel tells a file whose mount is gone again, from ``/``.
        """
        nameless = _nameless(executable)
        if not nameless and "runc" not in executable:
            return False
        name = self._status(pid, "Name")
        if self._executable(pid) not in ("", executable):
            return True  # it has become its program meanwhile, and is told at the next look
        container = known.get(subject := self._subject(pid, known))
        if container is None:
            return name.startswith("runc" if nameless else "runc:[")
        return name.startswith("runc") and self._parent(pid, subject, container) in ("", OUTSIDE)

    def _tell(
        self, pid: int, process: Process, parent: str, in_image: bool | None
    ) -> Iterator[tuple[str, Program]]:
        executable = process.executable
        if in_image is not False:  # one that was replaced meanwhile is no other program
            executable = executable.removesuffix(_DELETED)
        told = self._told.setdefault(process.subject, set())
        login = self._login(pid) if process.subject == self._host else ""
        key = (executable, parent, in_image, login)
        if key in told:
            return
        told.add(key)
        yield (
            process.subject,
            Program(
                executable=printable(executable, 4096),
                in_image=in_image,
                parent=printable(parent, 4096) if parent else "",
                user=self._user(pid),
                pid=pid,
                sha256=self._hash(pid) if in_image is False else "",
                login=login,
            ),
        )

    def _subject(self, pid: int, known: Mapping[str, Known], *, wait: bool = False) -> str:
        """Whose it is. A process may be there before the engine has told us of its container:
        to ``wait`` for that is to return nothing.
        """
        try:
            with self._opened(pid, "cgroup") as file:
                found = _CONTAINER.findall(file.read())
        except OSError:
            return self._host
        # Nested engines put ids within ids: the outermost one is a container of ours.
        return next((one for one in found if one in known), "" if found and wait else self._host)

    def _parent(self, pid: int, subject: str, container: Known | None) -> str:
        """The executable of what started it; empty for a container's first process, which is
        number 1 to those inside. The engine tells its number too, a moment later.
        """
        if container is not None:
            numbers = self._status(pid, "NSpid").split()
            if pid == container.pid or numbers[1:2] == ["1"]:
                return ""
        number = self._status(pid, "PPid")
        if not number.isdigit():
            return ""  # it has ended
        parent = self._processes.get(int(number))
        if parent is None or parent.subject != subject:
            return OUTSIDE if container is not None else ""
        # One as new as its child was not looked at yet.
        executable = parent.executable or self._executable(int(number))
        return "" if executable == _KERNEL else executable.removesuffix(_DELETED)

    def _executable(self, pid: int) -> str:
        """Empty where it can't be told, as of kernel threads."""
        try:
            return os.readlink(f"{self._proc}/{pid}/exe")  # noqa: PTH115  # the fastest
        except OSError:
            return ""

    def _user(self, pid: int) -> str:
        uid = self._status(pid, "Uid").split("\t")[0]
        return "root" if uid == "0" else uid

    def _login(self, pid: int) -> str:
        """Who has logged in and runs it at a terminal, as the kernel's audit has it; empty for
        services and all that they start, a job of cron's among it.
        """
        try:
            with self._opened(pid, "loginuid") as file:
                uid = file.read().strip()
            with self._opened(pid, "stat") as file:
                terminal = file.read().rpartition(")")[2].split()[4]
        except (OSError, IndexError):
            return ""  # it has ended, or the kernel keeps no audit
        if terminal == "0" or uid in ("", _NOBODY):
            return ""
        return "root" if uid == "0" else uid

    def _opened(self, pid: int, name: str) -> TextIO:
        """Whoever is watched chooses what it calls itself and its mounts: any bytes."""
        return open(f"{self._proc}/{pid}/{name}", errors="surrogateescape")  # noqa: PTH123  # the fastest

    def _status(self, pid: int, field: str) -> str:
        try:
            with self._opened(pid, "status") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name == field:
                        return value.strip()
        except OSError:
            pass
        return ""

    def _in_image(self, pid: int, executable: str, container: Known) -> bool | None:
        """Whether the image brought it: it lies in a read-only layer, and the writable one
        holds nothing else in its place; one that was replaced while it runs still is what it
        was. None on a volume, which is no part of either, and where nobody can tell: a process
        that changed its root sees no mount of that path.
        """
        if executable.startswith("/memfd:"):
            return False
        path, deleted = executable.removesuffix(_DELETED), executable.endswith(_DELETED)
        mount, kind = self._mount_of(pid, path)
        if mount not in (None, "/"):
            return False if kind == "tmpfs" else None
        inside = path.lstrip("/")
        lowers = [self._below(lower) / inside for lower in container.lowers]
        if deleted:
            ours = self._hash(pid)
            unknown = not ours and mount is None  # it has ended
            return None if unknown else ours in filter(None, map(self._hash_of, lowers))
        if container.upper is None:
            return None
        upper = self._below(container.upper) / inside
        if not os.path.lexists(upper):
            return True if mount == "/" else None
        return any(self._same(upper, lower) for lower in lowers)

    def _below(self, path: Path) -> Path:
        return self._root / path.relative_to("/")

    def _mount_of(self, pid: int, path: str) -> tuple[str | None, str]:
        """The mount point (in the container) that holds a path, and its kind."""
        best, kind = None, ""
        try:
            with self._opened(pid, "mountinfo") as file:
                for line in file:
                    fields, _, tail = line.partition(" - ")
                    point = unescaped(fields.split(" ")[4])
                    inside = path == point or path.startswith(point.rstrip("/") + "/")
                    if inside and len(point) >= len(best or ""):
                        best, kind = point, tail.split(" ")[0]
        except OSError:
            return None, ""
        return best, kind

    def _same(self, upper: Path, lower: Path) -> bool:
        """A file that was only touched, or made executable, is still the image's own."""
        try:
            ours, theirs = upper.lstat(), lower.lstat()
            if ours.st_size != theirs.st_size or ours.st_size > self._hash_most:
                return False
            return sha256_of(str(upper)) == sha256_of(str(lower))
        except OSError:
            return False

    def _hash_of(self, file: Path) -> str:
        """Empty for what is no file, too large, or not there."""
        try:
            small = file.lstat().st_size <= self._hash_most
            return sha256_of(str(file)) if small else ""
        except OSError:
            return ""

    def _hash(self, pid: int) -> str:
        """Of what runs, even where its file is deleted by now."""
        path = f"{self._proc}/{pid}/exe"
        try:
            if os.stat(path).st_size > self._hash_most:  # noqa: PTH116  # follows the magic link
                return ""
            return sha256_of(path, follow=True)
        except OSError:
            return ""


def _nameless(executable: str) -> bool:
    """Whether it runs from no file that has a name: the runtime does for a moment, too."""
    return executable == "/" or executable.startswith("/memfd:")


def _at_work(executable: str, parent: str) -> bool:
    """Whether it is what the engine starts on the host for each container that comes and goes:
    so briefly that a look meets one now and then, and hardly while the host is learned.
    """
    folder, _, name = executable.rpartition("/")
    _, _, starter = parent.rpartition("/")
    ours = name in ENGINE or name in _HELPERS
    return ours and folder.startswith("/usr/") and starter in ENGINE


def sha256_of(path: str, *, follow: bool = False, folder: int | None = None) -> str:
    """The hash of a regular file's content. Raises: OSError for anything else."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with open(os.open(path, flags, dir_fd=folder), "rb", buffering=0) as file:  # noqa: PTH123  # a file descriptor
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()
