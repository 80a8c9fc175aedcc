"""Looks with our own eyes: what the far end and the engine say, neither of which knows of
Plimsoll. A story is right only if they agree with what was reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from infra.demo.containers import STRANGER, Actor, Troupe
from infra.demo.remote import RemoteHosts
from infra.demo.stories import Running
from models.records.order import Action

SILENT_S: Final = 3.0
"""How long the far end must have heard nothing."""


@dataclass(frozen=True, slots=True)
class Look:
    story: str
    seen: str
    right: bool

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def looks(told: Iterable[Running], troupe: Troupe, remote: RemoteHosts) -> list[Look]:
    """One for each container that a story befell, and one for the far end."""
    found = []
    for running in told:
        name, action = running.story.name, running.story.action
        if running.story.direction == "exfiltrate":
            found.append(_far_end(name, remote))
        look = _LOOKS[action]
        found += [look(name, actor, troupe) for actor in running.actors]
    return found


def _far_end(story: str, remote: RemoteHosts) -> Look:
    before = remote.received_bytes(STRANGER)
    time.sleep(SILENT_S)  # silence is what is looked for: there is nothing to wait for
    later = remote.received_bytes(STRANGER) - before
    address = remote.address(STRANGER)
    seen = (
        f"{address} received {before / 1e6:.1f} MB in all, {later} bytes in the last {SILENT_S} s"
    )
    return Look(story, seen, before > 0 == later)


def _isolated(story: str, actor: Actor, troupe: Troupe) -> Look:
    state = troupe.seen(actor.subject)
    seen = f"{actor.name} {_is(state)}, networks: {_networks(state)}"
    return Look(story, seen, _runs(state) and _networks(state) == "none")


def _redeployed(story: str, actor: Actor, troupe: Troupe) -> Look:
    old, new = troupe.seen(actor.subject), troupe.seen(actor.name)
    fresh = bool(new) and new["Id"] != actor.subject
    seen = f"{actor.name} {_is(new)}{' anew' if fresh else ''}; the one that leaked {_is(old)}"
    return Look(story, seen, fresh and _runs(new) and bool(old) and not _runs(old))


def _left_alone(story: str, actor: Actor, troupe: Troupe) -> Look:
    state = troupe.seen(actor.subject)
    seen = f"{actor.name} {_is(state)}, networks: {_networks(state)}"
    return Look(story, seen, _runs(state) and _networks(state) != "none")


_LOOKS: Final[dict[Action | None, Callable[[str, Actor, Troupe], Look]]] = {
    Action.ISOLATE: _isolated,
    Action.REDEPLOY: _redeployed,
    None: _left_alone,
}


def _runs(state: dict[str, Any]) -> bool:
    return bool(state) and bool(state["State"]["Running"])


def _is(state: dict[str, Any]) -> str:
    return f"is {state['State']['Status']}" if state else "is gone"


def _networks(state: dict[str, Any]) -> str:
    found = state["NetworkSettings"]["Networks"] if state else {}
    return ", ".join(sorted(found)) or "none"
