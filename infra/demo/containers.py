"""The containers of the demo: four services of three siblings each, on a network of their own.

They live by infra/demo/life.sh and take their directions from a file that is mounted where
they can only read it. Nobody enters them, so that all that is seen is their own doing.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from docker.errors import NotFound

from infra.demo.interruptions import whole
from infra.demo.machine import LABEL
from infra.demo.remote import RemoteHosts
from infra.images import build

SERVICES: Final = ("orders", "web", "notifier", "search")
SIBLINGS: Final = 3
CALLED: Final = "search"
"""The service that all others ask: what happens to a victim costs its siblings no answer."""
PARTNER, STRANGER, PORT = 10, 33, 443
MEMORY_BYTES: Final = 256 << 20
_LIFE: Final = Path(__file__).with_name("life.sh")
_COMMAND: Final = ("/bin/sh", "/life.sh")


def repository(run: str, service: str) -> str:
    """The name of a service's image: of this run alone, for two may be told at once, and each
    must learn from its own containers and touch no others.
    """
    return f"{run}/{service}"


@dataclass(frozen=True, slots=True)
class Actor:
    """One container: ``subject`` is its full id, ``number`` counts siblings from 1."""

    service: str
    number: int
    name: str
    subject: str
    address: str
    direction: Path


class Troupe:
    """All containers of one run; a context manager. ``directory`` holds their directions."""

    def __init__(self, client: Any, run: str, remote: RemoteHosts, directory: Path) -> None:
        self.run = run
        self._client, self._remote = client, remote
        self._directory = directory
        self.marks = {LABEL: run}
        self.network = f"plimsoll-{run}"
        self._actors: dict[tuple[str, int], Actor] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._remove_all)  # what is there by then, however far we came
            for service in SERVICES:
                whole(partial(self.build, service))
            whole(self._connect)
            for service in (CALLED, *(one for one in SERVICES if one != CALLED)):
                for number in range(1, SIBLINGS + 1):
                    whole(partial(self.start, service, number))
            self._open = undo.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def actor(self, service: str, number: int) -> Actor:
        return self._actors[service, number]

    def siblings(self, service: str) -> list[Actor]:
        return [actor for actor in self._actors.values() if actor.service == service]

    def absent(self) -> list[str]:
        """Names of containers that no longer run, whatever became of them."""
        return [a.name for a in self._actors.values() if not _running(self.seen(a.subject))]

    def direct(self, actor: Actor, word: str, script: str = "") -> None:
        """Tell one container what to do from now on; ``calm`` is ordinary life, ``script`` that
        and what the ``script`` says.
        """
        given_s = int(time.time())
        self._write(actor.direction, actor.service, actor.number, word, given_s, script)

    def seen(self, container: str) -> dict[str, Any]:
        """What the engine says of a container, by its id or name; nothing when it is gone."""
        try:
            return dict(self._client.api.inspect_container(container))
        except NotFound:
            return {}

    # ---- making and removing ----------------------------------------------------------------

    def build(
        self, service: str, version: int = 1, files: Mapping[str, bytes] | None = None
    ) -> None:
        """A service's image; versions differ in a file that says which it is, and in ``files``."""
        named = f"{service} {version}".encode()
        files = {"/life.sh": _LIFE.read_bytes(), "/service": named, **(files or {})}
        build(self._client, self._tag(service, version), command=_COMMAND, files=files,
              labels=self.marks)  # fmt: skip  # two lines

    def start(self, service: str, number: int, version: int = 1, **options: Any) -> Actor:
        """One more container; ``options`` are the Docker SDK's."""
        name = self.name(service, number)
        stage = self._directory / name
        stage.mkdir(parents=True, exist_ok=True)
        direction = stage / "direction"
        self._write(direction, service, number, "calm", 0)
        container = self._client.containers.run(
            self._tag(service, version), detach=True, name=name, network=self.network,
            labels=self.marks, mem_limit=MEMORY_BYTES,
            volumes={str(stage): {"bind": "/stage", "mode": "ro"}}, **options,
        )  # fmt: skip  # one call, one thought
        container.reload()
        address = container.attrs["NetworkSettings"]["Networks"][self.network]["IPAddress"]
        actor = Actor(service, number, name, str(container.id), address, direction)
        self._actors[service, number] = actor
        return actor

    def name(self, service: str, number: int) -> str:
        """The container's, whichever it is by now."""
        return f"{service}-{number}-{self.run}"

    def _tag(self, service: str, version: int) -> str:
        return f"{repository(self.run, service)}:{version}"

    def _connect(self) -> None:
        self._client.networks.create(self.network, driver="bridge", labels=self.marks)

    def _write(
        self, direction: Path, service: str, number: int, word: str, given_s: int, script: str = ""
    ) -> None:
        """``given_s``: seconds since 1970; who was born later passes the direction over."""
        asked = self._actors.get((CALLED, (number - 1) % SIBLINGS + 1))
        address = "" if service == CALLED or asked is None else asked.address
        lines = {
            "PARTNER": self._remote.address(PARTNER), "STRANGER": self._remote.address(STRANGER),
            "COLLEAGUE": address, "DO": word, "GIVEN": str(given_s), "SCRIPT": shlex.quote(script),
        }  # fmt: skip  # a table
        fresh = direction.with_name("direction.new")
        fresh.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        fresh.replace(direction)  # whole or not at all: the container may be reading it now

    def _remove_all(self) -> None:
        """Our containers, and those that took their place or were kept (their names say so);
        then what they needed.
        """
        marked = {"label": f"{LABEL}={self.run}"}
        for container in self._client.containers.list(all=True, filters={"name": self.run}):
            try:
                container.remove(force=True, v=True)
            except NotFound:
                continue
        for network in self._client.networks.list(filters=marked):
            network.remove()
        for image in self._client.images.list(filters=marked):
            self._client.images.remove(image.id, force=True)


def _running(state: dict[str, Any]) -> bool:
    return bool(state) and bool(state["State"]["Running"])
