"""Redeploy: the same definition with a clean layer; the old container kept, stopped.

The replacement carries the labels ``plimsoll.order`` and ``plimsoll.replaces``: after a
crash the first finds it again, and the second tells everyone whose place it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable
from models.records.order import Action, Check
from streams.responders.base import Acted, ActionAbout, State, Undone
from streams.responders.docker import proc
from streams.responders.docker.deed import (
    NEVER,
    keep_down,
    name_of,
    removes_itself,
    restart_policy,
    running,
)
from streams.responders.docker.endpoints import DEFAULT_NETWORK, Endpoints, endpoints, request
from streams.responders.docker.engine import Engine, Inspected

ORDER_LABEL: Final = "plimsoll.order"
REPLACES_LABEL: Final = "plimsoll.replaces"
SETTLE_S: Final = 0.3
"""A replacement that ends at once is none."""


class Redeploy:
    about = ActionAbout(
        effect="a new container of the same definition takes its place; the old is kept stopped",
        undone_by="letting the old one go: it stays stopped under another name, removable",
        permissions=(
            "containers/create", "containers/start", "containers/stop", "containers/rename",
            "containers/update", "containers/remove", "networks/connect",
        ),
    )  # fmt: skip  # a list of rights in lines

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def obstacle(self, seen: Inspected) -> str:
        if removes_itself(seen):
            return "it removes itself once it stops (--rm), and its evidence with it"
        return ""

    def snapshot(self, seen: Inspected, standing: Mapping[Action, State]) -> State:
        """The definition as it was before anything of ours, an isolation above all."""
        isolated = standing.get(Action.ISOLATE)
        return {
            "name": name_of(seen),
            "image": seen["Image"],
            "config": seen["Config"],
            "host": seen["HostConfig"],
            "mounts": seen.get("Mounts") or [],
            "networks": isolated["networks"] if isolated else endpoints(seen),
            "restart": restart_policy(seen, standing),
            "running": running(seen),
        }

    def carry_out(self, subject: str, order: str, before: State) -> Acted:
        keep_down(self._engine, subject, before)
        self._engine.stop(subject)
        kept = kept_name(before["name"], order)
        if name_of(self._engine.inspect(subject)) != kept:
            self._engine.rename(subject, kept)
        try:
            new = self._replacement(order) or self._created(subject, order, before)
            self._connect(new, before["networks"])
            self._engine.start(new)
        except (ContainerGone, RuntimeUnreachable):
            raise
        except ContainerRuntimeError:
            self._roll_back(subject, order, before)
            raise
        return Acted(f"replaced by {new[:12]}; the old one is kept stopped as {kept}", new)

    def verify(self, subject: str, before: State, acted: Acted) -> tuple[Check, ...]:
        proc.settle(SETTLE_S)
        old, new = self._engine.inspect(subject), self._engine.inspect(acted.replacement)
        differing = _differences(before, new)
        return (
            Check("old-stopped", not running(old), str(old["State"]["Status"])),
            Check("replacement-runs", running(new), str(new["State"]["Status"])),
            Check("same-definition", not differing, ", ".join(differing) or "equal"),
            Check("name", name_of(new) == before["name"], name_of(new)),
        )

    def undo(self, subject: str, order: str, before: State) -> Undone:
        """Nothing is taken back: the replacement is the service now. Only our hold on the
        old container ends; deleting it is for whoever no longer needs it as evidence.
        """
        seen = self._engine.inspect(subject)
        if name_of(seen) == kept_name(before["name"], order):
            self._engine.rename(subject, f"{before['name']}.old-{subject[:12]}")
            seen = self._engine.inspect(subject)
        return Undone(
            f"the replacement stays; the old container is stopped as {name_of(seen)}, remove "
            f"it with `docker rm {subject[:12]}` once nobody needs it"
        )

    # ---- the replacement ------------------------------------------------------------------

    def _replacement(self, order: str) -> str:
        """What this order created before a crash."""
        found = self._engine.labelled(f"{ORDER_LABEL}={order}")
        return str(found[0]["Id"]) if found else ""

    def _created(self, subject: str, order: str, before: State) -> str:
        return self._engine.create(self._definition(subject, order, before), before["name"])

    def _definition(self, subject: str, order: str, before: State) -> dict[str, Any]:
        config = dict(before["config"])
        if self._engine.image_id(config["Image"]) != before["image"]:
            config["Image"] = before["image"]  # the name stands for another image by now
        if config.get("Hostname") == subject[:12]:
            config.pop("Hostname")  # the engine's default, of the old id
        labels = {ORDER_LABEL: order, REPLACES_LABEL: subject}
        return {
            **config,
            "Labels": {**(config.get("Labels") or {}), **labels},
            "HostConfig": _host_config(before),
            "NetworkingConfig": {"EndpointsConfig": _first(before["networks"])},
        }

    def _connect(self, new: str, recorded: Endpoints) -> None:
        """The first network came with its creation: the engine takes one there."""
        connected = endpoints(self._engine.inspect(new))
        for name, was in recorded.items():
            if name not in connected:
                wanted = request(was, address=bool(was["asked"]))
                self._engine.connect(new, was["id"] or name, **wanted)

    def _roll_back(self, subject: str, order: str, before: State) -> None:
        """No replacement can be had: the old one goes on, for a service beats none."""
        with suppress(ContainerRuntimeError):  # the reason of the failure is told, not this
            new = self._replacement(order)
            if new:
                self._engine.remove(new)
            self._engine.rename(subject, before["name"])
            if before["running"]:
                self._engine.start(subject)
            if before["restart"].get("Name") not in ("", "no", None):
                self._engine.restart_policy(subject, before["restart"])


def kept_name(name: str, order: str) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in order)
    return f"{name}.kept-{plain[:64]}"


def _host_config(before: State) -> dict[str, Any]:
    """The old limits, rights and mounts; volumes that the engine named itself come along."""
    host = dict(before["host"])
    listed = {bind.split(":")[1] for bind in host.get("Binds") or () if ":" in bind}
    listed |= {mount["Target"] for mount in host.get("Mounts") or ()}
    own = [
        f"{mount['Name']}:{mount['Destination']}"
        for mount in before["mounts"]
        if mount.get("Type") == "volume" and mount["Destination"] not in listed
    ]
    links = [link.replace(":/", ":").lstrip("/") for link in host.get("Links") or ()]
    return {
        **host,
        "Binds": [*(host.get("Binds") or ()), *own],
        "Links": [_link(link) for link in links] or None,
        "RestartPolicy": before["restart"] or dict(NEVER),
    }


def _link(link: str) -> str:
    """``db:web/alias``, as inspect shows it, to ``db:alias``, as create takes it."""
    target, _, alias = link.partition(":")
    return f"{target}:{alias.rpartition('/')[2]}"


def _first(recorded: Endpoints) -> dict[str, Any]:
    for name, was in recorded.items():
        if name == DEFAULT_NETWORK:
            return {name: {}}
        return {
            name: {
                "Aliases": was["aliases"],
                "Links": was["links"] or None,
                "DriverOpts": was["options"] or None,
                "IPAMConfig": was["asked"] or None,
            }
        }
    return {}


def _differences(before: State, new: Inspected) -> list[str]:
    """In what the replacement is not what the old one was."""
    was, now = before["config"], new["Config"]
    fields = ("Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts")
    found = [field for field in fields if (was.get(field) or None) != (now.get(field) or None)]
    limits = ("Memory", "NanoCpus", "PidsLimit", "Privileged", "CapAdd", "CapDrop", "NetworkMode")
    host = new["HostConfig"]
    found += [
        field for field in limits if (before["host"].get(field) or 0) != (host.get(field) or 0)
    ]
    pairs = {
        "image": (before["image"], new["Image"]),
        "Env": (sorted(was.get("Env") or ()), sorted(now.get("Env") or ())),
        "mounts": (_mounted(before["mounts"]), _mounted(new.get("Mounts") or ())),
        "networks": (sorted(before["networks"]), sorted(endpoints(new))),
        "RestartPolicy": (
            before["restart"].get("Name") or "no",
            host["RestartPolicy"]["Name"] or "no",
        ),
    }
    return found + [name for name, (one, other) in pairs.items() if one != other]


def _mounted(mounts: Any) -> list[tuple[str, str]]:
    return sorted(
        (str(mount.get("Name") or mount.get("Source")), str(mount["Destination"]))
        for mount in mounts
    )
