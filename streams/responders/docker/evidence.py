"""What a container shows: first what vanishes with it, later what stays where it is."""

from __future__ import annotations

import hashlib
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from models.errors import ContainerRuntimeError
from streams.responders.base import Phase, Piece
from streams.responders.docker import conntrack, proc
from streams.responders.docker.endpoints import addresses, endpoints
from streams.responders.docker.engine import Engine, Inspected
from streams.responders.docker.masking import masked, scrubbed_arguments

MOST_SOCKETS: Final = 2000
MOST_FILES: Final = 2000
"""Differences listed; an attacker who writes a million files is told by the number."""
MOST_COPIES: Final = 50
COPY_BYTES: Final = 8 << 20
"""Larger files are listed without hash, and not copied."""
COPIES_BYTES: Final = 64 << 20
"""All copies together: they are held in memory while the newest are looked for."""


class Evidence:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def pieces(self, subject: str, phase: Phase) -> Iterator[Piece]:
        seen = self._engine.inspect(subject)
        if phase is Phase.SLOW:
            yield from self._slow(subject, seen)
            return
        looks: dict[str, Callable[[str, Inspected], Any]] = {
            "flows": _flows,
            "counters": _counters,
            "processes": self._processes,
        }
        for kind, look in looks.items():
            try:
                yield Piece(kind, _json(look(subject, seen)))
            except (OSError, ContainerRuntimeError) as problem:
                yield Piece("missing", kind.encode(), detail=f"{kind}: {problem}"[:500])
        yield Piece("inspect", _json(masked(seen)), detail="environment values masked")

    def _processes(self, subject: str, seen: Inspected) -> Any:
        found = [proc.process(pid) for pid in proc.pids(subject)]
        for one in found:
            one["arguments"] = scrubbed_arguments(one.get("arguments", []))
        if found or not seen["State"]["Running"]:
            return found
        top = self._engine.top(subject)  # we see none of them: the engine's word
        command = top["Titles"].index("CMD") if "CMD" in top["Titles"] else len(top["Titles"]) - 1
        for row in top["Processes"]:
            row[command] = " ".join(scrubbed_arguments(row[command].split()))
        return top

    def _slow(self, subject: str, seen: Inspected) -> Iterator[Piece]:
        upper = _upper(seen)
        if upper is None:
            said = "as the engine compares them; a file changed with size and time kept is missed"
            yield Piece("files", _json(self._engine.differences(subject)), detail=said)
        else:
            listed, copies = _changed(upper)
            yield Piece("files", _json(listed), detail=f"{len(listed)} in the writable layer")
            for path, content in copies:
                yield Piece("file", content, detail=path, private=True)
        yield Piece("logs", self._engine.logs(subject), detail="the last lines", private=True)


def _counters(subject: str, seen: Inspected) -> Any:
    pid = int(seen["State"]["Pid"])
    if not proc.sees(pid, subject):
        return {}
    return {name: asdict(traffic) for name, traffic in proc.interfaces(pid).items()}


def _flows(subject: str, seen: Inspected) -> Any:
    """Sockets as the container has them, connections as the host tracks them."""
    pid = int(seen["State"]["Pid"])
    visible = proc.sees(pid, subject)
    sockets = list(proc.sockets(pid))[:MOST_SOCKETS] if visible else []
    tracked = conntrack.entries(addresses(endpoints(seen)))[:MOST_SOCKETS]
    return {"sockets": sockets, "tracked": [entry.told() for entry in tracked]}


def _upper(seen: Inspected) -> Path | None:
    """The overlay's writable layer, where it is there for us to read."""
    data = (seen.get("GraphDriver") or {}).get("Data") or {}
    path = Path(data.get("UpperDir") or "/nonexistent")
    return path if path.is_dir() else None


def _changed(upper: Path) -> tuple[list[dict[str, Any]], list[tuple[str, bytes]]]:
    """What differs from the image, and copies of what changed last, within COPIES_BYTES.

    The container may still be running and plant links: directories are walked by handle,
    and no link is followed.
    """
    listed: list[dict[str, Any]] = []
    newest: list[tuple[int, str, bytes]] = []
    for folder, _, names, handle in os.fwalk(upper, follow_symlinks=False):
        for name in names[: MOST_FILES - len(listed)]:
            with suppress(OSError):
                path = f"/{Path(folder, name).relative_to(upper)}"
                about, content = _file(handle, name, path)
                listed.append(about)
                if content is not None:
                    heapq.heappush(newest, (about["changed_ns"], path, content))
                    _trim(newest)
    return listed, [(path, content) for _, path, content in sorted(newest, reverse=True)]


def _trim(newest: list[tuple[int, str, bytes]]) -> None:
    while len(newest) > MOST_COPIES or sum(len(one[2]) for one in newest) > COPIES_BYTES:
        heapq.heappop(newest)


def _file(folder: int, name: str, path: str) -> tuple[dict[str, Any], bytes | None]:
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    told: dict[str, Any] = {
        "path": path,
        "mode": stat.filemode(about.st_mode),
        "size_bytes": about.st_size,
        "modified_ns": about.st_mtime_ns,
        "changed_ns": about.st_ctime_ns,
    }
    if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
        return {**told, "change": "deleted"}, None
    if not stat.S_ISREG(about.st_mode) or about.st_size > COPY_BYTES:
        return told, None
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(handle, "rb") as file:
        content = file.read(COPY_BYTES)
    told["sha256"] = hashlib.sha256(content).hexdigest()
    return told, content


def _json(found: Any) -> bytes:
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
