"""The evidence store: content-addressed files, a folder an incident.

A file is named by its SHA-256, so the same content twice is one file, and a changed file no
longer fits its name. Writing is whole or not at all. What cannot be kept is said, never
raised: losing a piece of evidence must not stop an isolation.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import BrokenChain

MOST_BYTES: Final = 64 << 20
"""The largest piece; memory images need a store of their own."""
INCIDENT_MOST_BYTES: Final = 1 << 30
"""All of one incident, so that an attacker who writes much cannot fill the disk with it."""
SPARE_BYTES: Final = 64 << 20
"""Left free on the disk: the responder's own store mostly lies there too, and without a line
in that nothing can be isolated.
"""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a piece lies (``INCIDENT-FOLDER/SHA256``), or why it does not."""

    sha256: str
    location: str = ""
    problem: str = ""


class EvidenceStore:
    def __init__(
        self,
        directory: Path,
        *,
        most_bytes: int = MOST_BYTES,
        incident_most_bytes: int = INCIDENT_MOST_BYTES,
        spare_bytes: int = SPARE_BYTES,
    ) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._incident_most_bytes = incident_most_bytes
        self._spare_bytes = spare_bytes

    def keep(self, scope: str, incident: str, content: bytes) -> Kept:
        """Write one piece; twice is the same as once."""
        digest = hashlib.sha256(content).hexdigest()
        folder = self._directory / folder_of(scope, incident)
        if len(content) > self._most_bytes:
            return Kept(digest, problem=f"{len(content)} bytes, at most {self._most_bytes}")
        path = folder / digest
        try:
            if not _holds(path, digest):
                problem = self._no_room(folder, len(content))
                if problem:
                    return Kept(digest, problem=problem)
                _write(path, content)
        except OSError as problem:
            return Kept(digest, problem=f"evidence store {folder}: {problem.strerror}")
        return Kept(digest, location=f"{folder.name}/{digest}")

    def read(self, location: str) -> bytes:
        """The piece that lies there.

        Raises: BrokenChain when it is missing, or is not what its name says.
        """
        folder, _, digest = location.rpartition("/")
        if not _DIGEST.fullmatch(digest) or not folder or "/" in folder or folder.startswith("."):
            raise BrokenChain(f"evidence {location!r}: no such place in an evidence store")
        try:
            content = (self._directory / folder / digest).read_bytes()
        except OSError as problem:
            raise BrokenChain(f"evidence {location}: {problem.strerror}") from problem
        if hashlib.sha256(content).hexdigest() != digest:
            raise BrokenChain(f"evidence {location}: changed since it was kept")
        return content

    def _no_room(self, folder: Path, more: int) -> str:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        here = sum(one.stat().st_size for one in folder.iterdir())
        if here + more > self._incident_most_bytes:
            return f"{folder.name} holds {here} bytes already, at most {self._incident_most_bytes}"
        free = shutil.disk_usage(folder).free
        if free - more < self._spare_bytes:
            return f"{free} bytes are free on its disk, {self._spare_bytes} of them are not for it"
        return ""


def folder_of(scope: str, incident: str) -> str:
    """A folder name for an incident, whatever characters its id holds.

    >>> folder_of("default", "inc-17")
    'default-inc-17'
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", f"{scope}-{incident}")
    if plain == f"{scope}-{incident}" and len(plain) <= 120:
        return plain
    return f"{plain[:100]}-{hashlib.sha256(f'{scope}/{incident}'.encode()).hexdigest()[:16]}"


def _holds(path: Path, digest: str) -> bool:
    """Whether the piece is there whole; a damaged one is written again."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _write(path: Path, content: bytes) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Make the new name itself survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
