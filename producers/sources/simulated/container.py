"""One simulated container: what it is, what it did during the interval, what it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from models.records.facts import (
    BootIdentity,
    Change,
    Connection,
    Direction,
    Fact,
    FileChange,
    Lifecycle,
    Listen,
    Program,
)
from models.records.inventory import InventoryEntry, State
from producers.sources.simulated.chance import Chance, Drift, chance, count, name_of, rough
from producers.sources.simulated.images import Profile

FEATURES: Final = (
    "cpu_cores",
    "cpu_throttled_ratio",
    "memory_working_set_bytes",
    "memory_limit_ratio",
    "disk_read_bytes_per_s",
    "disk_write_bytes_per_s",
    "network_receive_bytes_per_s",
    "network_transmit_bytes_per_s",
    "network_receive_packets_per_s",
    "network_transmit_packets_per_s",
    "network_connections_opened_per_s",
    "network_peers",
    "processes",
)
REFRESH_NS: Final = 60 * 10**9
"""Programs and open ports are told again this often, as the real collector does."""
SCOPE: Final = "default"

FlowKey = tuple[Direction, str, int, str]


@dataclass(slots=True)
class Flow:
    """What went between a container and one peer during the interval."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    received_packets: int = 0
    opened: int = 0
    answered: bool = True

    def add(self, sent: float, received: float, calls: float, opened: int) -> None:
        self.sent_bytes += int(sent)
        self.received_bytes += int(received)
        self.sent_packets += packets(sent, received, calls)
        self.received_packets += packets(received, sent, calls)
        self.opened += opened


def packets(there: float, back: float, calls: float) -> int:
    """Full segments one way, and an acknowledgement for every two of the other."""
    return int(math.ceil(there / 1_400) + back / 2_800 + calls)


@dataclass(slots=True)
class Burden:
    """What a story lays on a container beside its work."""

    cores: float = 0.0
    memory_bytes: float = 0.0
    processes: int = 0


@dataclass(slots=True)
class Counters:
    """Since the container's start, as its interfaces count."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    received_packets: int = 0


@dataclass(slots=True)
class Container:
    """A container; the fleet moves it on, the runtime's methods act on it."""

    profile: Profile
    subject: str
    name: str
    host: str
    address: str
    seed: int
    started_ns: int
    replaces: str = ""
    identity: BootIdentity | None = None
    """How it boots, where not as its image usually does."""
    state: State = State.RUNNING
    connected: bool = True
    boot: BootIdentity = field(init=False)
    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    burden: Burden = field(default_factory=Burden)
    counters: Counters = field(default_factory=Counters)
    programs: dict[str, Program] = field(default_factory=dict)
    files: dict[str, FileChange] = field(default_factory=dict)
    requests: float = 0.0
    filled: float = 0.0
    _news: list[Fact] = field(default_factory=list)
    _refreshed_ns: int = 0
    _counting: bool = False
    _rng: Chance = field(init=False)
    _haste: Drift = field(init=False)
    _girth: Drift = field(init=False)
    _offset: float = field(init=False)

    def __post_init__(self) -> None:
        self._rng = chance(self.seed, self.subject)
        self._haste = Drift(self._rng, 0.06, 40.0)
        self._girth = Drift(self._rng, 0.012, 120.0)
        self._offset = math.exp(self._rng.gauss(0.0, 0.06))
        self.boot = self.identity or usual_boot(self.profile)
        self._starts()

    # ---- what it is -------------------------------------------------------------------

    @property
    def image(self) -> str:
        digest = name_of("image", self.profile.name, self.profile.version)
        return f"{self.profile.lineage}@sha256:{digest}"

    @property
    def role(self) -> str:
        return self.profile.name

    @property
    def running(self) -> bool:
        return self.state is State.RUNNING

    @property
    def reachable(self) -> bool:
        return self.running and self.connected

    def entry(self, now_ns: int) -> InventoryEntry:
        return InventoryEntry(
            scope=SCOPE, subject=self.subject, host=self.host, image=self.image,
            lineage=self.profile.lineage, role=self.role, name=self.name, state=self.state,
            started_ns=self.started_ns, seen_ns=now_ns,
            labels={"com.docker.compose.service": self.profile.name},
            addresses=(self.address,) if self.connected else (),
            networks=("shop",) if self.connected else (),
            memory_limit_bytes=self.profile.memory_limit_bytes,
            cpu_limit_cores=self.profile.cpu_limit_cores, replaces=self.replaces,
        )  # fmt: skip  # as the record orders it

    def age_s(self, now_ns: int) -> float:
        return (now_ns - self.started_ns) / 1e9

    def ready(self, now_ns: int) -> bool:
        """Whether it takes requests yet: half of its start-up is over."""
        return self.reachable and self.age_s(now_ns) > self.profile.start_s / 2

    # ---- what happens to it -----------------------------------------------------------

    def restart(self, now_ns: int) -> None:
        """The same container from its first second on; files stay, memory does not."""
        self.started_ns, self.state = now_ns, State.RUNNING
        self._starts()

    def ages(self, seconds: float) -> None:
        """It has run for so long already: warm, and nothing new about it."""
        self.started_ns -= int(seconds * 1e9)
        self.filled = 1.0 - math.exp(-seconds / self.profile.fill_time_s)
        self._counting = True
        self._news = [fact for fact in self._news if not isinstance(fact, Lifecycle)]

    def halt(self, state: State, event: str) -> None:
        self.state = state
        self.flows.clear()
        self.requests = 0.0
        self._news.append(Lifecycle(event, exit_code=0 if event == "die" else None))

    def resume(self) -> None:
        self.state = State.RUNNING
        self._news.append(Lifecycle("unpause"))

    def notice(self, fact: Fact) -> None:
        """Something that the collector will tell with the next frame."""
        if isinstance(fact, FileChange):
            self.files[fact.path] = fact
        if isinstance(fact, Program):
            self.programs[fact.executable] = fact
        self._news.append(fact)

    def _starts(self) -> None:
        self.filled, self._counting, self._refreshed_ns = 0.0, False, 0
        self.burden, self.counters = Burden(), Counters()
        self.flows.clear()
        self.programs = {
            executable: Program(executable, in_image=True, parent=parent, user="app", pid=at + 1)
            for at, (executable, parent) in enumerate(self.profile.programs)
        }
        self._news += [Lifecycle("start"), self.boot]

    # ---- what it does -----------------------------------------------------------------

    def carry(
        self,
        key: FlowKey,
        sent: float,
        received: float,
        calls: float = 1.0,
        opened: int = 0,
        *,
        answered: bool = True,
    ) -> None:
        """Traffic of this interval, seen from here."""
        flow = self.flows.setdefault(key, Flow(answered=answered))
        flow.add(sent, received, calls, opened)

    def live(self, seconds: float, now_ns: int) -> list[float]:
        """Work for an interval: its sample, in the order of ``FEATURES``."""
        rates = [
            *self._cores(seconds, now_ns),
            *self._disk(seconds, now_ns),
            *self._network(seconds),
        ]
        if not self._counting:  # the first look at a counter gives no rate
            rates[:8] = [math.nan] * 8
            self._counting = True
        memory = self._memory(seconds)
        cpu, throttled, *rest = rates
        share = memory / self.profile.memory_limit_bytes
        return [cpu, throttled, memory, share, *rest, float(self._processes())]

    def _cores(self, seconds: float, now_ns: int) -> tuple[float, float]:
        if not self.running:
            return 0.0, 0.0
        profile, age_s = self.profile, self.age_s(now_ns)
        work = self.requests / seconds * profile.cpu_s_per_request * self._offset
        start = profile.start_cpu_cores * max(0.0, 1.0 - age_s / profile.start_s)
        idle = profile.idle_cores * rough(self._rng, 0.08)
        wanted = idle + work * self._haste.after(seconds) * rough(self._rng, 0.05) + start
        wanted += self.burden.cores * rough(self._rng, 0.02)
        used = min(wanted, profile.cpu_limit_cores)
        crowded = max(0.0, used / profile.cpu_limit_cores - 0.8) * 0.3
        return used, max(crowded, 1.0 - used / wanted)

    def _memory(self, seconds: float) -> float:
        profile = self.profile
        if self.running:
            self.filled += (1.0 - self.filled) * (1.0 - math.exp(-seconds / profile.fill_time_s))
        usual = profile.memory_base_bytes + profile.memory_fill_bytes * self.filled
        working = usual * self._offset**0.3 * self._girth.after(seconds) + self.burden.memory_bytes
        return float(int(min(working, profile.memory_limit_bytes)) // 4096 * 4096)

    def _disk(self, seconds: float, now_ns: int) -> tuple[float, float]:
        if not self.running:
            return 0.0, 0.0
        profile, rate = self.profile, self.requests / seconds
        read = rate * profile.disk_read_bytes_per_request * rough(self._rng, 0.3)
        if self.age_s(now_ns) < profile.start_s:
            read += profile.memory_base_bytes / profile.start_s
        write = rate * profile.disk_write_bytes_per_request * rough(self._rng, 0.2)
        return read, write

    def _network(self, seconds: float) -> tuple[float, ...]:
        flows = self.flows.values()
        sent, received = sum(f.sent_bytes for f in flows), sum(f.received_bytes for f in flows)
        out, back = sum(f.sent_packets for f in flows), sum(f.received_packets for f in flows)
        total = self.counters
        total.sent_bytes += sent
        total.received_bytes += received
        total.sent_packets += out
        total.received_packets += back
        opened = sum(flow.opened for flow in flows)
        peers = float(len({peer for _, peer, _, _ in self.flows}))
        return (
            received / seconds,
            sent / seconds,
            back / seconds,
            out / seconds,
            opened / seconds,
            peers,
        )

    def _processes(self) -> int:
        busy = count(self._rng, 0.3) if self.profile.errands else 0
        return self.profile.processes + self.burden.processes + busy

    # ---- what it shows ----------------------------------------------------------------

    def facts(self, seconds: float, now_ns: int) -> Iterator[Fact]:
        """All that is discrete about the interval."""
        yield from self._news
        self._news.clear()
        if not self.running:
            return
        if now_ns - self._refreshed_ns >= REFRESH_NS:
            self._refreshed_ns = now_ns
            yield from self.programs.values()
            yield Listen(self.profile.port, "tcp", "0.0.0.0")  # noqa: S104  # what it shows, not ours
        yield from self._errands(seconds)
        yield from self._connections()

    def _errands(self, seconds: float) -> Iterator[Fact]:
        if self.profile.errands and self._rng.random() < seconds / 30:
            program, parent = self._rng.choice(self.profile.errands)
            yield Program(program, in_image=True, parent=parent, user="app")
        if self.profile.changing_files and self._rng.random() < seconds / 45:
            yield self._file_written()

    def _file_written(self) -> FileChange:
        path = self._rng.choice(self.profile.changing_files)
        if path.startswith("/tmp/"):  # noqa: S108  # a path in the simulation
            path = f"{path}-{self._rng.getrandbits(24):06x}"
        return FileChange(path, Change.CHANGED, size_bytes=int(4096 * rough(self._rng, 0.8)))

    def _connections(self) -> Iterator[Connection]:
        for (direction, peer, port, protocol), flow in self.flows.items():
            yield Connection(
                direction, peer, port, protocol, flow.sent_bytes, flow.received_bytes,
                flow.sent_packets, flow.received_packets, flow.opened, flow.answered,
            )  # fmt: skip  # as the record orders it


def usual_boot(profile: Profile) -> BootIdentity:
    """How this image is always started; environment values as the HMACs that leave a host."""
    names = ("PATH", "HOSTNAME_SUFFIX", f"{profile.name.upper().replace('-', '_')}_SECRET")
    return BootIdentity(
        image=f"{profile.lineage}@sha256:{name_of('image', profile.name, profile.version)}",
        command=profile.command,
        environment={name: name_of("hmac", profile.name, name, digits=32) for name in names},
        mounts=profile.volumes,
        user="app",
        network_mode="shop",
    )
