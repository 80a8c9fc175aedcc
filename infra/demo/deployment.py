"""All parts as a deployment runs them: a real Kafka, and `plimsoll` by its commands alone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from infra.demo.machine import ENGINE
from infra.demo.stories import lineage
from infra.kafka import KafkaServer
from models.contract import Topics
from streams.demo.notes import NoteTaker
from streams.settings import Settings, load

PLIMSOLL: Final = (sys.executable, "-m", "streams")
SAMPLE_PERIOD_S: Final = 1.0
_COMMAND_S: Final = 120.0
_END_S: Final = 60.0

POLICY: Final = """\
# The demo enforces, on its own containers alone: whatever else runs on this machine is judged
# and left as it is. A deployment observes until its policy says otherwise.
mode = "enforce"

[[rules]]
levels = ["compromised"]
lineages = ["{lineage}"]
action = "isolate"

[[rules]]
levels = ["corrupted"]
lineages = ["{lineage}"]
action = "redeploy"
"""


def policy(run: str) -> str:
    """The policy file of one run."""
    return POLICY.replace("{lineage}", lineage(run, "*"))


class DeploymentFailed(RuntimeError):
    """A part could not do its work; the message names it and its last words."""


class Deployment:
    """Kafka and all parts, from entry to exit. ``scratch`` goes away with the demo, ``kept``
    holds what a reader may want afterwards: logs and reports.
    """

    def __init__(self, run: str, scratch: Path, kept: Path) -> None:
        self.kafka = KafkaServer(scratch / "kafka")
        self.data = scratch / "data"
        self.log = kept / "plimsoll-up.log"
        self._scratch, self._kept = scratch, kept
        self._policy = scratch / "policy.toml"
        self._policy.write_text(policy(run))
        self._up: subprocess.Popen[bytes] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._keep_broker_log)
            undo.enter_context(self.kafka)
            self.run("topics", "create")
            self.run("keys", "init")
            undo.callback(self._end)
            self._start()
            self._open = undo.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def run(self, *words: str, fails: Sequence[int] = ()) -> str:
        """One command to its end; what it printed.

        Raises: DeploymentFailed when its exit code is neither 0 nor among ``fails``.
        """
        done = subprocess.run(
            (*PLIMSOLL, *words), env=self.environment, capture_output=True, text=True,
            timeout=_COMMAND_S, check=False,
        )  # fmt: skip  # one call, one thought
        if done.returncode not in (0, *fails):
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise DeploymentFailed(
                f"`plimsoll {shlex.join(words)}` ended with exit code {done.returncode}: {said}"
            )
        return done.stdout

    def note_taker(self) -> NoteTaker:
        """Notes all that its topics say, until it is closed."""
        settings = self.settings
        return NoteTaker(settings.kafka.librdkafka(), Topics(settings.topic_prefix))

    def check(self) -> None:
        """Raises: DeploymentFailed when the supervisor has ended."""
        if self._up is not None and (code := self._up.poll()) is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise DeploymentFailed(
                f"`plimsoll up` ended with exit code {code}; its last words: "
                f"{lines[-1][:500] if lines else 'none'} (all of them in {self.log})"
            )

    @property
    def settings(self) -> Settings:
        """The same for us, as far as we need it."""
        return load(kafka={"bootstrap": self.kafka.bootstrap}, data_dir=self.data)

    @property
    def environment(self) -> dict[str, str]:
        """What the parts are told; nothing of a deployment's own settings leaks in."""
        ours = {
            "KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "DATA_DIR": str(self.data),
            "TOPICS__PARTITIONS": "4",
            "GOVERNOR__POLICY_FILE": str(self._policy),
            "GOVERNOR__WITHOUT_REPLAY": "a demo",
            "COLLECT__SAMPLE_PERIOD_S": str(SAMPLE_PERIOD_S),
            "COLLECT__FRAME_INTERVAL_S": str(SAMPLE_PERIOD_S),
            "COLLECT__DOCKER_HOST": ENGINE,
            "RESPONDER__DOCKER_HOST": ENGINE,
            "LOGS__FORM": "json",
        }
        kept = {name: v for name, v in os.environ.items() if not name.startswith("PLIMSOLL_")}
        return kept | {f"PLIMSOLL_{name}": value for name, value in ours.items()}

    def _start(self) -> None:
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo, which then ends it in good order.
            self._up = subprocess.Popen(
                (*PLIMSOLL, "up"), env=self.environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._scratch,
            )  # fmt: skip  # one call, one thought

    def _end(self) -> None:
        if self._up is None:
            return
        self._up.terminate()
        try:
            self._up.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._up.kill()
            self._up.wait()

    def _keep_broker_log(self) -> None:
        if self.kafka.log.exists():
            (self._kept / "kafka.log").write_bytes(self.kafka.log.read_bytes())
