"""One action on a Docker container, and what several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable
from models.records.order import Action, Check
from streams.responders.base import Acted, ActionAbout, State, Undone
from streams.responders.docker.engine import Engine, Inspected

NEVER: Final = {"Name": "no", "MaximumRetryCount": 0}
"""A restart policy that leaves what we stopped as it is."""


class Deed(Protocol):
    """What platform.py asks of an action; see streams/responders/base.py for the meaning."""

    @property
    def about(self) -> ActionAbout: ...
    def obstacle(self, seen: Inspected) -> str: ...
    def snapshot(self, seen: Inspected, standing: Mapping[Action, State]) -> State: ...
    def carry_out(self, subject: str, order: str, before: State) -> Acted: ...
    def verify(self, subject: str, before: State, acted: Acted) -> tuple[Check, ...]: ...
    def undo(self, subject: str, order: str, before: State) -> Undone: ...


def name_of(seen: Inspected) -> str:
    return str(seen["Name"]).removeprefix("/")


def running(seen: Inspected) -> bool:
    return bool(seen["State"]["Running"])


def restart_policy(seen: Inspected, standing: Mapping[Action, State]) -> dict[str, Any]:
    """The container's own policy, also when an action of ours has changed it since."""
    for state in standing.values():
        if "restart" in state:
            return dict(state["restart"])
    return dict(seen["HostConfig"].get("RestartPolicy") or NEVER)


def removes_itself(seen: Inspected) -> bool:
    """Started with ``--rm``: the engine deletes it, layer and all, once it stops."""
    return bool(seen["HostConfig"].get("AutoRemove"))


def keep_down(engine: Engine, subject: str, before: State) -> None:
    """Take the restart policy away, which would undo a pause or stop when the engine starts."""
    if before["restart"].get("Name") not in ("", "no", None):
        engine.restart_policy(subject, NEVER)


def let_up(engine: Engine, subject: str, before: State, missing: list[str]) -> None:
    """Put the restart policy back."""
    if before["restart"].get("Name") in ("", "no", None):
        return
    try:
        engine.restart_policy(subject, before["restart"])
    except (ContainerGone, RuntimeUnreachable):
        raise
    except ContainerRuntimeError as refusal:
        missing.append(f"restart policy {before['restart']['Name']}: {refusal}")
