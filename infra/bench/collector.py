"""What the collector costs on this machine: ``python -m infra.bench.collector``.

Starts idle containers, runs ``plimsoll collect`` in a process of its own with its frames
going nowhere, and reads that process's CPU time and memory from /proc.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import docker

from infra import images

WARM_UP_S: Final = 8.0
COLLECT: Final = ("-c", "from streams.cli import main; main()", "collect", "--dry-run", "--json")


@contextmanager
def idle_containers(count: int) -> Iterator[None]:
    """Containers that sleep, removed at the end with their image."""
    client = docker.from_env()
    prefix = f"plimsoll-bench-{uuid.uuid4().hex[:8]}"
    tag = f"{prefix}/idle:1"
    images.build(client, tag)
    made = []
    try:
        for number in range(count):
            one = client.containers.run(tag, name=f"{prefix}-{number}", detach=True)
            made.append(one)  # what was started so far must be removed
        yield
    finally:
        for container in made:
            container.remove(force=True)
        client.images.remove(tag, force=True)
        client.close()


def measure(period_s: float, seconds: float) -> tuple[float, float]:
    """CPU seconds a second, and resident bytes, of a collector at that period."""
    with tempfile.TemporaryDirectory() as data:
        settings = {**os.environ, "PLIMSOLL_DATA_DIR": data}
        periods = ("--sample-period-s", str(period_s), "--frame-interval-s", str(period_s))
        command = (sys.executable, *COLLECT, *periods)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=settings
        ) as child:
            time.sleep(WARM_UP_S + period_s)
            started_s, began = cpu_s(child.pid), time.monotonic()
            time.sleep(seconds)
            used = (cpu_s(child.pid) - started_s) / (time.monotonic() - began)
            resident = resident_bytes(child.pid)
            child.terminate()
        return used, resident


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--containers", type=int, default=40)
    asked.add_argument("--seconds", type=float, default=20.0)
    asked.add_argument("--periods", type=float, nargs="+", default=[1.0, 5.0])
    asked.add_argument("--runs", type=int, default=1)
    given = asked.parse_args()
    for period_s in given.periods:
        alone = [measure(period_s, given.seconds) for _ in range(given.runs)]
        with idle_containers(given.containers):
            full = [measure(period_s, given.seconds) for _ in range(given.runs)]
        base, used = (statistics.median(run[0] for run in runs) for runs in (alone, full))
        resident = statistics.median(run[1] for run in full)
        print(  # noqa: T201  # what it is for
            f"{period_s:g} s, {given.containers} containers: {used * 100:.2f} % of a core "
            f"({base * 100:.2f} % with no container of ours, "
            f"{(used - base) / given.containers * 1e6:.0f} µs/s a container), "
            f"{resident / 1e6:.0f} MB resident"
        )


if __name__ == "__main__":
    main()
