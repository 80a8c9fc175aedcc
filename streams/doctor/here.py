"""What the parts need of this machine: an engine, folders, keys."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from models.errors import ConfigurationError, ContainerRuntimeError, PlimsollError
from streams.doctor.base import Case, Check, Found
from streams.keys import Signer, TrustFile
from streams.responders import platform_of

_MB: Final = 1 << 20
_SPARE_BYTES: Final = 64 * _MB
_NOBODY: Final = "0" * 64


def _engine(case: Case) -> Iterator[Found]:
    """Asked for a container that does not exist, as a responder asks for one that may."""
    told = case.settings
    if "respond" in case.parts:
        responder = told.responder
        yield from _asked(responder.platform, responder.docker_host, responder)
    docker = told.collect.source == "docker"
    if "collect" in case.parts and docker and (
        "respond" not in case.parts or told.collect.docker_host != told.responder.docker_host
    ):  # fmt: skip  # one condition
        asked = told.responder.model_copy(
            update={"platform": "docker", "docker_host": told.collect.docker_host}
        )
        yield from _asked("docker", told.collect.docker_host, asked)


def _asked(platform: str, where: str, settings: object) -> Iterator[Found]:
    try:
        platform_of(settings).find(_NOBODY)  # type: ignore[arg-type]  # the responder's settings
    except (ContainerRuntimeError, ConfigurationError) as problem:
        yield Found(
            f"{platform} at {where}", str(problem),
            "see that the engine runs and that this user may use its socket; "
            "responder.docker_host and collect.docker_host name it",
        )  # fmt: skip  # what, why, what to do


def _folders(case: Case) -> Iterator[Found]:
    told = case.settings
    spool = told.spool_file.stat().st_size if told.spool_file.exists() else 0
    needs: dict[str, list[tuple[str, Path, int]]] = {
        "collect": [
            ("spool_file", told.spool_file.parent, max(told.spool.most_bytes - spool, 0))
        ],
        "respond": [
            ("responder_file", told.responder_file.parent, _SPARE_BYTES),
            ("evidence_dir", told.evidence_dir, _SPARE_BYTES),
        ],
        "archive": [("archive_dir", told.archive_dir, told.archive.lot_mb * _MB)],
        "train": [("models_dir", told.models_dir, _SPARE_BYTES)],
    }  # fmt: skip  # a table
    for part in case.parts:
        for setting, folder, bytes_ in needs.get(part, []):
            yield from _usable(f"{part}: {setting} in {folder}", setting, folder, bytes_)


def _usable(about: str, setting: str, folder: Path, wanted: int) -> Iterator[Found]:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        if there == folder:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".plimsoll-doctor-"):
                pass
        elif not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise PermissionError(0, f"{there} is no folder that we may write to")
        free = shutil.disk_usage(there).free
    except OSError as problem:
        yield Found(
            about, f"it can't be written ({problem.strerror})",
            f"set {setting} to another place, or give this user the folder",
        )  # fmt: skip  # what, why, what to do
        return
    if free < wanted:
        yield Found(
            about, f"{free // _MB} MB are free, it may come to need {wanted // _MB} MB",
            f"make room on that disk, or set {setting} to another one",
        )  # fmt: skip  # what, why, what to do


def _keys(case: Case) -> Iterator[Found]:
    told, todo = case.settings, "plimsoll keys init, or copy the folder to where keys_dir says"
    try:
        if {"govern", "respond"} & set(case.parts):
            TrustFile(told.keys_dir, case.clock)
        if "govern" in case.parts:
            Signer.load(told.keys_dir, told.governor.signing_key)
    except PlimsollError as problem:
        yield Found(f"keys in {told.keys_dir}", str(problem), todo)


ENGINE: Final = Check("engine", "does the container engine answer?", _engine)
FOLDERS: Final = Check("folders", "can they be written, with room for what may come?", _folders)
KEYS: Final = Check("keys", "are the keys there that sign and that are trusted?", _keys)
