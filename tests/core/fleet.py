"""A small deterministic lineage: loads, noise, facts, attacks and their benign twins.

Written to be plausible, not to please the detector: shared load, each container's own level
and noise, heavy tails, rare jobs of one container alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from models.features import MEASURED, Array
from models.pipeline import Arrival, Core, Judgement, judge, tick
from models.records.facts import (
    BootIdentity,
    Change,
    Connection,
    Direction,
    Fact,
    FileChange,
    Lifecycle,
    Observation,
    Program,
)
from models.records.samples import Samples
from models.records.telemetry import Batch, Member, Sightings, Tick
from models.records.verdict import Finding, Level, Summary, Verdict
from models.state import LineageState

START_NS = 1_790_000_000 * 10**9
NAMES = tuple(feature.name for feature in MEASURED)
AT = {name: at for at, name in enumerate(NAMES)}
CPU, MEMORY = AT["cpu_cores"], AT["memory_working_set_bytes"]
RX, TX = AT["network_receive_bytes_per_s"], AT["network_transmit_bytes_per_s"]
RXP, TXP = AT["network_receive_packets_per_s"], AT["network_transmit_packets_per_s"]
OPENED, PEERS = AT["network_connections_opened_per_s"], AT["network_peers"]
PROCESSES, DISK_W = AT["processes"], AT["disk_write_bytes_per_s"]


@dataclass(frozen=True)
class Character:
    """What an image is like under a load of 1."""

    cpu: float = 0.3
    memory: float = 250e6
    received: float = 20e3
    answer: float = 3.0
    opened: float = 5.0
    peers: tuple[str, ...] = ("@shop/database:5432", "203.0.113.20:443")
    noise: float = 0.15
    crawls: int = 0
    jobs_per_h: float = 0.0


CHARACTERS = {
    "web": Character(),
    "database": Character(cpu=0.6, memory=2e9, received=60e3, answer=5.0, opened=1.0, peers=()),
    "crawler": Character(cpu=0.2, received=200e3, answer=0.1, opened=8.0, crawls=3),
    "idle": Character(cpu=0.001, memory=4e6, received=60.0, answer=0.5, opened=0.0, peers=()),
    "worker": Character(cpu=0.15, answer=1.0, jobs_per_h=2.0, noise=0.3),
}


@dataclass
class Pod:
    """One container: its own level and slow noise."""

    member: Member
    own: float
    drift: float = 0.0
    memory: float = 0.0
    job_until_s: float = -1.0
    new: bool = True


@dataclass
class Lineage:
    """Siblings of one image; ``next`` gives the records of one interval."""

    kind: str
    seed: int
    step_s: float
    siblings: int = 4
    name: str = ""
    now_s: float = 0.0
    load: float = 1.0
    version: int = 1
    pods: list[Pod] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.name or f"shop/{self.kind}"
        self.rng = np.random.default_rng([self.seed, *self.name.encode()])
        self.wave = 0.0
        self.born = 0
        for _ in range(self.siblings):
            self.add()

    @property
    def character(self) -> Character:
        return CHARACTERS[self.kind]

    @property
    def image(self) -> str:
        return f"{self.name}@sha256:{self.version:064d}"

    @property
    def group(self) -> str:
        return f"default/{self.name}/"

    def add(self, host: int | None = None) -> Pod:
        self.born += 1
        subject = f"{abs(hash_of(self.name)) % 10**8:08d}{self.born:056d}"
        started = START_NS + int(self.now_s * 1e9) if self.now_s else START_NS - 10**12
        place = f"host-{(self.born if host is None else host) % 3}"
        member = Member(subject, place, self.image, f"{self.name}-{self.born}", started)
        pod = Pod(member, float(np.exp(self.rng.normal(0, 0.15))))
        self.pods.append(pod)
        return pod

    def _age_s(self, pod: Pod) -> float:
        return self.now_s - (pod.member.started_ns - START_NS) / 1e9

    def values(self, pod: Pod) -> Array:
        """One sample in the units of MEASURED."""
        kind, rng = self.character, self.rng
        pod.drift = 0.9 * pod.drift + rng.normal(0, kind.noise * 0.4)
        work = (
            self.load * pod.own * float(np.exp(self.wave + pod.drift + rng.normal(0, kind.noise)))
        )
        if rng.random() < 0.01:
            work *= 1.0 + rng.pareto(3.0)
        row = np.zeros(len(NAMES))
        job = kind.jobs_per_h and self._job(pod)
        row[CPU] = kind.cpu * (0.1 + 0.9 * work) + (0.6 if job else 0.0)
        pod.memory = 0.95 * pod.memory + rng.normal(0, 0.004)
        warm = min(1.0, 0.6 + 0.4 * self._age_s(pod) / 120.0)
        row[MEMORY] = kind.memory * warm * pod.own**0.2 * float(np.exp(pod.memory + 0.01 * work))
        row[RX] = kind.received * work * float(np.exp(rng.normal(0, 0.1)))
        row[TX] = row[RX] * kind.answer * float(np.exp(rng.normal(0, 0.1)))
        row[RXP] = row[RX] / 400 + 1.0 + row[TX] / 3000
        row[TXP] = row[TX] / 700 + 1.0 + row[RX] / 1500
        row[OPENED] = rng.poisson(kind.opened * work * self.step_s) / self.step_s
        row[PEERS] = len(kind.peers) + rng.poisson(2 + kind.crawls) if kind.opened else 0
        row[PROCESSES] = 4
        row[DISK_W] = 5e3 * rng.pareto(2.5)
        row[AT["disk_read_bytes_per_s"]] = 2e3 * rng.pareto(2.5)
        row[AT["cpu_throttled_ratio"]] = max(0.0, row[CPU] / 2 - 0.8)
        row[AT["memory_limit_ratio"]] = row[MEMORY] / (4 * kind.memory)
        if self._age_s(pod) < 25:
            row[CPU] += 0.5
            row[DISK_W] += 1e6
        return row

    def _job(self, pod: Pod) -> bool:
        if self.now_s > pod.job_until_s and self.rng.random() < (
            self.character.jobs_per_h * self.step_s / 3600
        ):
            pod.job_until_s = self.now_s + 20 + self.rng.exponential(30)
        return self.now_s <= pod.job_until_s

    def facts(self, pod: Pod, row: Array) -> list[Fact]:
        """What it shows in one interval."""
        found: list[Fact] = []
        if pod.new:
            pod.new = False
            found += [
                Program("/usr/bin/server", in_image=True, parent=""),
                Program("/bin/sh", in_image=True, parent="/usr/bin/server"),
                BootIdentity(self.image, ("server",), environment={"HOST": pod.member.name}),
            ]
        for peer in self.character.peers:
            if self.rng.random() < 0.9:
                found.append(connection(peer, int(row[TX] * self.step_s / 4)))
        for _ in range(self.rng.poisson(self.character.crawls)):
            a, b = self.rng.integers(0, 255, 2)
            found.append(connection(f"100.{64 + a % 60}.{b}.7:443", 2_000))
        if self.character.opened:
            client = f"192.0.2.{self.rng.integers(1, 250)}"
            found.append(Connection(Direction.INGRESS, client, 8080, "tcp", 900, 400))
        return found

    def next(self, change: Story | None = None) -> list[Arrival]:
        """Let an interval pass."""
        self.now_s += self.step_s
        at_ns = START_NS + int(self.now_s * 1e9)
        tau = np.exp(-self.step_s / 300)
        self.wave = tau * self.wave + self.rng.normal(0, 0.25 * np.sqrt(1 - tau**2))
        rows, told = [], []
        pods = list(self.pods)
        for place, pod in enumerate(pods):
            row = self.values(pod)
            facts = self.facts(pod, row)
            if change is not None:
                change(self, place, row, facts)
            rows.append(row)
            told += [Observation(pod.member.subject, at_ns, fact) for fact in facts]
        members = tuple(pod.member for pod in pods)
        samples = Samples(
            NAMES, tuple(m.subject for m in members), np.arange(len(rows)),
            np.full(len(rows), at_ns), np.array(rows).T,
        )  # fmt: skip
        records: list[Batch | Sightings] = [
            Batch("default", self.name, "", members, samples, self.step_s)
        ]
        if told:
            records.append(Sightings("default", self.name, "", members, tuple(told)))
        return [Arrival(self.group, record, at_ns + 2 * 10**8) for record in records]


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[-6:], "big")


def connection(
    peer: str, sent: int = 1_000, *, answered: bool = True, opened: int = 1
) -> Connection:
    address, _, port = peer.rpartition(":")
    lineage = address[1:] if address.startswith("@") else ""
    return Connection(
        Direction.EGRESS, "172.18.0.9" if lineage else address, int(port), "tcp", sent,
        sent // 3, sent // 700 + 1, sent // 2000 + 1, opened, answered, lineage,
    )  # fmt: skip


Story = Callable[[Lineage, int, Array, list[Fact]], None]


@dataclass
class Watch:
    """Runs lineages through the core, ticks included, and keeps what it said."""

    core: Core = field(default_factory=Core)
    states: dict[str, LineageState] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    duplicates: int = 0

    def take(self, judged: Judgement) -> None:
        self.states.update(judged.states)
        self.verdicts += judged.verdicts
        self.findings += judged.findings
        self.summaries += judged.summaries
        self.duplicates += judged.duplicates

    def run(self, lineages: list[Lineage], seconds: float, change: Story | None = None) -> None:
        """``change`` is applied to the first lineage."""
        until_s = lineages[0].now_s + seconds
        while lineages[0].now_s < until_s - 1e-9:
            arrivals = [
                arrival
                for at, lineage in enumerate(lineages)
                for arrival in lineage.next(change if at == 0 else None)
            ]
            self.take(judge(self.states, arrivals, self.core))
            now_s = lineages[0].now_s
            if now_s % 5 < lineages[0].step_s:
                self.take(tick(self.states, Tick(START_NS + int(now_s * 1e9)), self.core))

    def worst(self, from_s: float = 0.0) -> Level:
        """The highest level found since."""
        levels = [f.verdict.level for f in self.findings
                  if f.verdict.at_ns >= START_NS + from_s * 1e9]  # fmt: skip
        return max(levels, key=lambda level: level.rank, default=Level.QUIET)

    def reached(self, subject: str, level: Level, from_s: float) -> float | None:
        """Seconds until a finding of at least that level on this subject."""
        for finding in self.findings:
            verdict = finding.verdict
            passed_s = (verdict.at_ns - START_NS) / 1e9 - from_s
            if passed_s >= 0 and verdict.subject == subject and verdict.level.rank >= level.rank:
                return passed_s
        return None


ATTACKER = "198.51.100.9:443"


def exfiltration(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and lineage.now_s >= begin_s:
            row[TX] += 800e3
            row[TXP] += 600
            row[RXP] += 300
            row[RX] += 16e3
            row[PEERS] += 1
            facts.append(connection(ATTACKER, int(800e3 * lineage.step_s)))

    return change


def miner(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and lineage.now_s >= begin_s:
            row[CPU] += 0.8
            row[TX] += 150
            row[RX] += 200
            row[TXP] += 1
            row[PEERS] += 1
            facts.append(connection("198.51.100.44:3333", int(150 * lineage.step_s), opened=0))

    return change


def dropped_program(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and begin_s <= lineage.now_s < begin_s + lineage.step_s:
            facts.append(FileChange("/tmp/.x/agent", Change.ADDED, executable=True))
            facts.append(Program("/tmp/.x/agent", in_image=False, parent="/bin/sh"))

    return change


def memory_leak(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and lineage.now_s >= begin_s:
            row[MEMORY] += lineage.character.memory * 0.12 * (lineage.now_s - begin_s) / 60

    return change


def port_scan(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        passed_s = lineage.now_s - begin_s
        if place == 0 and 0 <= passed_s < 30:
            per_s = 20
            row[OPENED] += per_s
            row[TXP] += 2 * per_s
            row[TX] += 80 * per_s
            row[PEERS] += min(12, per_s)
            first = int(passed_s * per_s)
            facts += [
                connection(f"@shop/{n % 6}:{1000 + n}", 60, answered=False)
                for n in range(first, first + int(per_s * lineage.step_s))
            ]

    return change


def changed_boot(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and begin_s <= lineage.now_s < begin_s + lineage.step_s:
            facts.append(BootIdentity(lineage.image, ("sh", "-c", "x"), mounts=("/:/host",),
                                      environment={"HOST": "a"}, privileged=True))  # fmt: skip

    return change


def partner_address(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if lineage.now_s >= begin_s + 8 * place:
            sent = int(row[TX] * lineage.step_s / 2)
            facts.append(connection("203.0.113.77:443", sent))

    return change


def load_spike(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if begin_s <= lineage.now_s < begin_s + 180:
            lineage.load = 1 + 4 * min(1.0, (lineage.now_s - begin_s) / 20)
        else:
            lineage.load = 1.0

    return change


def deploy(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        pod = lineage.pods[place]
        due_s = begin_s + 30 * place
        if lineage.version == 1 and lineage.now_s >= begin_s:
            lineage.version = 2
        if pod.member.image.endswith(f"{1:064d}") and lineage.now_s >= due_s:
            fresh = lineage.add()
            lineage.pods.pop()
            lineage.pods[place] = fresh
        elif lineage.version == 2 and not pod.member.image.endswith(f"{1:064d}"):
            row[[CPU, TX]] *= 1.8
            row[MEMORY] *= 1.5
            row[PROCESSES] += 6
            facts.append(connection("203.0.113.99:8443", 5_000))
            if pod.new is False and len(facts) > 5:
                facts.append(Program("/usr/bin/sidecar", in_image=True, parent="/usr/bin/server"))

    return change


def cache_fills(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        pod = lineage.pods[place]
        if place == 0 and lineage.now_s >= begin_s and pod.member.started_ns < START_NS:
            started = START_NS + int(lineage.now_s * 1e9)
            pod.member = dataclasses.replace(pod.member, started_ns=started)
            pod.new = True

    return change


def restart(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and begin_s <= lineage.now_s < begin_s + lineage.step_s:
            facts.append(Lifecycle("die", 137))
            row[[RX, TX, RXP, TXP, CPU]] = np.nan
        cache_fills(begin_s)(lineage, place, row, facts)

    return change


def scale_out(begin_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and begin_s <= lineage.now_s < begin_s + lineage.step_s:
            lineage.add()
            lineage.add()
            lineage.load = 4 / 6

    return change


STORIES: dict[str, tuple[Callable[[float], Story], Level, float]] = {
    "exfiltration": (exfiltration, Level.COMPROMISED, 60),
    "miner": (miner, Level.COMPROMISED, 60),
    "dropped-program": (dropped_program, Level.COMPROMISED, 60),
    "memory-leak": (memory_leak, Level.CORRUPTED, 300),
    "port-scan": (port_scan, Level.COMPROMISED, 60),
    "changed-boot": (changed_boot, Level.COMPROMISED, 60),
}
TWINS: dict[str, Callable[[float], Story]] = {
    "partner-address": partner_address,
    "load-spike": load_spike,
    "deploy": deploy,
    "cache-fills": cache_fills,
    "restart": restart,
    "scale-out": scale_out,
}
