"""A burst that nobody planned for: ``python -m infra.bench.burst``, or ``make burst``.

Hosts send what they always send; then, for a minute, twenty times as much; then as before. Each
has a collector's publisher with a spool of its own. Every sample is counted where it ends: judged,
in a dead letter, or refused at the spool, which tells how many. ``--away S`` freezes the broker
for so many seconds of the burst, so that spools fill.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from infra.bench import parts
from infra.bench.fleet import CONTAINERS, PARTITIONS, Host, Line, line
from infra.bench.results import record
from infra.kafka import KafkaServer, free_port
from models.contract import Topics
from models.records.codec import decode
from models.records.facts import Coverage
from models.records.rejected import DeadLetter
from models.records.telemetry import Batch, Sightings
from producers.publish import Publisher, PublishMeters
from producers.settings import load
from streams.stores.window import TelemetryLog, TopicLog

NS: Final = 10**9
USUAL_S: Final = 5.0
"""How long the usual rate lasts, before the burst and after it."""
MISDATED: Final = 97
"""One in so many frames is dated an hour ahead: gather keeps it as a dead letter."""
_SAMPLES: Final = re.compile(r"^plimsoll_samples_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Told:
    """What is asked for. Rates are frames a second and host."""

    hosts: int = 20
    seconds: float = 60.0
    times: int = 20
    usual_hz: float = 1.0
    away_s: float = 0.0
    spool_mb: int = 256
    patience_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Came:
    """Where every sample of ``sent`` went. ``lost`` is what is in none of these places.

    ``missed_frames`` are those that gather told the judge to be missing: those refused, whose
    number the frames after them bring, and those in dead letters. ``peak_mb`` is the most that
    each process held, ``behind`` the most records that the judge had yet to read. ``times`` is
    what the burst came to: a machine that is too busy sends it late, and over a longer time.
    """

    sent: int
    judged: int
    dead: int
    refused: int
    lost: int
    refused_frames: int
    missed_frames: int
    samples_per_s: float
    times: float
    drained_s: float
    behind: int
    peak_mb: dict[str, int]

    @property
    def all_told(self) -> bool:
        """Nothing is lost, and the judge knows of all that it did not get."""
        gone = self.refused_frames + self.dead // CONTAINERS
        return self.lost == 0 and self.missed_frames == gone


def run(told: Told, server: KafkaServer, directory: Path, prefix: str = "burst.") -> Came:
    """One burst against a line of its own."""
    topics, port = Topics(prefix), free_port()
    settings = {"WORKER__METRICS_PORT": port, "WORKER__STUCK_S": 600, "GOVERNOR__STUCK_S": 600}
    with ExitStack() as stack:
        running = stack.enter_context(line(server.bootstrap, directory, topics, settings))
        fleet = Bursting(told, server.bootstrap, topics, directory)
        stack.callback(fleet.close)
        behind = _behind(stack, server, f"{topics.prefix}judge", topics.telemetry)
        gather = _behind(stack, server, f"{topics.prefix}gather", topics.samples)
        watch = stack.enter_context(watched(running))
        for group in ("judge", "governor", "gather"):  # it is no burst while they start
            parts.joined(server.bootstrap, f"{topics.prefix}{group}", 1, told.patience_s)
        fleet.send(USUAL_S, told.usual_hz)
        with away(server, told.away_s):
            burst_s = fleet.send(told.seconds, told.usual_hz * told.times, misdated=MISDATED)
        fleet.send(USUAL_S, told.usual_hz)
        began_s, most = time.monotonic(), 0

        def drained() -> bool:
            nonlocal most
            fleet.serve()
            left = behind.end() - behind.committed()
            most = max(most, left)
            return not fleet.waiting and gather.committed() >= gather.end() and left <= 0

        _until(drained, told.patience_s, running)
        drained_s = time.monotonic() - began_s
        judged, missed_frames = _judged(server.bootstrap, topics)
        return _came(
            fleet, judged=min(judged, _by_worker(port)), missed_frames=missed_frames,
            dead=_dead(server.bootstrap, topics), burst_s=burst_s, drained_s=drained_s,
            behind=most, peak_mb={name: size >> 20 for name, size in watch.items()},
        )  # fmt: skip  # one line a thought


def _behind(stack: ExitStack, server: KafkaServer, group: str, topic: str) -> parts.Behind:
    made = parts.Behind(server.bootstrap, group, topic, PARTITIONS)
    stack.callback(made.close)
    return made


def _came(fleet: Bursting, *, judged: int, dead: int, burst_s: float, **others: Any) -> Came:
    sent, refused = fleet.frames * CONTAINERS, fleet.refused * CONTAINERS
    per_s = fleet.burst * CONTAINERS / burst_s
    return Came(
        sent=sent, judged=judged, dead=dead, refused=refused, lost=sent - judged - dead - refused,
        refused_frames=fleet.refused, samples_per_s=round(per_s),
        times=round(per_s / (len(fleet.hosts) * CONTAINERS * fleet.usual_hz), 1), **others,
    )  # fmt: skip  # one line a thought


class Bursting:
    """Hosts, each with a publisher and a spool, driven by one clock: an open loop."""

    def __init__(self, told: Told, bootstrap: str, topics: Topics, directory: Path) -> None:
        rng = np.random.default_rng(0)
        self.hosts = [Host(number, rng) for number in range(told.hosts)]
        self.meters = [PublishMeters() for _ in self.hosts]
        self.publishers = [
            Publisher(
                load(
                    data_dir=directory / host.name, topic_prefix=topics.prefix,
                    kafka={"bootstrap": bootstrap}, spool={"most_bytes": told.spool_mb << 20},
                ),
                time.time_ns, meters,
            )
            for host, meters in zip(self.hosts, self.meters, strict=True)
        ]  # fmt: skip  # one line a thought
        self.usual_hz = told.usual_hz
        self.frames = self.burst = 0

    def send(self, seconds: float, rate_hz: float, misdated: int = 0) -> float:
        """So many frames a second and host, on time; how long it took."""
        began_s, due, before = time.monotonic(), 0, self.frames
        total = round(seconds * rate_hz)
        while due < total:
            if time.monotonic() < began_s + due / rate_hz:
                self.serve()
                time.sleep(0.002)
                continue
            due += 1
            for host, publisher in zip(self.hosts, self.publishers, strict=True):
                self.frames += 1
                ahead_s = 3_600 if misdated and not self.frames % misdated else 0
                publisher.send(host.next(time.time_ns() + ahead_s * NS))
        self.burst = max(self.burst, self.frames - before)
        return time.monotonic() - began_s

    def serve(self) -> None:
        for publisher in self.publishers:
            publisher.serve()

    @property
    def waiting(self) -> int:
        return sum(publisher.waiting for publisher in self.publishers)

    @property
    def refused(self) -> int:
        """Frames that the spools gave up, as their counters tell."""
        return round(
            sum(
                one.value
                for meters in self.meters
                for metric in meters.lost.collect()
                for one in metric.samples
                if one.name.endswith("_total")
            )
        )

    def close(self) -> None:
        for publisher in self.publishers:
            publisher.close()


# ---- what came of it --------------------------------------------------------------------------


def _judged(bootstrap: str, topics: Topics) -> tuple[int, int]:
    """Samples in telemetry that no other is a repetition of, and frames told to be missing."""
    times: dict[str, set[int]] = defaultdict(set)
    missed: dict[tuple[str, int, str], int] = {}
    for one in TelemetryLog({"bootstrap.servers": bootstrap}, topics.telemetry).records(0, 0):
        if isinstance(one.record, Batch):
            table = one.record.samples
            for row, at_ns in zip(table.index.tolist(), table.times_ns.tolist(), strict=True):
                times[table.subjects[row]].add(at_ns)
        elif isinstance(one.record, Sightings):
            for seen in one.record.observations:
                if isinstance(seen.fact, Coverage):
                    told = (seen.subject, seen.fact.until_ns, seen.fact.problem)
                    missed[told] = seen.fact.missing
    return sum(map(len, times.values())), sum(missed.values())


def _dead(bootstrap: str, topics: Topics) -> int:
    """Samples in dead letters: a frame holds one of each container."""
    config = {"bootstrap.servers": bootstrap}
    log = TopicLog(config, topics.rejected).messages()
    letters = (decode(DeadLetter, message.value()) for message, _, _ in log)
    return sum(CONTAINERS for one in letters if one.topic == topics.samples)


def _by_worker(port: int) -> int:
    """What the worker itself counts as judged."""
    page = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(page, timeout=10) as served:  # our own worker's
        found = _SAMPLES.search(served.read().decode())
    return round(float(found[1])) if found else 0


@contextmanager
def watched(running: Line) -> Iterator[dict[str, int]]:
    """The most memory that each process held meanwhile."""
    pids = {name: one.pid for name, one in running.processes().items()} | {
        "collectors": os.getpid()
    }
    peak, over = dict.fromkeys(pids, 0), threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for name, pid in pids.items():
                peak[name] = max(peak[name], parts.resident_bytes(pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


@contextmanager
def away(server: KafkaServer, seconds: float) -> Iterator[None]:
    """The broker answers nobody for so long, from now on."""
    if not seconds:
        yield
        return
    server.freeze()
    thaw = threading.Timer(seconds, server.thaw)
    thaw.start()
    try:
        yield
    finally:
        thaw.join()


def _until(done: Callable[[], bool], patience_s: float, running: Line) -> None:
    ends_s = time.monotonic() + patience_s
    while not done():
        dead = [name for name, one in running.processes().items() if one.poll() is not None]
        if dead or time.monotonic() > ends_s:
            raise RuntimeError(f"not drained in {patience_s:.0f} s; ended: {dead or 'nobody'}")
        time.sleep(0.02)


def main() -> None:
    asked, usual = argparse.ArgumentParser(description=__doc__), Told()
    asked.add_argument("--hosts", type=int, default=usual.hosts)
    asked.add_argument("--seconds", type=float, default=usual.seconds, help="of the burst")
    asked.add_argument("--times", type=int, default=usual.times, help="the usual rate")
    asked.add_argument("--spool-mb", type=int, default=usual.spool_mb, help="of each host")
    asked.add_argument(
        "--away", type=float, default=usual.away_s, dest="away_s",
        help="seconds of the burst in which the broker answers nobody",
    )  # fmt: skip  # one option
    told = Told(**vars(asked.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with KafkaServer(directory / "kafka") as server:
            came = run(told, server, directory)
    found = {"asked": asdict(told), "came": asdict(came)}
    record("burst-away" if told.away_s else "burst", found)
    sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.exit(not came.all_told)


if __name__ == "__main__":
    main()
