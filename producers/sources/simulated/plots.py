"""What happens in each story, interval by interval.

A plot's fields say how large, how fast and on whom; their defaults are the script, which
variations.py varies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from models.records.facts import Change, Direction, FileChange, Lifecycle, Program
from producers.sources.simulated.chance import count, name_of, rough
from producers.sources.simulated.container import Container, usual_boot
from producers.sources.simulated.images import MIB, next_version

if TYPE_CHECKING:
    from producers.sources.simulated.fleet import Fleet
    from producers.sources.simulated.stories import Running

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
DROP_HOST: Final = ("198.51.100.23", 443)
POOL_HOST: Final = ("203.0.113.77", 3333)
PARTNERS_NEW: Final = ("192.0.2.81",)
PORTS_TRIED: Final = (
    21, 22, 23, 80, 111, 135, 139, 443, 445, 1433, 2375, 3306, 3389, 5432, 5672, 5900, 6379,
    8080, 8081, 8443, 9000, 9200, 11211, 27017,
)  # fmt: skip  # a list of numbers


class Plot(Protocol):
    """``begin`` once; then each interval ``step`` before its traffic and ``disturb`` after
    it; ``end`` once.
    """

    def begin(self, fleet: Fleet, running: Running) -> None: ...
    def step(self, fleet: Fleet, running: Running) -> None: ...
    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None: ...
    def end(self, fleet: Fleet, running: Running) -> None: ...


class Quiet:
    """A plot in which nothing happens; each story overrides what it needs."""

    def begin(self, fleet: Fleet, running: Running) -> None:
        """Nothing."""

    def step(self, fleet: Fleet, running: Running) -> None:
        """Nothing."""

    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None:
        """Nothing."""

    def end(self, fleet: Fleet, running: Running) -> None:
        """Nothing."""


@dataclass(frozen=True)
class OneVictim(Quiet):
    """Befalls one container of its part, the second by default. It may pause now and then:
    ``works_s`` on, ``rests_s`` off, in turn.
    """

    at: int = 1
    works_s: float = 60.0
    rests_s: float = 0.0

    def begin(self, fleet: Fleet, running: Running) -> None:
        running.victims.append(fleet.of(running.story.part)[self.at].subject)

    def rests(self, fleet: Fleet, running: Running) -> bool:
        return running.elapsed_s(fleet.now_ns()) % (self.works_s + self.rests_s) > self.works_s

    def victim(self, fleet: Fleet, running: Running) -> Container | None:
        """While it exists and runs."""
        found = fleet.members.get(running.victims[0])
        return found if found is not None and found.running else None

    def end(self, fleet: Fleet, running: Running) -> None:
        if victim := self.victim(fleet, running):
            victim.burden.cores, victim.burden.processes = 0.0, 0
            victim.burden.memory_bytes = 0.0


@dataclass(frozen=True)
class Exfiltration(OneVictim):
    """2.5 MB a second, for as long as it can, to one address outside."""

    bytes_per_s: float = 2.5e6
    to: tuple[str, int] = DROP_HOST

    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None:
        victim = self.victim(fleet, running)
        if victim is None or not victim.reachable or self.rests(fleet, running):
            return
        sent = self.bytes_per_s * seconds * rough(running.rng, 0.15)
        opened = 0 if running.notes.setdefault("opened", 0) else 1
        running.notes["opened"] = 1
        victim.carry((EGRESS, *self.to, "tcp"), sent, sent * 0.012, 1, opened)
        victim.burden.cores = 0.08


@dataclass(frozen=True)
class PartnerAddress(Quiet):
    """Each sibling resolves the partner's name anew within half a minute."""

    within_s: float = 30
    addresses: tuple[str, ...] = PARTNERS_NEW

    def begin(self, fleet: Fleet, running: Running) -> None:
        for container in fleet.of(running.story.part):
            running.notes[container.subject] = int(running.rng.uniform(0, self.within_s))

    def step(self, fleet: Fleet, running: Running) -> None:
        elapsed_s = running.elapsed_s(fleet.now_ns())
        for subject, after_s in running.notes.items():
            if elapsed_s >= after_s:
                fleet.traffic.moved[subject] = {"card-network": self.addresses}
        if elapsed_s > self.within_s:
            fleet.traffic.outside["card-network"] = self.addresses


@dataclass(frozen=True)
class Miner(OneVictim):
    """0.7 cores all the time, and a line to its pool that stays open."""

    cores: float = 0.7
    memory_bytes: float = 9 * MIB
    pool: tuple[str, int] = POOL_HOST

    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None:
        victim = self.victim(fleet, running)
        if victim is None:
            return
        rests = self.rests(fleet, running)
        victim.burden.cores, victim.burden.processes = 0.0 if rests else self.cores, 1
        victim.burden.memory_bytes = self.memory_bytes
        if not victim.reachable or rests:
            return
        shares = count(running.rng, seconds / 8)
        opened = 0 if running.notes.setdefault("opened", 0) else 1
        running.notes["opened"] = 1
        told, heard = 60 * seconds / 5 + shares * 240, 90 * seconds / 5 + shares * 70
        victim.carry((EGRESS, *self.pool, "tcp"), told, heard, 1 + shares, opened)


@dataclass(frozen=True)
class LoadSpike(Quiet):
    """Rises within 20 s, stays, falls within 20 s."""

    times: float = 3.0
    within_s: float = 20

    def step(self, fleet: Fleet, running: Running) -> None:
        now_ns = fleet.now_ns()
        left_s = (running.ends_ns - now_ns) / 1e9
        ramp = min(1.0, running.elapsed_s(now_ns) / self.within_s, left_s / self.within_s)
        fleet.traffic.surge[running.story.part] = 1.0 + (self.times - 1.0) * ramp

    def end(self, fleet: Fleet, running: Running) -> None:
        fleet.traffic.surge.pop(running.story.part, None)


@dataclass(frozen=True)
class DroppedProgram(OneVictim):
    """A file at once; after ten seconds it runs, started by what was broken into."""

    path: str = "/var/tmp/.font-unix/kworkerd"  # noqa: S108  # a path in the simulation
    runs_after_s: float = 10
    cores: float = 0.03

    def step(self, fleet: Fleet, running: Running) -> None:
        victim = self.victim(fleet, running)
        if victim is None:
            return
        digest = name_of("dropped", running.began_ns)
        if "written" not in running.notes:
            running.notes["written"] = 1
            now_ns = fleet.now_ns()
            victim.notice(
                FileChange(
                    self.path,
                    Change.ADDED,
                    executable=True,
                    size_bytes=1_248_336,
                    changed_ns=now_ns,
                    sha256=digest,
                )
            )
        elif running.elapsed_s(fleet.now_ns()) >= self.runs_after_s and "runs" not in running.notes:
            running.notes["runs"] = 1
            parent = victim.profile.programs[0][0]
            victim.notice(
                Program(
                    self.path, in_image=False, parent=parent, user="app", pid=4711, sha256=digest
                )
            )
            victim.burden.processes, victim.burden.cores = 1, self.cores

    def end(self, fleet: Fleet, running: Running) -> None:
        super().end(fleet, running)
        if victim := self.victim(fleet, running):
            victim.programs.pop(self.path, None)


@dataclass(frozen=True)
class Deploy(Quiet):
    """One container after the other, a quarter of a minute apart. The new version needs
    ``dearer`` times the CPU a request, and ``larger`` times the memory.
    """

    apart_s: float = 15
    dearer: float = 1.5
    larger: float = 1.3

    def step(self, fleet: Fleet, running: Running) -> None:
        due = int(running.elapsed_s(fleet.now_ns()) // self.apart_s)
        old = [c for c in fleet.of(running.story.part) if c.started_ns < running.began_ns]
        if due <= running.notes.get("replaced", 0) or not old:
            return
        running.notes["replaced"] = due
        fleet.remove(old[0])
        fleet.create(
            next_version(old[0].profile, self.dearer, self.larger), old[0].name, old[0].host
        )


@dataclass(frozen=True)
class MemoryLeak(OneVictim):
    """A mebibyte a second, which nobody gives back."""

    bytes_per_s: float = MIB

    def step(self, fleet: Fleet, running: Running) -> None:
        victim = self.victim(fleet, running)
        if victim is not None:
            victim.burden.memory_bytes = running.elapsed_s(fleet.now_ns()) * self.bytes_per_s


@dataclass(frozen=True)
class CacheFills(Quiet):
    """One restart; then it fills to where its siblings are."""

    at: int = 0

    def begin(self, fleet: Fleet, running: Running) -> None:
        victim = fleet.of(running.story.part)[self.at]
        victim.notice(Lifecycle("die", exit_code=0))
        victim.restart(fleet.now_ns())


@dataclass(frozen=True)
class PortScan(OneVictim):
    """A dozen attempts a second at whoever has an address; few answer."""

    tries_per_s: float = 12
    ports: tuple[int, ...] = PORTS_TRIED

    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None:
        victim = self.victim(fleet, running)
        if victim is None or not victim.reachable or self.rests(fleet, running):
            return
        others = [c for c in fleet.members.values() if c.reachable and c is not victim]
        for _ in range(count(running.rng, self.tries_per_s * seconds)):
            target, port = running.rng.choice(others), running.rng.choice(self.ports)
            answered = port == target.profile.port
            back = 54.0 if answered else 0.0
            victim.carry((EGRESS, target.address, port, "tcp"), 60, back, 1, 1, answered=answered)
            target.carry((INGRESS, victim.address, port, "tcp"), back, 60, 0, 1, answered=answered)


@dataclass(frozen=True)
class ScaleOut(Quiet):
    """Two more of the same; each now gets less of the work."""

    more: int = 2

    def begin(self, fleet: Fleet, running: Running) -> None:
        siblings = fleet.of(running.story.part)
        for more in range(self.more):
            number = len(siblings) + more
            name = f"shop-{running.story.part}-{number + 1}"
            fleet.create(siblings[0].profile, name, fleet.spread(number))


@dataclass(frozen=True)
class ChangedBoot(Quiet):
    """Under the same name, but with the host's files and all rights."""

    at: int = 1
    command: tuple[str, ...] = (
        "/bin/sh", "-c", "chroot /host /usr/bin/id && exec /app/ledger",
    )  # fmt: skip  # one command
    mounts: tuple[str, ...] = ("/:/host:rw",)
    privileged: bool = True
    user: str = "root"

    def begin(self, fleet: Fleet, running: Running) -> None:
        old = fleet.of(running.story.part)[self.at]
        boot = replace(
            usual_boot(old.profile),
            command=self.command or old.profile.command,
            mounts=(*old.profile.volumes, *self.mounts),
            privileged=self.privileged,
            user=self.user,
        )
        fleet.remove(old)
        running.victims.append(fleet.create(old.profile, old.name, old.host, boot=boot).subject)


@dataclass(frozen=True)
class Restart(Quiet):
    """``docker restart``, nothing more."""

    at: int = 0
    exit_code: int = 0

    def begin(self, fleet: Fleet, running: Running) -> None:
        container = fleet.of(running.story.part)[self.at]
        container.notice(Lifecycle("die", exit_code=self.exit_code))
        container.restart(fleet.now_ns())
