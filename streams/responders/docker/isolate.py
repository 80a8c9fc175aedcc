"""Isolate: off every network, connections in the kernel's table deleted, still running."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable
from models.records.order import Action, Check
from streams.responders.base import Acted, ActionAbout, State, Undone
from streams.responders.docker import conntrack, proc
from streams.responders.docker.deed import running
from streams.responders.docker.endpoints import addresses, endpoints, published, reconnect
from streams.responders.docker.engine import Engine, Inspected

PROBE_S: Final = 0.15
"""How long silence is listened to; on a host's own bridge an answer takes microseconds."""
APART_S: Final = 0.05
"""Between two looks at the connection table and the counters."""
ANY_PORT: Final = 9
"""Knocked at where nothing listens: a container that is there refuses, which is an answer."""


class Isolate:
    about = ActionAbout(
        effect="off every network, both ways, open connections too; it keeps running",
        undone_by="connecting it again: same networks, addresses, aliases and links",
        permissions=("networks/disconnect", "networks/connect", "CAP_NET_ADMIN (conntrack)"),
    )

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def obstacle(self, seen: Inspected) -> str:
        mode = str(seen["HostConfig"].get("NetworkMode", ""))
        if mode == "host":
            return "it uses the host's own network, which cannot be cut for it alone"
        if mode.startswith("container:"):
            return f"it shares the network of container {mode[10:22]}, which would be cut off too"
        sharers = self._sharers(seen)
        if sharers:
            return f"its network is shared by {', '.join(sharers)}, which would be cut off too"
        return ""

    def snapshot(self, seen: Inspected, standing: Mapping[Action, State]) -> State:
        if Action.ISOLATE in standing:
            return dict(standing[Action.ISOLATE])
        return {"networks": endpoints(seen), "ports": published(seen)}

    def carry_out(self, subject: str, order: str, before: State) -> Acted:  # noqa: ARG002  # one form for all
        cut = endpoints(self._engine.inspect(subject))
        for name, end in cut.items():
            self._disconnect(subject, name, end["id"] or name)
        known = {*addresses(before["networks"]), *addresses(cut)}
        forgotten = conntrack.delete(known - self._taken(subject))
        networks = ", ".join(before["networks"]) or "no network"
        return Acted(f"cut from {networks}; {forgotten} tracked connections deleted")

    def verify(self, subject: str, before: State, acted: Acted) -> tuple[Check, ...]:  # noqa: ARG002  # one form for all
        seen = self._engine.inspect(subject)
        left = sorted(seen["NetworkSettings"].get("Networks") or ())
        connected = Check("networks", not left, ", ".join(left) or "none")
        if not running(seen):
            return (connected, Check("running", passed=True, detail="it does not run"))
        return (connected, *self._seen_from_host(int(seen["State"]["Pid"]), subject, before))

    def undo(self, subject: str, order: str, before: State) -> Undone:  # noqa: ARG002  # one form for all
        back, missing = reconnect(self._engine, subject, before["networks"])
        now = published(self._engine.inspect(subject))
        for port, was in before.get("ports", {}).items():
            if now.get(port) != was:  # asked for without a number: the engine gives another
                missing.append(f"{port} was published at {was}, now at {now.get(port, 'none')}")
        return Undone(f"connected to {', '.join(back) or 'no network'}", tuple(missing))

    def _disconnect(self, subject: str, name: str, network: str) -> None:
        try:
            self._engine.disconnect(subject, network)
        except (ContainerGone, RuntimeUnreachable):
            raise
        except ContainerRuntimeError:
            if name in endpoints(self._engine.inspect(subject)):
                raise  # else somebody, or we before a crash, had cut it already

    def _sharers(self, seen: Inspected) -> list[str]:
        """Names of the containers that live in this one's network namespace."""
        mode = f"container:{seen['Id']}"
        return [
            str((other.get("Names") or [other["Id"][:12]])[0]).removeprefix("/")
            for other in self._engine.containers()
            if other.get("HostConfig", {}).get("NetworkMode") == mode
            and other.get("State") in ("running", "paused", "restarting")
        ]

    # ---- looking --------------------------------------------------------------------------

    def _seen_from_host(self, pid: int, subject: str, before: State) -> tuple[Check, ...]:
        if not proc.sees(pid, subject):
            said = "its processes are not visible here: run the responder with --pid=host"
            return (Check("interfaces", passed=False, detail=said),)
        taken = self._taken(subject)
        known = [one for one in addresses(before["networks"]) if one not in taken]
        try:
            first, tracked = proc.interfaces(pid), conntrack.entries(known)
            outward = self._outward(pid, before)
            proc.settle(APART_S)
            tracked = [*tracked, *conntrack.entries(known)]
            second = proc.interfaces(pid)
        except OSError as gone:
            return (Check("interfaces", passed=False, detail=str(gone)),)
        return (
            Check("interfaces", not second, ", ".join(second) or "only loopback is left"),
            _untracked(tracked, known),
            Check("counters", first == second, "still" if first == second else "moving"),
            outward,
            # Last: knocking leaves a trace in the connection table.
            self._inward(pid, known),
        )

    def _outward(self, pid: int, before: State) -> Check:
        """Whether anything gets out: to the gateways it had, and to the wide world."""
        gateways = [end["gateway"] for end in before["networks"].values() if end["gateway"]]
        for target in (*gateways, "198.51.100.1"):
            answer = proc.knock_from(pid, target, ANY_PORT, PROBE_S)
            if answer.answered or "unreachable" not in answer.detail:
                return Check("probe-out", passed=False, detail=f"{target}: {answer.detail}")
        return Check("probe-out", passed=True, detail="network unreachable")

    def _inward(self, pid: int, known: list[str]) -> Check:
        """Whether it can be reached from the host, at the addresses that it had."""
        ports = (proc.listening(pid) or [ANY_PORT])[:2]
        for address in known:
            for port in ports:
                answer = proc.knock(address, port, PROBE_S)
                if answer.answered:
                    return Check("probe-in", passed=False, detail=answer.detail)
        return Check("probe-in", passed=True, detail="no answer")

    def _taken(self, subject: str) -> set[str]:
        """Addresses that other containers have now: what goes on there is theirs."""
        return {
            str(end.get(key))
            for other in self._engine.containers()
            if other["Id"] != subject
            for end in (other.get("NetworkSettings", {}).get("Networks") or {}).values()
            for key in ("IPAddress", "GlobalIPv6Address")
        }


def _untracked(tracked: Sequence[conntrack.Entry], known: Collection[str]) -> Check:
    alive = {repr(entry) for entry in tracked if entry.alive(known)}
    knocks = {repr(entry) for entry in tracked} - alive
    unanswered = f", {len(knocks)} that knocked in vain" if knocks else ""
    return Check("conntrack", not alive, f"{len(alive)} tracked connections{unanswered}")
