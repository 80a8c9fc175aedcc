"""A Docker host as a source: everything of one sample period, in one place."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import structlog

from models.contract import HOST_PREFIX
from models.records.facts import Coverage, Fact, Interface, Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry, State
from producers.pace import Every
from producers.sources.base import About, Clock
from producers.sources.docker import conntrack
from producers.sources.docker.cgroups import Cgroups
from producers.sources.docker.cgroups import Files as CgroupFiles
from producers.sources.docker.events import OwnActs
from producers.sources.docker.files import Files
from producers.sources.docker.flows import NOBODY, Flows, Traffic
from producers.sources.docker.host import Host, machine_id
from producers.sources.docker.identity import Here, Known
from producers.sources.docker.interfaces import NetworkFile
from producers.sources.docker.listens import Listens
from producers.sources.docker.netlink import Refusals
from producers.sources.docker.programs import REFRESH_NS, Programs
from producers.sources.docker.readings import FEATURES, NAN, Reading, row
from producers.sources.docker.secrecy import Secrecy, deployment_key
from producers.sources.docker.stats import StatsThread
from producers.sources.docker.watch import Watch, running
from producers.sources.framing import Framing, Row

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from producers.settings import Settings

FIRST_ANSWER_S: Final = 10.0
LEFT_NS: Final = 180 * 10**9
"""So long the kernel may remember who called a container that has left its network."""
ENTRIES_A_LOOK: Final = 5_000
"""A table of connections with more entries is looked at less often in proportion."""

log = structlog.get_logger("collect")


class Meter:
    """One container's open files, and its last reading."""

    def __init__(self, known: Known, cgroups: Cgroups, root: Path) -> None:
        self.pid = known.pid
        self.before: Reading | None = None
        self.files: CgroupFiles | None = cgroups.files_of(known.pid, known.subject)
        own = not known.shares and self.files is not None
        self._network = NetworkFile(root / f"proc/{known.pid}/net/dev") if own else None

    def read(self, at_ns: int) -> Reading | None:
        """None where the cgroup's files are out of reach."""
        if self.files is None:
            return None
        reading = self.files.read(at_ns)
        if self._network is not None:
            self._network.fill(reading)
        return reading

    def interfaces(self) -> Iterable[Interface]:
        """What went through each of several since the reading before."""
        return self._network.moved() if self._network is not None else ()

    def close(self) -> None:
        if self.files is not None:
            self.files.close()
        if self._network is not None:
            self._network.close()


class DockerSource:
    """Samples all containers and the host; observes flows, programs, files and events."""

    about: ClassVar[About] = About(
        "docker",
        "containers of a Docker or Podman engine on this host, and the host itself",
        (
            "root, and the host's /proc and /sys: else no programs, files and flows",
            "the engine's socket: else containers can't be told apart",
            "CAP_NET_ADMIN in the host's network: else no flows",
        ),
    )

    def __init__(self, settings: Settings, clock: Clock, secrecy: Secrecy) -> None:
        told = settings.collect
        self._clock, self._told, root = clock, told, told.host_root
        self._root = root
        self._here = Here(settings.scope, machine_id(root))
        self._subject = f"{HOST_PREFIX}{self._here.host}"
        own = OwnActs(settings.data_dir / "acting")
        self._watch = Watch(told.docker_host, root, self._here, secrecy, own, clock)
        self._cgroups, self._host = Cgroups(root), Host(root)
        self._stats = StatsThread(self._watch.stats, clock, told.sample_period_s)
        self._meters: dict[str, Meter] = {}
        self._host_before: Reading | None = None
        self._host_refresh = Every(REFRESH_NS)
        self._connections = self._connection_table()
        self._refusals = self._refused_connections()
        self._flows, self._flows_wait = Flows(self._subject), 0
        self._owned: set[str] = set()  # addresses, at the last look
        self._left: dict[str, int] = {}  # and those that nobody has any more, since when
        self._flows_spent = self._flows_due = 1  # sample periods that a look covers
        self._programs = Programs(root, self._subject, told.hash_most_bytes)
        self._listens = Listens(root, told.files_interval_s, REFRESH_NS)
        self._files = Files(root, told.files_interval_s, told.hash_most_bytes)
        self._framing = Framing(settings.scope, self._here.host, told.pool, FEATURES)
        self._rows: list[Row] = []
        self._observations: list[Observation] = []
        self._inventory: dict[str, InventoryEntry] = {}
        self._frame_ns = 0
        # Whole sample periods, and the same in each frame: gather joins what shares it.
        periods = math.ceil(told.frame_interval_s / told.sample_period_s - 0.5)
        self._interval_s = periods * told.sample_period_s
        self._lacks: list[str] = []

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        """Waits for the engine's first answer, some seconds at most."""
        _many_files()
        key, made = deployment_key(settings.keys_dir)
        source = cls(settings, clock, Secrecy(key))
        answered = source._watch.start(FIRST_ANSWER_S)
        source._lacks = list(source._what_lacks(answered=answered, key_made=made))
        return source

    def opening(self) -> str:
        engine = self._watch.engine
        known = self._watch.containers()
        who = f"Docker engine {engine.version} (API {engine.api})" if engine else "no engine yet"
        seen = (
            f"host {self._here.host[:12]} in pool {self._told.pool}: {who}, "
            f"cgroup v{self._cgroups.version}, {len(running(known))} of {len(known)} "
            "containers running"
        )
        return "; ".join((seen, *self._lacks))

    def poll(self) -> Sequence[Frame]:
        now_ns = self._clock()
        self._observations.extend(self._watch.news())  # before those whom it is about
        known = self._watch.containers()
        alive = running(known)
        traffic = self._look_at_flows(known, now_ns)
        self._observe(now_ns, alive)
        self._sample(now_ns, alive, traffic)
        self._frame_ns = self._frame_ns or now_ns
        waited_s = (now_ns - self._frame_ns) / 1e9
        first = not self._inventory
        if not first and 0 <= waited_s < self._interval_s - self._told.sample_period_s / 2:
            return ()
        self._frame_ns = now_ns
        return self._frames(now_ns, known)

    def close(self) -> None:
        self._watch.close()
        self._stats.close()
        for meter in self._meters.values():
            meter.close()
        self._meters.clear()
        self._listens.close()
        self._host.close()
        if self._refusals is not None:
            self._refusals.close()

    # ---- one look --------------------------------------------------------------------------

    def _look_at_flows(self, known: dict[str, Known], now_ns: int) -> dict[str, Traffic] | None:
        """None where flows can't be seen, or are not due: nothing is known then, not 0."""
        if self._connections is None:
            return None
        if self._flows_wait > 0:
            self._flows_wait -= 1
            return None
        try:
            entries = list(self._connections())
        except OSError as problem:
            log.warning("flows-unseen", problem=str(problem))
            self._connections = None
            return None
        self._flows_spent, self._flows_wait = self._flows_due, len(entries) // ENTRIES_A_LOOK
        self._flows_due = self._flows_wait + 1
        refused = self._refusals.since() if self._refusals is not None else ()
        return self._flows.look(entries, self._owners(known, now_ns), refused)

    def _owners(self, known: dict[str, Known], now_ns: int) -> dict[str, str]:
        """Whose an address is, and was lately. What shares another's network speaks as that one."""
        owners = dict.fromkeys(self._host_addresses(), self._subject)
        for subject, container in running(known).items():
            if not container.shares:
                owners.update(dict.fromkeys(container.entry.addresses, subject))
        self._left |= dict.fromkeys(self._owned - owners.keys(), now_ns)
        self._owned = set(owners)
        self._left = {
            address: since_ns for address, since_ns in self._left.items()
            if address not in owners and 0 <= now_ns - since_ns < LEFT_NS
        }  # fmt: skip  # a condition a line
        return owners | dict.fromkeys(self._left, NOBODY)

    def _host_addresses(self) -> Iterable[str]:
        return self._host_entry().addresses

    def _observe(self, now_ns: int, alive: dict[str, Known]) -> None:
        told: list[tuple[str, object]] = [
            *self._programs.look(now_ns, alive),
            *self._listens.look(now_ns, alive),
            *self._files.look(now_ns, alive),
        ]
        self._observations.extend(
            Observation(subject, now_ns, fact)  # type: ignore[arg-type]  # each is a kind of fact
            for subject, fact in told
        )

    def _sample(
        self, now_ns: int, alive: dict[str, Known], traffic: dict[str, Traffic] | None
    ) -> None:
        self._follow(alive)
        asked = [subject for subject, meter in self._meters.items() if meter.files is None]
        from_engine = self._stats.latest(asked)
        for subject, meter in self._meters.items():
            reading = meter.read(now_ns) or from_engine.get(subject)
            if reading is None or (meter.before and reading.at_ns == meter.before.at_ns):
                continue  # the engine has told nothing since
            opened, peers = self._talked(subject, alive[subject], traffic)
            limit = alive[subject].entry.memory_limit_bytes
            values = row(reading, meter.before, limit, opened, peers)
            meter.before = reading
            self._keep_row(subject, reading.at_ns, values)
            self._tell(subject, reading.at_ns, meter.interfaces())
        self._sample_host(now_ns, traffic)
        for subject, one in (traffic or {}).items():
            told, left_out = one.told()
            self._tell(subject, now_ns, told)
            if left_out:
                fact = Coverage("connections-not-told", "the smallest were left out", left_out)
                self._tell(subject, now_ns, [fact])

    def _tell(self, subject: str, at_ns: int, facts: Iterable[Fact]) -> None:
        self._observations.extend(Observation(subject, at_ns, fact) for fact in facts)

    def _follow(self, alive: dict[str, Known]) -> None:
        """A meter for each that runs: a new one when it was restarted."""
        for subject in list(self._meters):
            container = alive.get(subject)
            if container is None or container.pid != self._meters[subject].pid:
                self._meters.pop(subject).close()
        for subject, container in alive.items():
            if subject not in self._meters:
                self._meters[subject] = Meter(container, self._cgroups, self._root)

    def _talked(
        self, subject: str, container: Known | None, traffic: dict[str, Traffic] | None
    ) -> tuple[float, float]:
        """Connections opened, and peers."""
        if traffic is None or (container is not None and container.shares):
            return NAN, NAN
        one = traffic.get(subject)
        return (one.opened / self._flows_spent, float(one.peers)) if one else (0.0, 0.0)

    def _sample_host(self, now_ns: int, traffic: dict[str, Traffic] | None) -> None:
        reading = self._host.read(now_ns, float(self._programs.counts()))
        opened, peers = self._talked(self._subject, None, traffic)
        total = self._host.memory_total_bytes
        self._keep_row(self._subject, now_ns, row(reading, self._host_before, total, opened, peers))
        self._tell(self._subject, now_ns, self._host.interfaces())
        self._host_before = reading

    def _keep_row(self, subject: str, at_ns: int, values: list[float]) -> None:
        if any(value == value for value in values):  # noqa: PLR0124  # NaN is what differs from itself
            self._rows.append((subject, at_ns, values))

    # ---- frames ----------------------------------------------------------------------------

    def _frames(self, now_ns: int, known: dict[str, Known]) -> list[Frame]:
        inventory = list(self._changed(known))
        made = self._framing.frames(
            now_ns, self._interval_s, self._rows, self._observations, inventory
        )
        self._rows, self._observations = [], []
        return made

    def _changed(self, known: dict[str, Known]) -> Iterator[InventoryEntry]:
        """The whole inventory at first, then what differs from what was told."""
        gone: set[str] = set()
        for entry in (self._host_entry(), *(one.entry for one in known.values())):
            told = self._inventory.get(entry.subject)
            if told is entry:
                continue  # not looked at again since
            self._inventory[entry.subject] = entry
            if told is None or told != replace(entry, seen_ns=told.seen_ns):
                yield entry
            if entry.state is State.GONE:
                gone.add(entry.subject)
        self._watch.forget(gone)
        for subject in gone:
            del self._inventory[subject]

    def _host_entry(self) -> InventoryEntry:
        now_ns = self._clock()
        if self._host_refresh.due(now_ns):
            self._host_told = self._host.entry(self._here, self._told.pool, now_ns)
        return self._host_told

    _host_told: InventoryEntry

    # ---- what we lack ----------------------------------------------------------------------

    def _connection_table(self) -> Callable[[], Iterable[conntrack.Entry]] | None:
        with suppress(OSError):
            return conntrack.reader(self._root)
        return None

    def _refused_connections(self) -> Refusals | None:
        with suppress(OSError):
            return Refusals()
        return None

    def _what_lacks(self, *, answered: bool, key_made: bool) -> Iterator[str]:
        """What we can't see, what that costs, what to do."""
        if not answered:
            yield (
                f"the engine at {self._told.docker_host} does not answer: no container is "
                "seen until it does"
            )
        if not self._cgroups.readable:
            yield "no cgroup files: figures come from the engine, at several times the cost"
        if self._connections is None:
            yield "no connection table (needs CAP_NET_ADMIN and nf_conntrack): no flows"
        else:
            yield from self._what_flows_lack()
        if key_made:
            yield "made a deployment key of its own: copy it to the other hosts"

    def _what_flows_lack(self) -> Iterator[str]:
        if conntrack.switched_on(self._root, conntrack.ACCOUNTING) is False:
            if self._told.conntrack_accounting and conntrack.switch_on(
                self._root, conntrack.ACCOUNTING
            ):
                yield "switched on net.netfilter.nf_conntrack_acct: new flows carry bytes"
            else:
                yield (
                    "flows carry no bytes: sysctl -w net.netfilter.nf_conntrack_acct=1 changes that"
                )
        if conntrack.switched_on(self._root, conntrack.BRIDGED) is not True:
            yield (
                "traffic between containers of one bridge is not seen: load br_netfilter and "
                "set net.bridge.bridge-nf-call-iptables=1"
            )


def _many_files() -> None:
    """Several files stay open for each container."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
