"""What differs in a container's writable layer from its image, read from the overlay.

The engine's own ``diff`` compares size and modification time only: a program replaced with
both kept stays unseen. ctime, which nobody can set, and the hash show it. A look costs a
bounded number of entries and bytes; what is left goes on with the next.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.records.facts import Change, Coverage, Fact, FileChange
from producers.sources.docker.identity import Known
from producers.sources.docker.programs import sha256_of
from producers.sources.docker.secrecy import printable

ENTRIES_A_LOOK: Final = 2_000
BYTES_A_LOOK: Final = 32 << 20
MOST_ENTRIES: Final = 20_000
"""Of one container; beyond it the rest is passed over, and that is told."""
DEEPEST: Final = 40
QUIET_NS: Final = 600 * 10**9
"""A file that only holds data and changes again and again is told this often."""
DATA_MOST_BYTES: Final = 1 << 20
"""Data files are hashed up to this size: logs grow, and say nothing."""
THE_ENGINES: Final = frozenset(
    {"dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
    | {".dockerenv", "sbin/docker-init", "run/.containerenv"}
)
"""What the engine itself puts into every layer."""
_OPAQUE: Final = ("trusted.overlay.opaque", "user.overlay.opaque")

Signature = tuple[int, int, int, int, int]
"""Inode, mode, size, mtime and ctime: whatever is done to a file, one of them moves."""


@dataclass(slots=True)
class Told:
    signature: Signature
    sha256: str
    told_ns: int


class Files:
    """The writable layers of all containers, walked in turn."""

    def __init__(self, root: Path, interval_s: float, hash_most_bytes: int) -> None:
        self._root, self._hash_most = root, hash_most_bytes
        self._interval_ns = round(interval_s * 1e9)
        self._layers: dict[str, Layer] = {}
        self._looked_ns = 0

    def look(self, now_ns: int, known: dict[str, Known]) -> Iterator[tuple[str, Fact]]:
        """What is new since it was last looked at, of as many as the budget reaches."""
        for subject in self._layers.keys() - known.keys():
            del self._layers[subject]
        for subject, container in known.items():
            if subject not in self._layers and container.upper is not None:
                self._layers[subject] = Layer(self._root, container, self._hash_most)
        if now_ns < self._looked_ns:  # the clock was set back: what was due then is due now
            for layer in self._layers.values():
                layer.due_ns = 0
        self._looked_ns = now_ns
        budget = Budget(ENTRIES_A_LOOK, BYTES_A_LOOK)
        for subject, layer in sorted(self._layers.items(), key=lambda pair: pair[1].due_ns):
            if layer.due_ns > now_ns or budget.spent:
                return
            for fact in layer.look(now_ns, budget):
                yield subject, fact
            if layer.finished:
                layer.due_ns = now_ns + self._interval_ns


@dataclass(slots=True)
class Budget:
    entries: int
    octets: int

    @property
    def spent(self) -> bool:
        return self.entries <= 0 or self.octets <= 0


class Layer:
    """One container's writable layer, and what was told of it."""

    def __init__(self, root: Path, container: Known, hash_most_bytes: int) -> None:
        assert container.upper is not None, "only those that have one"
        self.due_ns = 0
        self._upper = root / container.upper.relative_to("/")
        self._lowers = [root / lower.relative_to("/") for lower in container.lowers]
        self._passed = THE_ENGINES | {path.strip("/") for path in container.mounted}
        self._hash_most = hash_most_bytes
        self._told: dict[str, Told] = {}
        self._walk: Iterator[FileChange | None] | None = None
        self._seen: set[str] = set()
        self._left_out = 0
        self._left_out_told = False
        self._budget, self._now_ns = Budget(0, 0), 0

    @property
    def finished(self) -> bool:
        return self._walk is None

    def look(self, now_ns: int, budget: Budget) -> Iterator[Fact]:
        """Go on where the last look stopped."""
        if self._walk is None:
            self._seen, self._left_out = set(), 0
            self._walk = self._walked()
        self._budget, self._now_ns = budget, now_ns
        for change in self._walk:
            if change is not None:
                yield change
            if budget.spent:
                return
        self._walk = None
        yield from self._vanished()
        if self._left_out and not self._left_out_told:
            self._left_out_told = True
            yield Coverage("files-not-seen", f"more than {MOST_ENTRIES} changed files, or deeper "
                           f"than {DEEPEST} folders", self._left_out)  # fmt: skip  # two lines

    def _walked(self) -> Iterator[FileChange | None]:
        """Every entry of the layer: a change to tell, or None. Links are not followed, nor
        can a folder that becomes a link lead us out: each is opened from the one above.
        """
        try:
            top = os.open(self._upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return  # removed, with its container
        yield from self._folder(top, "", 0)

    def _folder(self, folder: int, path: str, depth: int) -> Iterator[FileChange | None]:
        """The entries of an open folder, which is closed at the end."""
        below: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    inside = f"{path}{entry.name}"
                    if inside in self._passed:
                        continue
                    self._budget.entries -= 1
                    with suppress(OSError):  # gone since it was listed
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(found.st_mode):
                            below.append(entry.name)
                            yield self._opaque(folder, entry.name, inside, found)
                        else:
                            yield self._file(folder, entry.name, inside, found)
            for name in below:
                yield from self._below(folder, name, f"{path}{name}/", depth + 1)
        finally:
            os.close(folder)

    def _below(self, folder: int, name: str, path: str, depth: int) -> Iterator[FileChange | None]:
        if depth > DEEPEST:
            self._left_out += 1
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, dir_fd=folder)
        except OSError:
            return
        yield from self._folder(opened, path, depth)

    def _file(self, folder: int, name: str, path: str, found: os.stat_result) -> FileChange | None:
        if len(self._seen) >= MOST_ENTRIES and path not in self._told:
            self._left_out += 1
            return None
        self._seen.add(path)
        signature = _signature(found)
        old = self._told.get(path)
        if old is not None and old.signature == signature:
            return None
        executable = _runs(found)
        if old is not None and not executable and 0 <= self._now_ns - old.told_ns < QUIET_NS:
            return None
        digest = self._digest(folder, name, found, executable=executable)
        self._told[path] = Told(signature, digest, self._now_ns)
        return FileChange(
            printable(f"/{_text(path)}", 4096), self._kind(path, found, old), executable,
            found.st_size, found.st_ctime_ns, digest,
        )  # fmt: skip  # as the record orders it

    def _kind(self, path: str, found: os.stat_result, old: Told | None) -> Change:
        if _is_whiteout(found):
            return Change.DELETED
        return Change.CHANGED if old is not None or self._in_lower(path) else Change.ADDED

    def _opaque(
        self, folder: int, name: str, path: str, found: os.stat_result
    ) -> FileChange | None:
        """A folder of the image that was deleted as a whole and made anew."""
        if path in self._told:
            self._seen.add(path)
            return None
        if not self._in_lower(path) or not _has_opaque(folder, name):
            return None
        self._seen.add(path)
        self._told[path] = Told(_signature(found), "", self._now_ns)
        told = printable(f"/{_text(path)}", 4096)
        return FileChange(told, Change.DELETED, changed_ns=found.st_ctime_ns)

    def _in_lower(self, path: str) -> bool:
        """Whether the image has it. A whiteout in an upper one of its layers hides it."""
        for lower in self._lowers:
            with suppress(OSError):
                return not _is_whiteout((lower / path).lstat())
        return False

    def _digest(self, folder: int, name: str, found: os.stat_result, *, executable: bool) -> str:
        most = self._hash_most if executable else min(self._hash_most, DATA_MOST_BYTES)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return ""
        self._budget.octets -= found.st_size
        try:
            return sha256_of(name, folder=folder)
        except OSError:
            return ""

    def _vanished(self) -> Iterator[FileChange]:
        """What the container had added, and removed again."""
        for path in self._told.keys() - self._seen:
            del self._told[path]
            told = printable(f"/{_text(path)}", 4096)
            yield FileChange(told, Change.DELETED, changed_ns=self._now_ns)


def _signature(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _runs(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o111)


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _has_opaque(folder: int, name: str) -> bool:
    for attribute in _OPAQUE:
        with suppress(OSError):
            where = f"/proc/self/fd/{folder}/{name}"
            return os.getxattr(where, attribute, follow_symlinks=False) == b"y"
    return False


def _text(path: str) -> str:
    """Names of any bytes as text that can be sent."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
