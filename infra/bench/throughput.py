"""The same job in each engine on one Kafka, by turns: ``make bench``, ``make bench-full``.

Prints a table and writes the section ``throughput`` of ``build/bench.json``. Exit code 1 when
an engine could not be had, or a message is not accounted for. docs/benchmarks.md says what is
measured, and what limits each figure.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra.bench import feed
from infra.bench.entrants import (
    BESIDE,
    DETECTORS,
    ENGINES,
    ENTRANTS,
    OURS,
    ROOT,
    Unprepared,
    Workshop,
    environment,
    pace,
)
from infra.bench.feed import Lot
from infra.bench.results import record
from infra.bench.rows import Entrant, Run, table, throughput
from infra.kafka import KAFKA, KafkaServer
from models.modelfile import digest, load

LONGEST_RUN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Track:
    """One Kafka, the topics in it, and the folder of the session."""

    bootstrap: str
    directory: Path
    workshop: Workshop

    def lay(self) -> None:
        """The forest, for those who read it from a file."""
        content = feed.forest()
        (self.directory / "forest.npz").write_bytes(content)
        np.save(self.directory / "rows.npy", feed.rows())
        trees = load(content, digest(content))
        depth = trees.leaf.shape[1].bit_length() - 1
        with (self.directory / "trees.bin").open("wb") as file:  # big-endian, as Java reads
            file.write(np.array([len(trees.leaf), depth], ">i4").tobytes())
            file.write(np.array(trees.usual, ">f8").tobytes())
            for array, form in (
                (trees.feature, ">i2"), (trees.threshold, ">f4"), (trees.leaf, ">f8")
            ):  # fmt: skip  # one thought
                file.write(array.astype(form).tobytes())

    def run(self, entrant: Entrant, lot: Lot, turn: int) -> Run:
        """One entrant through one topic, from its first message to its last commit."""
        name = f"bench-run-{entrant.engine}-{time.monotonic_ns()}"
        said, before = f"{name}-alerts", 0
        if entrant.engine in OURS:
            said = lot.topics.findings
            before = feed.held(self.bootstrap, said)
        else:
            roles = ("alerts", "changelog") if entrant.engine == "pipe" else ("alerts",)
            own = [NewTopic(f"{name}-{role}", feed.PARTITIONS, 1) for role in roles]
            feed.create(self.bootstrap, own)
        try:
            found = self._result(entrant, lot, name)
            outputs = feed.held(self.bootstrap, said) - before
            # Bytewax keeps its place in its own snapshots.
            kept = entrant.engine == "bytewax"
            committed = lot.messages if kept else self._committed(lot, name)
        except Unfinished as problem:
            return Run(entrant, lot.samples, turn, problem=str(problem))
        finally:
            feed.drop(self.bootstrap, name)
        timed = found.get("timed_samples", found["samples"])
        whole = accounted(lot, found, outputs, committed)
        return Run(
            entrant, lot.samples, turn, timed, found["wall_s"], found["cpu_s"], complete=whole
        )

    def _committed(self, lot: Lot, group: str) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        topic = lot.topics.telemetry
        places = [TopicPartition(topic, at) for at in range(feed.PARTITIONS)]
        try:
            return sum(max(place.offset, 0) for place in consumer.committed(places, timeout=30))
        finally:
            consumer.close()

    def _result(self, entrant: Entrant, lot: Lot, name: str) -> dict[str, Any]:
        told = {
            "BENCH_BOOTSTRAP": self.bootstrap, "BENCH_TOPIC": lot.topics.telemetry,
            "BENCH_RUN": name, "BENCH_MESSAGES": str(lot.messages),
            "BENCH_ENCODING": lot.encoding, "BENCH_SCORER": entrant.scorer,
            "BENCH_DIRECTORY": str(self.directory),
            "PLIMSOLL_KAFKA__BOOTSTRAP": self.bootstrap,
            "PLIMSOLL_TOPIC_PREFIX": lot.topics.prefix,
            "PLIMSOLL_DATA_DIR": str(self.directory), "PLIMSOLL_WORKER__GROUP": name,
            "PLIMSOLL_WORKER__DETECTORS": DETECTORS[entrant.job],
        }  # fmt: skip  # a table
        command, log = self.workshop.command(entrant), self.directory / f"{name}.log"
        try:
            with log.open("wb") as errors:
                done = subprocess.run(
                    command, cwd=ROOT, env=environment() | told, stdout=subprocess.PIPE,
                    stderr=errors, timeout=LONGEST_RUN_S, check=False,
                )  # fmt: skip  # one call, one thought
        except subprocess.TimeoutExpired:
            raise Unfinished(f"not done after {LONGEST_RUN_S:.0f} s") from None
        result = [line for line in done.stdout.splitlines() if line.startswith(b"RESULT ")]
        if done.returncode or not result:
            raise Unfinished(log.read_text(errors="replace")[-600:] or f"exit {done.returncode}")
        found: dict[str, Any] = orjson.loads(result[0].removeprefix(b"RESULT "))
        return found


def accounted(lot: Lot, found: dict[str, Any], outputs: int, committed: int) -> bool:
    """Whether every message was judged and committed, none rejected, every output delivered."""
    counted = found["messages"], found["samples"], found.get("rejected", 0)
    judged = counted == (lot.messages, lot.messages * lot.samples, 0)
    return bool(judged and committed == lot.messages and outputs == found["outputs"])


class Unfinished(RuntimeError):
    """An engine did not come to its end; the message has its last words."""


@dataclass(slots=True)
class Session:
    """Rounds of all entrants over all sizes, by turns, until there were enough or time is up."""

    entrants: Sequence[Entrant]
    sizes: Sequence[int]
    rounds: int
    until_s: float
    runs: list[Run] = field(default_factory=list)

    def lots(self) -> list[Lot]:
        return list(
            dict.fromkeys(self.lot(one, size) for one in self.entrants for size in self.sizes)
        )

    def lot(self, entrant: Entrant, size: int) -> Lot:
        return Lot(size, pace(entrant).of(size), entrant.encoding)

    def race(self, track: Track, missing: dict[str, str], bar: Bar) -> None:
        for turn in range(self.rounds):
            began_s = time.monotonic()
            for size in self.sizes:
                for entrant in self.entrants:
                    bar(f"round {turn + 1}: {entrant.engine}, {entrant.scorer}, {size} a message")
                    if entrant.engine in missing:
                        run = Run(entrant, size, turn, problem=missing[entrant.engine])
                    else:
                        run = track.run(entrant, self.lot(entrant, size), turn)
                    self.runs.append(run)
            now_s = time.monotonic()
            if now_s + (now_s - began_s) > self.until_s:
                return


Bar = Any
"""Takes what comes next; everything before it is done."""


@contextmanager
def _bar(total: int) -> Iterator[Bar]:
    columns = (TextColumn("{task.description:<52}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip  # one thought
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=-1)
        yield lambda what: progress.update(task, description=what, advance=1)
        progress.update(task, description="done", advance=1)


def _prepared(workshop: Workshop, engines: Sequence[str]) -> dict[str, str]:
    """Install what is asked for, side by side; what can't be had, and why."""
    missing = {}
    with ThreadPoolExecutor() as pool:
        asked = {engine: pool.submit(workshop.prepare, engine) for engine in engines}
    for engine, done in asked.items():
        try:
            done.result()
        except Unprepared as problem:
            missing[engine] = str(problem)
    return missing


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    processors = [line.partition(":")[2].strip()
                  for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")]  # fmt: skip  # one expression
    java = subprocess.run(("java", "-version"), capture_output=True, text=True, check=False)
    peers = {name: (ENGINES / f"{name}.txt").read_text().split()[0].partition("==")[2]
             for name in ("quix", "bytewax")}  # fmt: skip  # one expression
    return {
        "cores": os.cpu_count(),
        "processor": processors[0] if processors else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(), "numpy": np.__version__,
        "java": java.stderr.partition('"')[2].partition('"')[0], "kafka": KAFKA, **peers,
    }  # fmt: skip  # a record


def main() -> int:
    began_s = time.monotonic()
    # Told to stop, end the broker too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    asked = _asked()
    entrants = [one for one in (*ENTRANTS, *BESIDE) if one.engine in asked.engines]
    session = Session(entrants, asked.sizes, asked.rounds, began_s + 60.0 * asked.minutes)
    workshop = Workshop(ROOT / "build/bench")
    total = 1 + len(session.lots()) + len(entrants) * len(asked.sizes) * asked.rounds
    with _bar(total) as bar, tempfile.TemporaryDirectory(prefix="plimsoll-bench-") as place:
        bar("installing the peers")
        missing = _prepared(workshop, sorted({one.engine for one in entrants}))
        with KafkaServer(Path(place) / "kafka") as kafka:
            track = Track(kafka.bootstrap, Path(place), workshop)
            track.lay()
            for lot in session.lots():
                bar(f"filling: {lot.messages} messages of {lot.samples} samples")
                feed.fill(kafka.bootstrap, lot, Path(place))
            session.race(track, missing, bar)
    rows, facts = throughput(session.runs), machine()
    record("machine", facts)
    record("throughput", rows)
    sys.stdout.write(f"{table(rows)}\n\n")
    sys.stdout.write(", ".join(f"{name} {value}" for name, value in facts.items()) + "\n")
    problems = {row["engine"]: row["problem"] for row in rows if "problem" in row}
    for engine, problem in problems.items():
        sys.stderr.write(f"{engine}: {problem}\n")
    return 0 if all(row["complete"] for row in rows) else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of all engines, at most")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no round beyond these")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 500])
    known, beside = (sorted({one.engine for one in some}) for some in (ENTRANTS, BESIDE))
    parser.add_argument("--engines", nargs="+", choices=[*known, *beside], default=known)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
