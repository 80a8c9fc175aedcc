"""What the engine says, kept by a thread of its own: an engine that hangs delays nobody.

Events are followed as they come, containers inspected when one says that they changed.
Every few seconds the engine is asked whether it still answers; when it does not, the last
inventory stands, that is told once, and it is asked again until it does.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import docker
import requests
import structlog
from docker.errors import APIError, DockerException, NotFound

from models.errors import MalformedRecord
from models.records.facts import Coverage, Observation
from models.records.inventory import State
from producers.pace import Every
from producers.sources.base import Clock
from producers.sources.docker.events import (
    REINSPECTED,
    TOLD,
    OwnActs,
    action_of,
    container_of,
    observation_of,
)
from producers.sources.docker.identity import Here, Known, known_of
from producers.sources.docker.layers import layers_of
from producers.sources.docker.secrecy import Secrecy

ANSWER_S: Final = 4
"""An engine that takes longer is taken for silent."""
ASKED_EVERY_S: Final = 3.0
RETRY_S: Final = 2.0
WHOLE_EVERY: Final = 100
"""Every so many questions all containers are listed anew, for an event that got lost."""
MOST_WAITING: Final = 50_000
FAILURES: Final = (DockerException, requests.RequestException, OSError)
STRANGE: Final = (KeyError, TypeError, ValueError, AttributeError, MalformedRecord)
"""What an answer of another form than the engine's interface promises raises with us."""

log = structlog.get_logger("collect")


class EventsEnded(OSError):
    """The engine closed the stream of events."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What engine it is: for the first line."""

    version: str
    api: str


class Watch:
    """``containers`` is what is known; ``news`` what happened since it was last asked."""

    def __init__(
        self, docker_host: str, root: Path, here: Here, secrecy: Secrecy, own: OwnActs, clock: Clock
    ) -> None:
        self._root = root
        self._docker_host, self._here, self._secrecy = docker_host, here, secrecy
        self._own, self._clock = own, clock
        self._known: dict[str, Known] = {}
        self._digests: dict[str, tuple[str, ...]] = {}
        self._news: deque[Observation] = deque()
        self._lost = 0
        self._events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._round, self._since = 0, ""
        self._strange: set[str] = set()
        self._silent = False
        self._changing = threading.Lock()
        self._met = threading.Event()
        self._stop = threading.Event()
        self._stream: Any = None
        self.engine: Engine | None = None
        self._thread = threading.Thread(target=self._run, name="docker-watch", daemon=True)

    def start(self, wait_s: float) -> bool:
        """Begin; returns whether the engine told all its containers within that time."""
        self._thread.start()
        return self._met.wait(wait_s)

    def containers(self) -> dict[str, Known]:
        """Every container by id; a new dict whenever it changes."""
        return self._known

    def news(self) -> Iterator[Observation]:
        """What happened since the last call, in order."""
        lost, self._lost = self._lost, 0
        if lost:
            yield self._coverage("events-lost", f"more than {MOST_WAITING} waited", missing=lost)
        with suppress(IndexError):
            while True:
                yield self._news.popleft()

    def stats(self, container: str) -> dict[str, Any]:
        """The engine's figures of one container. Raises: one of FAILURES."""
        version = self.engine.api if self.engine else "auto"
        with self._client(ANSWER_S, version) as api:
            found: dict[str, Any] = api.stats(container, stream=False, one_shot=True)
            return found

    def close(self) -> None:
        self._stop.set()
        self._hang_up()
        if self._thread.is_alive():
            self._thread.join(ANSWER_S + 1.0)

    # ---- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._client(ANSWER_S) as api:
                    self._meet(api)
                    self._follow(api)
            except (*FAILURES, *STRANGE) as problem:
                self._fell_silent(problem)
            finally:
                self._hang_up()
            self._stop.wait(RETRY_S)

    def _client(self, timeout_s: int, version: str = "auto") -> Any:
        return _Closing(self._new_client(timeout_s, version))

    def _new_client(self, timeout_s: int, version: str = "auto") -> Any:
        """Raises: one of FAILURES. The library leaves a socket behind that leads nowhere: we
        try first whether it leads somewhere.
        """
        kind, _, path = self._docker_host.partition("://")
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(timeout_s)
                probe.connect(path)
        return docker.APIClient(self._docker_host, version=version, timeout=timeout_s)

    def _meet(self, api: Any) -> None:
        """Follow events first, then look at everything: nothing falls between."""
        version = api.version()
        self.engine = Engine(version.get("Version", "?"), version.get("ApiVersion", "?"))
        self._round += 1
        self._listen(self._round)
        self._take_stock(api)
        self._met.set()
        if self._silent:
            self._silent = False
            log.info("engine-answers-again", engine=self._docker_host)
            self._tell(self._coverage("engine-silent", "answers again", until=True))

    def _follow(self, api: Any) -> None:
        """Until the engine fails, or we stop."""
        asked = 0
        question = Every(round(ASKED_EVERY_S * 1e9))
        while not self._stop.is_set():
            with suppress(queue.Empty):
                number, event = self._events.get(timeout=0.5)
                if number == self._round:
                    if event is None:
                        raise EventsEnded("the engine closed the stream of events")
                    self._happened(api, event)
            if question.due(self._clock()):
                api.ping()
                asked += 1
                if asked % WHOLE_EVERY == 0:
                    self._take_stock(api)

    def _listen(self, number: int) -> None:
        """Open the stream of events, and read it in a thread that ends with it.

        From the first one on: what happens while the engine does not answer is told later.
        """
        self._since = self._since or _since(self._clock())
        api = self._new_client(ANSWER_S)
        stream = api.events(
            since=self._since, decode=True, filters={"type": ["container", "network"]}
        )
        self._stream = stream

        def read() -> None:
            try:
                with suppress(*FAILURES, *STRANGE):  # closed under its reader
                    for event in stream:
                        self._events.put((number, event))
            finally:
                self._events.put((number, None))
                with suppress(*FAILURES):
                    api.close()

        threading.Thread(target=read, name="docker-events", daemon=True).start()

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(*FAILURES, *STRANGE):  # it may be closed already
                stream.close()

    def _take_stock(self, api: Any) -> None:
        found: dict[str, Known] = {}
        for listed in api.containers(all=True):
            known = self._inspect(api, listed["Id"])
            if known is not None:
                found[known.subject] = known
        with self._changing:
            before = self._known
            gone = before.keys() - found.keys()
            self._known = found | {subject: self._departed(subject) for subject in gone}
        for subject, known in found.items():
            self._booted(before.get(subject), known)

    def _happened(self, api: Any, event: dict[str, Any]) -> None:
        """One event: whom it concerns is known before anything is told of it. Where the
        engine fails us in between, it is asked for this event again.
        """
        try:
            self._look_again(api, event)
            if not self._own.cover(event):
                known = self._known.get(container_of(event))
                told = observation_of(event, known, self._secrecy)
                if told is not None:
                    self._tell(told)
            self._since = _since(int(event["timeNano"]) + 1)
        except STRANGE as problem:
            log.warning("event-not-understood", event=str(event)[:300], problem=_said(problem))
        if action_of(event)[0] == "destroy" and container_of(event) in self._known:
            self._replace(self._departed(container_of(event)))

    def _look_again(self, api: Any, event: dict[str, Any]) -> None:
        """At a container that may be another than we knew, or that we didn't know."""
        container, (action, _) = container_of(event), action_of(event)
        before = self._known.get(container)
        if not container or not (action in REINSPECTED or (before is None and action in TOLD)):
            return
        known = self._inspect(api, container)
        if known is None and before is None and action in TOLD:
            known = self._glimpsed(api, event)
        if known is not None:
            self._replace(known)
            self._booted(before, known)

    def _glimpsed(self, api: Any, event: dict[str, Any]) -> Known:
        """A container that had gone before we looked, from what its event tells of it."""
        attributes = dict(event["Actor"]["Attributes"])
        image = attributes.pop("image", "")
        try:
            image_id = api.inspect_image(image)["Id"] if image else ""
        except (NotFound, APIError):
            image_id = image
        told = {
            "Id": container_of(event), "Name": attributes.pop("name", ""), "Image": image_id,
            "Config": {"Image": image, "Labels": attributes}, "HostConfig": {}, "State": {},
        }  # fmt: skip  # as the engine would have said
        digests = self._image_digests(api, image_id)
        return known_of(told, digests, self._here, self._secrecy, self._clock())

    def _replace(self, known: Known) -> None:
        with self._changing:
            self._known = {**self._known, known.subject: known}

    def _booted(self, before: Known | None, now: Known) -> None:
        """The boot identity at each start, and of what we find running."""
        if now.alive and (before is None or before.entry.started_ns != now.entry.started_ns):
            at_ns = now.entry.started_ns if before is not None else self._clock()
            self._tell(Observation(now.subject, at_ns, now.boot))

    def _departed(self, subject: str) -> Known:
        known = self._known[subject]
        gone = replace(known.entry, state=State.GONE, seen_ns=self._clock(), addresses=())
        return replace(known, entry=gone, pid=0)

    def forget(self, subjects: set[str]) -> None:
        """Containers that are gone, and whose going was told."""
        with self._changing:
            self._known = {s: k for s, k in self._known.items() if s not in subjects}

    def _inspect(self, api: Any, container: str) -> Known | None:
        """None for one that has gone meanwhile, or that we don't understand."""
        try:
            found = api.inspect_container(container)
            digests = self._image_digests(api, found["Image"])
            known = known_of(found, digests, self._here, self._secrecy, self._clock())
        except NotFound:
            return None
        except STRANGE as problem:
            if container not in self._strange:
                self._strange.add(container)
                log.warning("container-not-understood", container=container, problem=_said(problem))
                detail = f"{container[:12]}: {_said(problem)}"
                self._tell(self._coverage("container-not-understood", detail))
            return None
        if known.alive and known.upper is None:
            upper, lowers = layers_of(self._root, known.pid)
            return replace(known, upper=upper, lowers=lowers)
        return known

    def _image_digests(self, api: Any, image: str) -> tuple[str, ...]:
        if image not in self._digests:
            try:
                found = api.inspect_image(image).get("RepoDigests") or ()
            except NotFound:
                return ()
            if len(self._digests) > 4_096:
                self._digests.clear()
            self._digests[image] = tuple(found)
        return self._digests[image]

    def _fell_silent(self, problem: Exception) -> None:
        if self._silent or self._stop.is_set():
            return
        self._silent = True
        log.warning(
            "engine-silent", engine=self._docker_host, problem=_said(problem),
            meanwhile="samples go on from cgroups with the last inventory",
        )  # fmt: skip  # one line
        self._tell(self._coverage("engine-silent", _said(problem)))

    def _tell(self, observation: Observation) -> None:
        if len(self._news) >= MOST_WAITING:
            self._lost += 1
            return
        self._news.append(observation)

    def _coverage(
        self, problem: str, detail: str, *, missing: int = 0, until: bool = False
    ) -> Observation:
        now_ns = self._clock()
        fact = Coverage(problem, detail[:500], missing, now_ns if until else 0)
        return Observation(f"host/{self._here.host}", now_ns, fact)


class _Closing:
    """An API client that is closed at the end."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    def __enter__(self) -> docker.APIClient:
        return self._api

    def __exit__(self, *_: object) -> None:
        with suppress(*FAILURES):
            self._api.close()


def _since(at_ns: int) -> str:
    """A time as the engine takes it."""
    seconds, nanos = divmod(at_ns, 10**9)
    return f"{seconds}.{nanos:09d}"


def _said(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300] or type(problem).__name__


def running(known: Mapping[str, Known]) -> dict[str, Known]:
    return {subject: one for subject, one in known.items() if one.alive}
