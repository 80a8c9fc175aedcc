"""How long from a sample to its verdict and its alert, at half of what the line can take.

``python -m infra.bench.latency --seconds 120`` sends frames of as many hosts as make up half a
core of gather or worker, whichever is more, in an open loop; strange programs among them make
verdicts and alerts, whose latency counts from when their frame was due.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import Progress

from infra.bench import parts
from infra.bench.fleet import CONTAINERS, Fleet, Follower, Line, line
from infra.bench.results import record
from infra.kafka import KafkaServer
from models.contract import Topics

BLOCKS: Final = 16
BLOCK_S: Final = 11
MOST_TOLD: Final = 6_000
"""Frames of history: of a large fleet a shorter one teaches as much."""
STRANGE_PER_S: Final = 8.0
"""With twenty lineages 24 a minute each: less than the findings that one may tell."""
PATIENCE_S: Final = 180.0
PROBED: Final = 40


def settled(fleet: Fleet, line: Line) -> None:
    """Tell a history, and return once the worker has judged it.

    A block of learning at a time: it ends with a batch, and gather makes one of what it finds.
    """
    read = parts.Behind(line.bootstrap, f"{line.topics.prefix}gather", line.topics.samples, 4)
    judged = parts.Behind(line.bootstrap, f"{line.topics.prefix}judge", line.topics.telemetry, 4)
    blocks = min(BLOCKS, max(4, MOST_TOLD // (BLOCK_S * len(fleet.hosts))))
    start_ns, told = time.time_ns() - (blocks * BLOCK_S + 2) * 10**9, 0
    for block in range(blocks):
        told += fleet.past(start_ns + block * BLOCK_S * 10**9, BLOCK_S)
        read.awaited(told, PATIENCE_S, line.gather)
    judged.awaited(judged.end(), PATIENCE_S, line.worker)
    read.close()
    judged.close()


def lived(fleet: Fleet, line: Line, seconds: float, strange_per_s: float) -> dict[str, Any]:
    """A stretch of life: what it cost, and how long things took."""
    follower = Follower(line)
    follower.start()
    used_s = {name: parts.cpu_s(one.pid) for name, one in line.processes().items()}
    began_s = time.monotonic()
    sent = fleet.live(seconds, strange_per_s)
    wall_s = time.monotonic() - began_s
    spent_s = {name: parts.cpu_s(one.pid) - used_s[name] for name, one in line.processes().items()}
    time.sleep(3.0)  # what is under way still counts
    follower.stop()
    samples = sent.frames * CONTAINERS
    return {
        "hosts": len(fleet.hosts), "seconds": round(wall_s, 1), "samples": samples,
        "samples_per_s": round(samples / wall_s), "sent_late_most_s": round(sent.late_s, 3),
        "cpu_us_per_sample": {k: round(s / samples * 1e6, 2) for k, s in spent_s.items()},
        "cores": {k: round(s / wall_s, 3) for k, s in spent_s.items()},
        "batch_samples": parts.percentiles(follower.batches or [0], 10, 50, 90, 100),
        "resident_bytes": {k: parts.resident_bytes(p.pid) for k, p in line.processes().items()},
        **follower.latencies(sent),
    }  # fmt: skip  # one line a thought


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--hosts", type=int, default=0, help="0: as many as make half a load")
    asked.add_argument("--seconds", type=float, default=120.0)
    asked.add_argument("--json", action="store_true", help="one object on standard output")
    given = asked.parse_args()
    parts.stoppable()
    with (
        tempfile.TemporaryDirectory(prefix="plimsoll-latency-") as made,
        KafkaServer(Path(made) / "kafka") as kafka,
        Progress(console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("latency", total=3 if given.hosts else 4)
        hosts = given.hosts or half_load(kafka.bootstrap, Path(made))
        progress.advance(task, 1 if given.hosts else 2)
        with line(kafka.bootstrap, Path(made), Topics("latency.")) as running:
            fleet = Fleet(hosts, running)
            settled(fleet, running)
            progress.advance(task)
            found = lived(fleet, running, given.seconds, STRANGE_PER_S)
            progress.advance(task)
    record("latency", found)
    sys.stdout.write(orjson.dumps(found, option=0 if given.json else orjson.OPT_INDENT_2).decode())
    sys.stdout.write("\n")


def half_load(bootstrap: str, directory: Path) -> int:
    """Hosts that keep the busier one of gather and worker busy for half of the time."""
    with line(bootstrap, directory, Topics("probe.")) as running:
        fleet = Fleet(PROBED, running)
        settled(fleet, running)
        probe = lived(fleet, running, 10.0, 0.0)
    busiest: float = max(probe["cores"]["gather"], probe["cores"]["worker"])
    return max(round(PROBED * 0.5 / busiest), 1)


if __name__ == "__main__":
    main()
