"""What a responder may do to the simulated fleet, as it would to a container runtime."""

from __future__ import annotations

import threading
from typing import Any

from models.errors import ContainerGone
from models.records.inventory import State
from producers.sources.simulated.container import Container
from producers.sources.simulated.images import Profile


class Runtime:
    """Inspect, disconnect, pause, stop, redeploy: the fleet reacts from the next step on.

    Each method raises ContainerGone for a container that does not exist (``inspect``
    returns None) and may be called from any thread.
    """

    lock: threading.RLock
    members: dict[str, Container]

    def inspect(self, subject: str) -> dict[str, Any] | None:
        """What the runtime knows of a container; None when it is gone."""
        with self.lock:
            found = self.members.get(subject)
            if found is None or found.state is State.GONE:
                return None
            address = {"shop": {"address": found.address, "aliases": [found.profile.name]}}
            return {
                "id": found.subject, "name": found.name, "image": found.image,
                "host": found.host, "state": found.state.value, "started_ns": found.started_ns,
                "networks": address if found.connected else {},
                "command": list(found.boot.command), "mounts": list(found.boot.mounts),
                "privileged": found.boot.privileged, "user": found.boot.user,
            }  # fmt: skip  # a table of few columns

    def disconnect(self, subject: str) -> dict[str, Any]:
        """Cut every network, established connections too; what was connected."""
        with self.lock:
            container = self._container(subject)
            before = {"shop": {"address": container.address}} if container.connected else {}
            container.connected = False
            container.flows.clear()
            return before

    def reconnect(self, subject: str, state: dict[str, Any]) -> None:  # noqa: ARG002  # one network
        """Put back what ``disconnect`` cut."""
        with self.lock:
            self._container(subject).connected = True

    def pause(self, subject: str) -> None:
        with self.lock:
            container = self._container(subject)
            if container.running:
                container.halt(State.PAUSED, "pause")

    def unpause(self, subject: str) -> None:
        with self.lock:
            container = self._container(subject)
            if container.state is State.PAUSED:
                container.resume()

    def stop(self, subject: str) -> None:
        with self.lock:
            container = self._container(subject)
            if container.state is not State.STOPPED:
                container.halt(State.STOPPED, "die")

    def start(self, subject: str) -> None:
        with self.lock:
            container = self._container(subject)
            if container.state is State.STOPPED:
                container.restart(self.now_ns())

    def redeploy(self, subject: str) -> str:
        """The same definition with a clean layer, under a new id; the old one is kept,
        stopped. Returns the new container's id.
        """
        with self.lock:
            old = self._container(subject)
            name = old.name
            old.name = f"{name}.kept"
            self.stop(subject)
            return self.create(old.profile, name, old.host, replaces=subject).subject

    def counters(self, subject: str) -> dict[str, int]:
        """Bytes and packets since its start."""
        with self.lock:
            total = self._container(subject).counters
            return {
                "sent_bytes": total.sent_bytes,
                "received_bytes": total.received_bytes,
                "sent_packets": total.sent_packets,
                "received_packets": total.received_packets,
            }

    def processes(self, subject: str) -> list[dict[str, Any]]:
        with self.lock:
            container = self._container(subject)
            programs = container.programs.values() if container.running else ()
            return [
                {"pid": p.pid, "executable": p.executable, "parent": p.parent, "user": p.user}
                for p in programs
            ]

    def flows(self, subject: str) -> list[dict[str, Any]]:
        """The connections that are alive."""
        with self.lock:
            alive = self._container(subject).flows.items()
            return [
                {
                    "direction": direction.value, "peer": peer, "port": port,
                    "protocol": protocol, "sent_bytes": flow.sent_bytes,
                    "received_bytes": flow.received_bytes,
                }
                for (direction, peer, port, protocol), flow in alive
            ]  # fmt: skip  # pairs in lines

    def files(self, subject: str) -> list[dict[str, Any]]:
        """What differs from its image."""
        with self.lock:
            return [
                {
                    "path": change.path, "change": change.change.value,
                    "executable": change.executable, "size_bytes": change.size_bytes,
                    "changed_ns": change.changed_ns, "sha256": change.sha256,
                }
                for change in self._container(subject).files.values()
            ]  # fmt: skip  # pairs in lines

    def probe(self, subject: str) -> bool:
        """Whether a packet gets to it, or out of it."""
        with self.lock:
            return self._container(subject).reachable

    def now_ns(self) -> int:
        raise NotImplementedError

    def create(self, profile: Profile, name: str, host: str, *, replaces: str = "") -> Container:
        raise NotImplementedError

    def _container(self, subject: str) -> Container:
        found = self.members.get(subject)
        if found is None or found.state is State.GONE:
            raise ContainerGone(f"container {subject[:12]} does not exist in the simulated fleet")
        return found
