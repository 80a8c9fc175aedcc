"""A simulated host: its own programs, its own figures, its frames' sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from models.contract import HOST_PREFIX
from models.records.facts import Connection, Direction, Fact, Listen, Program
from models.records.inventory import InventoryEntry
from producers.sources.simulated.chance import Drift, chance, count, name_of, rough
from producers.sources.simulated.container import REFRESH_NS, SCOPE
from producers.sources.simulated.images import OUTSIDE

POOL: Final = "shop"
DAEMONS: Final = (
    ("/usr/lib/systemd/systemd", ""),
    ("/usr/bin/dockerd", "/usr/lib/systemd/systemd"),
    ("/usr/bin/containerd", "/usr/lib/systemd/systemd"),
    ("/usr/sbin/sshd", "/usr/lib/systemd/systemd"),
    ("/usr/sbin/cron", "/usr/lib/systemd/systemd"),
    ("/usr/bin/node_exporter", "/usr/lib/systemd/systemd"),
)
MEMORY_BYTES: Final = 16 << 30


class Host:
    """One machine of the simulated fleet."""

    def __init__(self, seed: int, number: int, started_ns: int) -> None:
        self.machine_id = name_of(seed, "host", number, digits=32)
        self.name = f"node-{number + 1}"
        self.number = number
        self.subject = f"{HOST_PREFIX}{self.machine_id}"
        self.address = f"192.168.17.{number + 11}"
        self.producer = name_of(seed, "collector", number, started_ns, digits=32)
        self.sequence = 0
        self._started_ns = started_ns - 20 * 86_400 * 10**9
        self._rng = chance(seed, "host", number)
        self._own = Drift(self._rng, 0.08, 60.0)
        self._given, self._refreshed_ns = 1, 0

    def next_address(self) -> str:
        """An address of its own for one more container."""
        self._given += 1
        return f"172.18.{self.number + 1 + (self._given // 250) * 16}.{self._given % 250 + 2}"

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence - 1

    def entry(self, now_ns: int) -> InventoryEntry:
        return InventoryEntry(
            scope=SCOPE, subject=self.subject, host=self.machine_id, image="linux",
            lineage=f"{HOST_PREFIX}{POOL}", name=self.name, started_ns=self._started_ns,
            seen_ns=now_ns, addresses=(self.address,), memory_limit_bytes=MEMORY_BYTES,
            cpu_limit_cores=16.0,
        )  # fmt: skip  # as the record orders it

    def live(self, rows: Sequence[Sequence[float]], seconds: float) -> list[float]:
        """The host's sample: what its containers use, and what it needs for itself."""
        used = [
            math.fsum(v for v in column if not math.isnan(v)) for column in zip(*rows, strict=True)
        ]
        used = used or [0.0] * 13
        own = self._own.after(seconds)
        memory = used[2] + 1.4e9 * own**0.2
        sent, received = 9_000 * rough(self._rng, 0.1), 4_000 * rough(self._rng, 0.1)
        return [
            used[0] + 0.15 * own, 0.0, memory, memory / MEMORY_BYTES,
            used[4] + 2e4 * rough(self._rng, 0.3), used[5] + 6e4 * rough(self._rng, 0.3),
            used[6] + received, used[7] + sent, used[8] + 30 * own, used[9] + 40 * own,
            used[10] + count(self._rng, seconds * 0.2) / seconds, 2.0,
            used[12] + 120 + count(self._rng, 4),
        ]  # fmt: skip  # in the order of FEATURES

    def facts(self, seconds: float, now_ns: int) -> Iterator[Fact]:
        if now_ns - self._refreshed_ns >= REFRESH_NS:
            self._refreshed_ns = now_ns
            for pid, (executable, parent) in enumerate(DAEMONS, start=1):
                yield Program(executable, None, parent, "root", pid)
            yield Listen(22, "tcp", "0.0.0.0")  # noqa: S104  # what it shows, not ours
        sent = int(9_000 * seconds * rough(self._rng, 0.1))
        metrics = OUTSIDE["metrics"][0]
        yield Connection(Direction.EGRESS, metrics, 9090, "tcp", sent, sent // 9, sent // 900, 5)
