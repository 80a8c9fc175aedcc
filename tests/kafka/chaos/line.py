"""The parts of Plimsoll as processes on one Kafka, and how far each of them has come."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from models.contract import Topics
from models.errors import ArchiveUnusable
from streams import keys
from streams.archive import layout
from streams.archive.tables import archived
from streams.responders.store import Step
from tests.kafka.chaos.load import ATTACKED

PARTITIONS: Final = 4
RUNNING: Final = {"gather": 2, "worker": 2, "govern": 2, "archive": 1, "respond": 1}
"""The parts, and how many of each run while nothing is disturbed."""
POLICY: Final = """\
mode = "enforce"
[guards]
largest_share = 1.0
per_hour = 100000
late_s = 86400
[times]
deadline_s = 3600
answer_s = 3600
ttl_s = 120
"""
"""No guard and no deadline of wall time: what is ordered must follow from the log alone."""
STOP_S: Final = 40.0
COMMAND_S: Final = 1_200.0
ROOM: Final = 4 << 30
MOST_RESTARTS: Final = 100
"""Of parts that ended by themselves: more in a run, and nobody would call it recovery."""

Place = tuple[str, int]
Positions = dict[Place, int]


@dataclass
class Line:
    """Use as a context manager: what still runs at the end is killed."""

    bootstrap: str
    prefix: str
    directory: Path
    processes: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    stops_s: dict[str, list[float]] = field(default_factory=dict)
    """How long each part took to end in order."""
    restarts: int = 0
    """Parts that ended by themselves and were started again, as a supervisor would."""

    def __post_init__(self) -> None:
        self.topics = Topics(self.prefix)
        keys.ensure(self.directory / "keys", time.time_ns())
        (self.directory / "policy.toml").write_text(POLICY)
        self.processes = {part: [] for part in RUNNING}
        self.stops_s = {part: [] for part in RUNNING}
        self.disks = {
            part: Disk(self.directory / f"{part}-disk") for part in ("archive", "respond")
        }
        self._offsets = _Offsets(self.bootstrap)
        self._started = 0
        self.run("topics", "create")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self._offsets.close()
        for disk in self.disks.values():
            disk.close()

    # ---- processes ------------------------------------------------------------------------

    def start_all(self) -> None:
        for part, count in RUNNING.items():
            for _ in range(count):
                self.start(part)

    def start(self, part: str, *, die_at: str = "") -> subprocess.Popen[bytes]:
        """``die_at`` (``before/told``) is where a responder kills itself."""
        program = ["-m", "streams", part]
        if part == "respond":
            program = ["-m", "tests.kafka.chaos.responder", *die_at.split("/", 1)]
            program = program if die_at else program[:2]
        self._started += 1
        with (self.directory / f"{part}-{self._started}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program], env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip  # one call
        self.processes[part].append(process)
        return process

    def end(self, part: str, number: signal.Signals, which: int = 0) -> None:
        """Send a signal, and wait until the process has ended."""
        began_s, process = time.monotonic(), self.processes[part].pop(which)
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{part} did not end on {number.name}\n{self.said()}") from None
        if number is signal.SIGTERM:
            self.stops_s[part].append(time.monotonic() - began_s)

    def supervise(self) -> None:
        """Start anew what has ended by itself, as whoever runs it would."""
        for part, processes in self.processes.items():
            for process in [one for one in processes if one.poll() is not None]:
                processes.remove(process)
                self.restarts += 1
                assert self.restarts < MOST_RESTARTS, f"{part} ends again and again\n{self.said()}"
                self.start(part)

    def all(self) -> Iterator[subprocess.Popen[bytes]]:
        for processes in self.processes.values():
            yield from processes

    def run(self, *arguments: str) -> str:
        """One ``plimsoll`` command; what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "streams", *arguments], env=self.environment(),
            capture_output=True, text=True, check=False, timeout=COMMAND_S,
        )  # fmt: skip  # one call
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def delete_topic(self, name: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.delete_topics([name])[name].result(30)

    def environment(self) -> dict[str, str]:
        ours = {
            "KAFKA__BOOTSTRAP": self.bootstrap, "TOPIC_PREFIX": self.prefix,
            "DATA_DIR": str(self.directory), "TOPICS__PARTITIONS": str(PARTITIONS),
            "LOGS__FORM": "json", "LOGS__LEVEL": "info",
            "GATHER__GROUP": self.group("gather"),
            "WORKER__GROUP": self.group("worker"), "WORKER__SESSION_TIMEOUT_S": "6",
            "GOVERNOR__GROUP": self.group("govern"), "GOVERNOR__SESSION_TIMEOUT_S": "6",
            "GOVERNOR__POLICY_FILE": str(self.directory / "policy.toml"),
            "GOVERNOR__WITHOUT_REPLAY": "faults are tried here, no container is real",
            "ARCHIVE__LOT_S": "5", "ARCHIVE__KEEP_DAYS": "0",
            "RESPONDER__HOST": ATTACKED, "ARCHIVE_DIR": str(self.archive_dir),
            "RESPONDER_FILE": str(self.responder_file),
        }  # fmt: skip  # a table
        return os.environ | {f"PLIMSOLL_{name}": value for name, value in ours.items()}

    @property
    def archive_dir(self) -> Path:
        return self.disks["archive"].path / "archive"

    @property
    def responder_file(self) -> Path:
        return self.disks["respond"].path / "responder.db"

    def group(self, part: str) -> str:
        return f"{self.prefix}{part}"

    def said(self) -> str:
        """The last words of everybody."""
        logs = sorted(self.directory.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(f"{one.name}: {one.read_text(errors='replace')[-800:]}" for one in logs)

    def lines(self, event: str) -> int:
        """How often something was said, by all of them."""
        logs = self.directory.glob("*.log")
        return sum(one.read_text(errors="replace").count(event) for one in logs)

    # ---- how far --------------------------------------------------------------------------

    def inputs(self, part: str) -> tuple[str, ...]:
        """The topics that a part reads and answers for."""
        topics = self.topics
        return {
            "gather": (topics.samples,),
            "worker": (topics.telemetry,),
            "govern": (topics.findings, topics.control, topics.outcomes),
            "archive": tuple(archived(topics)),
            "respond": (topics.orders,),
        }[part]

    def ends(self, part: str) -> Positions:
        """Where the log of its inputs ends now; waits for a broker that is on its way back."""
        return self._offsets.ends(self.inputs(part))

    def ahead(self, part: str) -> Positions:
        """A place that only records still to come can take it to, in each partition of the
        topic that feeds it without a pause.
        """
        fed = {
            "gather": self.topics.samples, "worker": self.topics.telemetry,
            "govern": self.topics.findings, "archive": self.topics.telemetry,
        }  # fmt: skip  # a table
        ends = self.ends(part)
        return {place: end + (place[0] == fed.get(part)) for place, end in ends.items()}

    def reached(self, part: str) -> Positions:
        """What is read again from there when it is killed now."""
        if part == "archive":
            return archive_reached(self.archive_dir)
        if part == "respond":
            return responder_reached(self.responder_file)
        return self._offsets.committed(self.group(part), self.inputs(part))

    def has_reached(self, part: str, mark: Mapping[Place, int]) -> bool:
        """Whether it is done with all up to a mark; not while the broker is silent."""
        try:
            reached = self.reached(part)
        except KafkaException:
            return False
        if part == "respond" and responder_busy(self.responder_file):
            return False
        return all(reached.get(place, 0) >= end for place, end in mark.items())

    def until(self, done: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for an effect; who ends meanwhile is started again."""
        deadline_s = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline_s, f"{what}: not in {seconds:.0f} s\n{self.said()}"
            self.supervise()
            time.sleep(0.1)  # between two looks


@dataclass
class Disk:
    """A folder; where we may mount, on a disk of its own in memory, which can be full."""

    path: Path
    mounted: bool = False

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True)
        self.mounted = os.geteuid() == 0 and _mount("-t", "tmpfs", "tmpfs", str(self.path))

    @contextmanager
    def full(self) -> Iterator[None]:
        """As large as what lies on it, for a while."""
        used = shutil.disk_usage(self.path).used
        assert _mount("-o", f"remount,size={used}", str(self.path))
        try:
            yield
        finally:
            assert _mount("-o", f"remount,size={ROOM}", str(self.path))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.path)], check=True)


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


class _Offsets:
    """Ends and commits, asked through one client a group."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._clients: dict[str, Consumer] = {}
        self._places: dict[str, list[Place]] = {}

    def ends(self, topics: Sequence[str]) -> Positions:
        return {place: self._end(place) for topic in topics for place in self._partitions(topic)}

    def _end(self, place: Place) -> int:
        deadline_s = time.monotonic() + STOP_S
        while True:
            try:
                ask = self._client("none").get_watermark_offsets
                return int(ask(TopicPartition(*place), timeout=10)[1])
            except KafkaException:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)  # between two questions

    def committed(self, group: str, topics: Sequence[str]) -> Positions:
        places = [TopicPartition(*p) for topic in topics for p in self._partitions(topic)]
        found = self._client(group).committed(places, timeout=5)
        return {(one.topic, one.partition): max(one.offset, 0) for one in found}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _client(self, group: str) -> Consumer:
        if group not in self._clients:
            self._clients[group] = Consumer(
                {"bootstrap.servers": self._bootstrap, "group.id": group, "log_level": 0,
                 "enable.auto.commit": False}
            )  # fmt: skip  # two lines
        return self._clients[group]

    def _partitions(self, topic: str) -> list[Place]:
        if topic not in self._places:
            found = self._client("none").list_topics(topic, timeout=10).topics[topic]
            self._places[topic] = [(topic, partition) for partition in found.partitions]
        return self._places[topic]


def archive_reached(root: Path) -> Positions:
    try:
        newest = layout.newest(root)
    except (ArchiveUnusable, OSError):  # a lot is being renamed
        return {}
    return {} if newest is None else dict(newest.reached)


def responder_reached(path: Path) -> Positions:
    rows = _asked(path, "SELECT topic, part, next FROM offsets")
    return {(topic, part): following for topic, part, following in rows}


def responder_busy(path: Path) -> bool:
    """Whether an order is in the middle of its course, or an outcome is not told yet."""
    under_way = f"SELECT 1 FROM cases WHERE step NOT IN ('{Step.HELD}', '{Step.ENDED}')"
    return bool(_asked(path, under_way) or _asked(path, "SELECT 1 FROM outbox"))


def _asked(path: Path, query: str) -> list[Any]:
    """Read past its owner, who holds the file."""
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:  # it is being made
        return []
