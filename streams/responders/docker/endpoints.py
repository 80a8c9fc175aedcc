"""How a container is connected to its networks, recorded and put back."""

from __future__ import annotations

from typing import Any, Final

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable
from streams.responders.docker.engine import Engine, Inspected

Endpoints = dict[str, dict[str, Any]]
"""By network name: its id, the container's addresses, aliases, links and options there."""

DEFAULT_NETWORK: Final = "bridge"
"""The engine's own network takes no requests for addresses or aliases."""


def endpoints(seen: Inspected) -> Endpoints:
    short = seen["Id"][:12]
    return {
        name: {
            "id": found.get("NetworkID", ""),
            "ipv4": found.get("IPAddress", ""),
            "ipv6": found.get("GlobalIPv6Address", ""),
            "gateway": found.get("Gateway", ""),
            # The engine adds the short id by itself, on every connection.
            "aliases": [alias for alias in found.get("Aliases") or () if alias != short],
            "links": list(found.get("Links") or ()),
            "options": dict(found.get("DriverOpts") or {}),
            "asked": dict(found.get("IPAMConfig") or {}),
        }
        for name, found in sorted((seen["NetworkSettings"].get("Networks") or {}).items())
    }


def published(seen: Inspected) -> dict[str, str]:
    """By port of the container: where on the host it is reached, ``0.0.0.0:8080, [::]:8080``."""
    found = seen["NetworkSettings"].get("Ports") or {}
    return {
        port: ", ".join(sorted(f"{place['HostIp']}:{place['HostPort']}" for place in places))
        for port, places in sorted(found.items())
        if places
    }


def addresses(recorded: Endpoints) -> list[str]:
    ours = (end[key] for end in recorded.values() for key in ("ipv4", "ipv6"))
    return [address for address in ours if address]


def reconnect(engine: Engine, subject: str, recorded: Endpoints) -> tuple[list[str], list[str]]:
    """Connect to every recorded network again; what is as it was, and what is not.

    A network that the container is connected to meanwhile is left as it is: somebody chose
    that.
    """
    now = endpoints(engine.inspect(subject))
    back, missing = [], []
    for name, was in recorded.items():
        if name in now:
            back.append(f"{name} (was connected already)")
            continue
        problem = _connect(engine, subject, name, was)
        if problem:
            missing.append(problem)
        else:
            back.append(name)
    after = endpoints(engine.inspect(subject))
    for name, was in recorded.items():
        is_now = after.get(name, {}).get("ipv4", "")
        if is_now and was["ipv4"] and is_now != was["ipv4"]:
            missing.append(f"address {was['ipv4']} on {name}, it has {is_now} now")
    return back, missing


def request(was: dict[str, Any], *, address: bool) -> dict[str, Any]:
    """What to ask the engine for, to be connected as recorded."""
    wanted: dict[str, Any] = {
        "aliases": was["aliases"],
        "links": [tuple(link.split(":", 1)) for link in was["links"]],
        "driver_opt": was["options"],
    }
    if address:
        wanted |= {"ipv4_address": was["ipv4"], "ipv6_address": was["ipv6"]}
    return {key: value for key, value in wanted.items() if value}


def _connect(engine: Engine, subject: str, name: str, was: dict[str, Any]) -> str:
    """Connect to one network; what went wrong, empty when nothing did."""
    network = engine.network(was["id"]) or engine.network(name)
    if network is None:
        return f"network {name} (it no longer exists)"
    try:
        if name == DEFAULT_NETWORK:
            engine.connect(subject, network["Id"])
        elif not _addressed(engine, subject, network["Id"], was):
            engine.connect(subject, network["Id"], **request(was, address=False))
    except (ContainerGone, RuntimeUnreachable):
        raise
    except ContainerRuntimeError as refusal:
        return f"network {name} ({refusal})"
    return ""


def _addressed(engine: Engine, subject: str, network: str, was: dict[str, Any]) -> bool:
    """Whether the same address could be had. It can't where another has it by now, nor on
    a network whose subnet the engine chose: there it takes no requests.
    """
    if not was["ipv4"] and not was["ipv6"]:
        return False
    try:
        engine.connect(subject, network, **request(was, address=True))
    except (ContainerGone, RuntimeUnreachable):
        raise
    except ContainerRuntimeError:
        return False
    return True
