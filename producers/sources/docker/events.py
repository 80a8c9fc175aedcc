"""The engine's events as facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.records.facts import Exec, Lifecycle, Observation
from producers.sources.docker.identity import Known
from producers.sources.docker.secrecy import Secrecy, printable

TOLD: Final = frozenset(
    {"create", "start", "restart", "die", "oom", "kill", "stop", "pause", "unpause", "rename"}
    | {"destroy", "update", "exec_start", "commit", "export", "copy", "attach"}
)
REINSPECTED: Final = frozenset(
    {"create", "start", "restart", "die", "pause", "unpause", "rename", "update"}
    | {"connect", "disconnect"}
)
"""After these a container may be another than we knew."""


def action_of(event: Mapping[str, Any]) -> tuple[str, str]:
    """The action and what follows it: ``exec_start: sh -c ls`` is split once."""
    action, _, rest = str(event.get("Action", "")).partition(": ")
    return action, rest


def container_of(event: Mapping[str, Any]) -> str:
    """Whom it concerns; an event of a network names its container in an attribute."""
    actor = event.get("Actor") or {}
    if event.get("Type") == "network":
        return str((actor.get("Attributes") or {}).get("container", ""))
    return str(actor.get("ID", ""))


def observation_of(
    event: Mapping[str, Any], known: Known | None, secrecy: Secrecy
) -> Observation | None:
    """The fact that an event is, None where it is none: health checks are the image's own
    doing, and come with every beat.
    """
    action, rest = action_of(event)
    if event.get("Type") != "container" or action not in TOLD:
        return None
    if action == "exec_start" and known is not None and rest == known.healthcheck:
        return None
    attributes = (event.get("Actor") or {}).get("Attributes") or {}
    fact: Exec | Lifecycle
    if action == "exec_start":
        session = str(attributes.get("execID", ""))[:16]
        fact = Exec(secrecy.scrubbed(rest), session=session)
    else:
        code = str(attributes.get("exitCode", ""))
        fact = Lifecycle(
            printable(action, 64), int(code) if code.isdigit() else None, action == "oom"
        )
    return Observation(container_of(event), int(event["timeNano"]), fact)


class OwnActs:
    """Containers that our responder is working on right now: what the engine tells of them
    meanwhile is our own doing. A marker is a file named like the container, holding until
    when (ns UTC) it counts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def cover(self, event: Mapping[str, Any]) -> bool:
        container = container_of(event)
        if not container.isalnum():
            return False
        try:
            until_ns = int((self._folder / container).read_text())
        except (OSError, ValueError):
            return False
        return int(event["timeNano"]) <= until_ns
