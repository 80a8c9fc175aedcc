"""The simulated fleet: hosts, containers and time, all of it decided by one seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from models.records.facts import BootIdentity, Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry, State
from models.records.samples import Samples
from producers.sources.simulated.chance import chance, name_of
from producers.sources.simulated.container import FEATURES, SCOPE, Container
from producers.sources.simulated.host import POOL, Host
from producers.sources.simulated.images import CATALOGUE, Profile
from producers.sources.simulated.runtime import Runtime
from producers.sources.simulated.stories import STORIES, Running, Story, story_named
from producers.sources.simulated.traffic import Traffic

NS: Final = 10**9
OLDEST_S: Final = 10 * 86_400


class Fleet(Runtime):
    """A fleet whose time moves by ``step`` alone; the same seed makes the same frames.

    ``step`` and what responders do to containers (:class:`Runtime`) may come from
    different threads.
    """

    stories: Final[tuple[Story, ...]] = STORIES

    def __init__(
        self, seed: int, start_ns: int, hosts: int = 3, catalogue: Sequence[Profile] = CATALOGUE
    ) -> None:
        self.lock = threading.RLock()
        self.traffic = Traffic(seed, catalogue)
        self.hosts = [Host(seed, number, start_ns) for number in range(hosts)]
        self.members: dict[str, Container] = {}
        self.running: list[Running] = []
        self._seed, self._now_ns = seed, start_ns
        self._rng = chance(seed, "fleet")
        self._made = 0
        self._told: dict[str, InventoryEntry] = {}
        self._leaving: set[str] = set()
        for at, profile in enumerate(catalogue):
            for number in range(profile.replicas):
                self._settle(profile, number, self.spread(at + number))

    def now_ns(self) -> int:
        """The simulated time: a clock to inject."""
        return self._now_ns

    def containers(self) -> list[InventoryEntry]:
        """What exists now, stopped ones too."""
        with self.lock:
            return [container.entry(self._now_ns) for container in self.members.values()]

    def step(self, seconds: float) -> list[Frame]:
        """Let so much time pass; what each host's collector then writes."""
        with self.lock:
            self._now_ns += round(seconds * NS)
            for running in self.running:
                running.step(self)
            self.traffic.pass_on(self._parts(), seconds, self._now_ns)
            for running in self.running:
                running.disturb(self, seconds)
            frames = [self._frame(host, seconds) for host in self.hosts]
            for subject in self._leaving:
                self.members.pop(subject, None)
            self._leaving.clear()
            return frames

    def begin(self, name: str) -> Running:
        """Start a story; it goes on by itself with each step.

        Raises: KeyError when no story has that name.
        """
        return self.tell(story_named(name))

    def tell(self, story: Story) -> Running:
        """Start any story, a varied one too."""
        with self.lock:
            running = Running(story, self._now_ns, self._seed)
            running.story.plot.begin(self, running)
            self.running.append(running)
            return running

    # ---- for stories and responders ---------------------------------------------------

    def of(self, part: str) -> list[Container]:
        """The running containers of one part, oldest first."""
        return [c for c in self.members.values() if c.profile.name == part and c.running]

    def create(self, profile: Profile, name: str, host: str, *, replaces: str = "",
               boot: BootIdentity | None = None) -> Container:  # fmt: skip  # reads as one line
        """A container that starts now."""
        where = next(one for one in self.hosts if one.machine_id == host)
        self._made += 1
        subject = name_of(self._seed, "container", name, self._made)
        made = Container(
            profile, subject, name, host, where.next_address(), self._seed, self._now_ns,
            replaces, boot,
        )  # fmt: skip  # what it is, then what is special about it
        self.members[subject] = made
        return made

    def remove(self, container: Container) -> None:
        """Stopped and deleted; its last frame says so."""
        container.halt(State.GONE, "destroy")
        self._leaving.add(container.subject)

    def spread(self, number: int) -> str:
        """A host for each number, in turn."""
        return self.hosts[number % len(self.hosts)].machine_id

    def _settle(self, profile: Profile, number: int, host: str) -> None:
        """A container that has run for days when the fleet's time begins."""
        made = self.create(profile, f"shop-{profile.name}-{number + 1}", host)
        made.ages(self._rng.uniform(0.05, 1.0) * OLDEST_S)

    def _parts(self) -> dict[str, list[Container]]:
        parts: dict[str, list[Container]] = {}
        for container in self.members.values():
            parts.setdefault(container.profile.name, []).append(container)
        return parts

    # ---- frames -----------------------------------------------------------------------

    def _frame(self, host: Host, seconds: float) -> Frame:
        here = [c for c in self.members.values() if c.host == host.machine_id]
        alive = [c for c in here if c.state in (State.RUNNING, State.PAUSED)]
        rows = [container.live(seconds, self._now_ns) for container in alive]
        own = host.live(rows, seconds)
        return Frame(
            scope=SCOPE, host=host.machine_id, pool=POOL, producer=host.producer,
            sequence=host.next_sequence(), at_ns=self._now_ns, interval_s=seconds,
            samples=self._samples([*(c.subject for c in alive), host.subject], [*rows, own]),
            observations=tuple(self._observations(host, here, seconds)),
            inventory=tuple(self._changed(host, here)),
        )  # fmt: skip  # as the record orders it

    def _samples(self, subjects: list[str], rows: list[list[float]]) -> Samples:
        count = len(subjects)
        times_ns = np.full(count, self._now_ns, np.int64)
        table = np.ascontiguousarray(np.array(rows, np.float64).T)
        return Samples(FEATURES, tuple(subjects), np.arange(count), times_ns, table)

    def _observations(
        self, host: Host, here: list[Container], seconds: float
    ) -> Iterator[Observation]:
        for container in here:
            for fact in container.facts(seconds, self._now_ns):
                yield Observation(container.subject, self._now_ns, fact)
        for fact in host.facts(seconds, self._now_ns):
            yield Observation(host.subject, self._now_ns, fact)

    def _changed(self, host: Host, here: list[Container]) -> Iterator[InventoryEntry]:
        """The whole inventory with the first frame, later what differs from what was told."""
        for entry in (host.entry(self._now_ns), *(c.entry(self._now_ns) for c in here)):
            if self._told.get(entry.subject) != (unseen := replace(entry, seen_ns=0)):
                self._told[entry.subject] = unseen
                yield entry
