"""Everything around the fleet: broker, keys, gather, judge, governor and responder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from confluent_kafka import Producer

from models.contract import ONLY_PARTITION, PARTITIONER, Topics
from models.errors import PlimsollError
from models.records.codec import encode
from models.records.frame import Frame
from models.records.manifest import Manifest
from streams import keys
from streams.demo.answering import Answering
from streams.demo.backlog import Backlog
from streams.demo.broker import EmbeddedBroker
from streams.demo.notes import NoteTaker
from streams.demo.script import Fleet
from streams.keys import Role, Signer
from streams.settings import Settings, load
from streams.stores.models import ModelStore, announced

PARTS: Final = ("worker", "govern", "gather")
GATHER_GROUP: Final = "plimsoll-gather"
POLICY: Final = """\
# The demo enforces; a deployment observes until its policy says otherwise.
mode = "enforce"

[times]
# Its time runs twenty times as fast as the wall clock, so answers take longer by it.
deadline_s = 300
answer_s = 120

[guards]
# Six stories in ten minutes are more than a bad day.
per_hour = 100
"""
_END_S: Final = 10.0


class DemoFailed(PlimsollError):
    """The demo could not be told to its end; the message names the part and its log."""


class Stage:
    """Set up on entry, taken down on exit. ``directory`` holds logs, keys and reports."""

    def __init__(self, directory: Path, fleet: Fleet) -> None:
        self.directory = directory
        self.fleet = fleet
        self.topics = Topics("plimsoll.")
        self.broker = EmbeddedBroker(self.topics.all())
        self.environment = self._environment()
        self.settings = self._settings()
        keys.ensure(self.settings.keys_dir, fleet.now_ns())
        self._producer = Producer(
            {"bootstrap.servers": self.broker.bootstrap, "partitioner": PARTITIONER,
             "linger.ms": 5, "log_level": 0}
        )  # fmt: skip  # one thought
        self._backlogs: dict[str, Backlog] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        for part in PARTS:
            self._children[part] = self._start(part)
        self.notes = NoteTaker(self.settings.kafka.librdkafka(), self.topics)
        self._open.callback(self.notes.close)
        self._backlogs = {
            "frames": self._backlog(GATHER_GROUP, self.topics.samples),
            "telemetry": self._backlog(self.settings.worker.group, self.topics.telemetry),
        }
        hosts = {entry.host for entry in self.fleet.containers()}
        clock = self.fleet.now_ns
        self._open.enter_context(Answering(self.settings, self.fleet, hosts, clock))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def write(self, frames: Sequence[Frame]) -> None:
        """What the collectors wrote, under the simulated time."""
        for frame in frames:
            self._producer.produce(
                self.topics.samples, encode(frame), frame.host.encode(),
                timestamp=frame.at_ns // 1_000_000,
            )  # fmt: skip  # one call, one thought
        self._producer.flush()

    def unread(self) -> dict[str, int]:
        """Records that gather and judge have not read yet, in the partition that has most."""
        return {name: backlog.records() for name, backlog in self._backlogs.items()}

    def publish(self, manifest: Manifest, content: bytes) -> None:
        """A model, as its trainer announces it."""
        ModelStore(self.settings.models_dir).save(content)
        key, value = announced(manifest, Signer.load(self.settings.keys_dir, Role.TRAINER))
        self._producer.produce(self.topics.models, value, key, partition=ONLY_PARTITION)
        self._producer.flush()

    def check(self) -> None:
        """Raises: DemoFailed when a part has ended."""
        for part, child in self._children.items():
            if child.poll() is not None:
                raise DemoFailed(
                    f"`plimsoll {part}` ended with exit code {child.returncode}; its last words: "
                    f"{self._last_words(part)} (all of them in {self._log(part)})"
                )

    def _backlog(self, group: str, topic: str) -> Backlog:
        backlog = Backlog(self.settings.kafka.librdkafka(), group, topic)
        self._open.callback(backlog.close)
        return backlog

    def _last_words(self, part: str) -> str:
        lines = self._log(part).read_text(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "none"

    def _log(self, part: str) -> Path:
        return self.directory / f"{part}.log"

    def _start(self, part: str) -> subprocess.Popen[bytes]:
        with self._log(part).open("wb") as log:
            return subprocess.Popen(  # noqa: S603  # our own command, our own interpreter
                [sys.executable, "-m", "streams", part],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip  # one call, one thought

    def _environment(self) -> dict[str, str]:
        """What the parts are told; nothing of a deployment's own settings leaks in."""
        policy = self.directory / "policy.toml"
        policy.write_text(POLICY)
        foreign = {name for name in os.environ if name.startswith("PLIMSOLL_")}
        ours = {
            "KAFKA__BOOTSTRAP": self.broker.bootstrap,
            "DATA_DIR": str(self.directory),
            "TOPICS__CREATE_CHANGELOGS": "false",
            "GOVERNOR__POLICY_FILE": str(policy),
            "GOVERNOR__WITHOUT_REPLAY": "a demo",
            "WORKER__SESSION_TIMEOUT_S": "6",
            "GOVERNOR__SESSION_TIMEOUT_S": "6",
            "WORKER__COMMIT_INTERVAL_S": "0.2",
            "GOVERNOR__COMMIT_INTERVAL_S": "0.1",
            "GATHER__GROUP": GATHER_GROUP,
            "GATHER__CLOCK": "log",
            "GATHER__BATCH_WAIT_MS": "50",
        }
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        return kept | {f"PLIMSOLL_{name}": value for name, value in ours.items()}

    def _settings(self) -> Settings:
        return load(kafka={"bootstrap": self.broker.bootstrap}, data_dir=self.directory)


def new_directory() -> Path:
    """Kept after the demo: reports and logs lie there."""
    return Path(tempfile.mkdtemp(prefix="plimsoll-demo-"))
