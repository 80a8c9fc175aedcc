"""Pause and stop, and annotate, which does neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable
from models.records.order import Action, Check
from streams.responders.base import Acted, ActionAbout, State, Undone
from streams.responders.docker import proc
from streams.responders.docker.deed import (
    keep_down,
    let_up,
    removes_itself,
    restart_policy,
    running,
)
from streams.responders.docker.engine import Engine, Inspected

APART_S: Final = 0.1
"""Between two looks at CPU time that should stand still; a tick is 10 ms."""


class Annotate:
    about = ActionAbout("nothing changes; its evidence is taken", "nothing")

    def obstacle(self, seen: Inspected) -> str:  # noqa: ARG002  # one form for all
        return ""

    def snapshot(self, seen: Inspected, standing: Mapping[Action, State]) -> State:  # noqa: ARG002  # one form for all
        return {}

    def carry_out(self, subject: str, order: str, before: State) -> Acted:  # noqa: ARG002  # one form for all
        return Acted("noted, nothing changed")

    def verify(self, subject: str, before: State, acted: Acted) -> tuple[Check, ...]:  # noqa: ARG002  # one form for all
        return ()

    def undo(self, subject: str, order: str, before: State) -> Undone:  # noqa: ARG002  # one form for all
        return Undone("nothing to put back")


class Pause:
    about = ActionAbout(
        effect="every process is frozen; open connections stay open, unanswered",
        undone_by="unpausing it, its restart policy as before",
        permissions=("containers/pause", "containers/unpause", "containers/update"),
    )

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def obstacle(self, seen: Inspected) -> str:
        return "" if running(seen) else "it does not run"

    def snapshot(self, seen: Inspected, standing: Mapping[Action, State]) -> State:
        if Action.PAUSE in standing:
            return dict(standing[Action.PAUSE])
        paused = bool(seen["State"]["Paused"])
        return {"paused": paused, "restart": restart_policy(seen, standing)}

    def carry_out(self, subject: str, order: str, before: State) -> Acted:  # noqa: ARG002  # one form for all
        seen = self._engine.inspect(subject)
        if not removes_itself(seen):
            keep_down(self._engine, subject, before)
        if seen["State"]["Paused"]:
            return Acted("was paused already")
        self._engine.pause(subject)
        return Acted("paused")

    def verify(self, subject: str, before: State, acted: Acted) -> tuple[Check, ...]:  # noqa: ARG002  # one form for all
        state = self._engine.inspect(subject)["State"]
        paused = Check("paused", bool(state["Paused"]), str(state["Status"]))
        if not proc.sees(int(state["Pid"]), subject):
            return (paused,)
        first = proc.cpu_ticks(subject)
        proc.settle(APART_S)
        used = proc.cpu_ticks(subject) - first
        return (paused, Check("cpu", used == 0, f"{used} ticks of CPU time used meanwhile"))

    def undo(self, subject: str, order: str, before: State) -> Undone:  # noqa: ARG002  # one form for all
        missing: list[str] = []
        seen = self._engine.inspect(subject)
        if not removes_itself(seen):
            let_up(self._engine, subject, before, missing)
        if before["paused"] or not seen["State"]["Paused"]:
            return Undone("left as it is", tuple(missing))
        self._engine.unpause(subject)
        return Undone("unpaused", tuple(missing))


class Stop:
    about = ActionAbout(
        effect="its processes end; its file system stays",
        undone_by="starting it if it ran, its restart policy as before",
        permissions=("containers/stop", "containers/start", "containers/update"),
    )

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def obstacle(self, seen: Inspected) -> str:
        if removes_itself(seen):
            return "it removes itself once it stops (--rm), and its evidence with it"
        return ""

    def snapshot(self, seen: Inspected, standing: Mapping[Action, State]) -> State:
        if Action.STOP in standing:
            return dict(standing[Action.STOP])
        return {"running": running(seen), "restart": restart_policy(seen, standing)}

    def carry_out(self, subject: str, order: str, before: State) -> Acted:  # noqa: ARG002  # one form for all
        keep_down(self._engine, subject, before)
        self._engine.stop(subject)
        return Acted("stopped" if before["running"] else "did not run")

    def verify(self, subject: str, before: State, acted: Acted) -> tuple[Check, ...]:  # noqa: ARG002  # one form for all
        seen = self._engine.inspect(subject)
        left = list(proc.pids(subject))
        return (
            Check("stopped", not running(seen), str(seen["State"]["Status"])),
            Check("processes", not left, f"{len(left)} left"),
        )

    def undo(self, subject: str, order: str, before: State) -> Undone:  # noqa: ARG002  # one form for all
        missing: list[str] = []
        let_up(self._engine, subject, before, missing)
        if not before["running"]:
            return Undone("left stopped, as it was", tuple(missing))
        try:
            self._engine.start(subject)
        except (ContainerGone, RuntimeUnreachable):
            raise
        except ContainerRuntimeError as refusal:
            missing.append(f"it does not start: {refusal}")
        return Undone("started" if not missing else "tried to start it", tuple(missing))
