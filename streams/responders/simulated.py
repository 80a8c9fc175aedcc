"""The simulated platform: the same contract, on containers that exist in memory only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import orjson

from models.errors import ContainerGone
from models.records.order import Action, Check
from streams.responders.base import About, Acted, ActionAbout, Phase, Piece, State, Undone

ABOUT: Final = About(
    name="simulated",
    looks_with=(),
    actions={
        Action.ANNOTATE: ActionAbout("nothing changes; evidence is taken", "nothing"),
        Action.ISOLATE: ActionAbout("no network; the container keeps running", "reconnecting"),
        Action.PAUSE: ActionAbout("every process is frozen", "unpausing"),
        Action.STOP: ActionAbout("the container is stopped", "starting it"),
        Action.REDEPLOY: ActionAbout(
            "a fresh container takes its place; the old one is kept, stopped",
            "letting the old one go; the fresh one stays",
        ),
    },
)


class SimulatedRuntime(Protocol):
    """What acts on a simulated container; ContainerGone where there is none."""

    def inspect(self, subject: str) -> dict[str, Any] | None: ...
    def disconnect(self, subject: str) -> Any: ...
    def reconnect(self, subject: str, state: dict[str, Any]) -> None: ...
    def pause(self, subject: str) -> None: ...
    def unpause(self, subject: str) -> None: ...
    def stop(self, subject: str) -> None: ...
    def start(self, subject: str) -> None: ...
    def redeploy(self, subject: str) -> str: ...
    def counters(self, subject: str) -> dict[str, int]: ...
    def processes(self, subject: str) -> list[dict[str, Any]]: ...
    def flows(self, subject: str) -> list[dict[str, Any]]: ...
    def files(self, subject: str) -> list[dict[str, Any]]: ...

    def probe(self, subject: str) -> bool:
        """Whether a packet gets to it, or out of it."""
        ...


class Simulated:
    about = ABOUT

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._replaced: dict[str, str] = {}

    def find(self, subject: str) -> bool:
        return self._runtime.inspect(subject) is not None

    def obstacle(self, action: Action, subject: str) -> str:  # noqa: ARG002  # nothing is shared
        return ""

    def snapshot(
        self,
        action: Action,
        subject: str,
        standing: Mapping[Action, State],
    ) -> State:
        if action in standing:
            return dict(standing[action])
        seen = self._seen(subject)
        return {"state": seen["state"], "networks": seen.get("networks", {})}

    def carry_out(self, action: Action, subject: str, order: str, before: State) -> Acted:  # noqa: ARG002  # every action reads alike
        if action is Action.REDEPLOY:
            if order not in self._replaced:
                self._replaced[order] = self._runtime.redeploy(subject)
            return Acted("a fresh container runs in its place", self._replaced[order])
        if action is Action.ANNOTATE:
            return Acted("noted, nothing changed")
        doing: dict[Action, Callable[[str], Any]] = {
            Action.ISOLATE: self._runtime.disconnect,
            Action.PAUSE: self._runtime.pause,
            Action.STOP: self._runtime.stop,
        }
        doing[action](subject)
        return Acted(ABOUT.actions[action].effect)

    def verify(
        self,
        action: Action,
        subject: str,
        before: State,  # noqa: ARG002  # nothing to compare with
        acted: Acted,
    ) -> tuple[Check, ...]:
        if action is Action.ISOLATE:
            return self._cut_off(subject)
        if action is Action.REDEPLOY:
            return (
                self._in_state(subject, "stopped"),
                self._in_state(acted.replacement, "running", "replacement"),
            )
        wanted = {Action.PAUSE: "paused", Action.STOP: "stopped"}.get(action)
        return (self._in_state(subject, wanted),) if wanted else ()

    def undo(self, action: Action, subject: str, order: str, before: State) -> Undone:  # noqa: ARG002  # every action reads alike
        state = before.get("state")
        if action is Action.ISOLATE and before.get("networks"):
            self._runtime.reconnect(subject, before["networks"])
            return Undone(f"reconnected to {', '.join(before['networks'])}")
        if action is Action.PAUSE and state == "running":
            self._runtime.unpause(subject)
            return Undone("unpaused")
        if action is Action.STOP and state == "running":
            self._runtime.start(subject)
            return Undone("started")
        if action is Action.REDEPLOY:
            return Undone("the fresh container stays; the old one may be removed")
        return Undone("nothing to put back")

    def evidence(self, subject: str, phase: Phase) -> Iterator[Piece]:
        looks: dict[str, Callable[[str], Any]] = {"files": self._runtime.files}
        if phase is Phase.VOLATILE:
            looks = {
                "counters": self._runtime.counters,
                "flows": self._runtime.flows,
                "processes": self._runtime.processes,
                "inspect": self._runtime.inspect,
            }
        for kind, look in looks.items():
            yield Piece(kind, orjson.dumps(look(subject), option=orjson.OPT_SORT_KEYS))

    def _cut_off(self, subject: str) -> tuple[Check, ...]:
        networks = self._seen(subject).get("networks", {})
        flows = self._runtime.flows(subject)
        first, second = self._runtime.counters(subject), self._runtime.counters(subject)
        reached = self._runtime.probe(subject)
        return (
            Check("interfaces", not networks, ", ".join(networks) or "only loopback is left"),
            Check("flows", not flows, f"{len(flows)} connections alive"),
            Check("counters", first == second, "no byte moved" if first == second else "moving"),
            Check("probe", not reached, "answered" if reached else "no answer either way"),
        )

    def _in_state(self, subject: str, wanted: str, name: str = "state") -> Check:
        found = str(self._seen(subject)["state"])
        return Check(name, found == wanted, found)

    def _seen(self, subject: str) -> dict[str, Any]:
        seen = self._runtime.inspect(subject)
        if seen is None:
            raise ContainerGone(f"container {subject[:12]} does not exist in the simulated fleet")
        return seen
