"""A real Apache Kafka for tests and demonstrations: one KRaft broker on a loopback port.

The jars come from Maven Central (``mvn dependency:copy-dependencies``) once, into
``$PLIMSOLL_CACHE`` or ``~/.cache/plimsoll``. The broker keeps its port through stops, kills
and starts, so that clients see it go away and come back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

KAFKA: Final = "4.1.1"
HOW_TO: Final = (
    "install Java 17 and Maven (Debian, Ubuntu: apt install openjdk-17-jre-headless maven), "
    "or name a running broker in PLIMSOLL_TEST_BROKER=host:port"
)

_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>plimsoll</groupId><artifactId>kafka-server</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{KAFKA}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.0:copy-dependencies"
_LOGGING: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
_CLUSTER: Final = "cGxpbXNvbGwtdGVzdHMtMQ"  # sixteen bytes, as Kafka wants them
_JVM: Final = ("-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class KafkaUnavailable(RuntimeError):
    """No broker can be had here; the message says how to get one."""


class KafkaServer:
    """One broker, its files in ``directory``; a context manager that starts and stops it.

    ``settings`` are broker properties that win over those below; ``users`` have a password
    each, by SCRAM-SHA-512, where a listener asks for one (infra/secured.py). A frozen broker
    keeps its connections and answers nobody (SIGSTOP): what a long pause or a cut line looks
    like.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        port: int | None = None,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self._port = port or free_port()
        self._controller_port = free_port()
        self._heap = f"-Xmx{heap_mb}m"
        self._settings = dict(settings or {})
        self._users = dict(users or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """What the broker said."""
        return self.directory / "broker.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, timeout_s: float = 60.0) -> None:
        """Start, and return once the broker answers.

        Raises: KafkaUnavailable without Java, Maven or jars, or when it ends at once.
        """
        if self._process is not None and self._process.poll() is None:
            return
        if not (self.directory / "data" / "meta.properties").exists():
            self._format()
        self._process = self._java("kafka.Kafka", str(self._properties))
        try:
            self._await(self._process, time.monotonic() + timeout_s)
        except BaseException:  # an interruption too: nobody else knows of this process
            self.kill()
            raise

    def stop(self, timeout_s: float = 20.0) -> None:
        """Stop as an operator would; kill when that takes too long."""
        if self._process is None:
            return
        self.thaw()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End without a goodbye (SIGKILL)."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    # ---- the process ----------------------------------------------------------------------

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _await(self, process: subprocess.Popen[bytes], deadline_s: float) -> None:
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise KafkaUnavailable(f"the broker did not start:\n{self._last_words()}")
            time.sleep(0.1)

    def _format(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "log4j2.properties").write_text(_LOGGING)
        lines = (f"{name}={value}\n" for name, value in self._effective().items())
        self._properties.write_text("".join(lines))
        users = (f"SCRAM-SHA-512=[name={n},password={p}]" for n, p in self._users.items())
        tool = self._java(
            "kafka.tools.StorageTool", "format", "--standalone",
            "--cluster-id", _CLUSTER, "--config", str(self._properties),
            *(word for user in users for word in ("--add-scram", user)),
        )  # fmt: skip  # one line an argument reads worse
        try:
            failed = tool.wait(60)
        finally:
            tool.kill()
        if failed:
            raise KafkaUnavailable(f"the log directory was not formatted:\n{self._last_words()}")

    def _effective(self) -> dict[str, str]:
        here, control = self.bootstrap, f"127.0.0.1:{self._controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": control,
            "listeners": f"PLAINTEXT://{here},CONTROLLER://{control}",
            "advertised.listeners": f"PLAINTEXT://{here},CONTROLLER://{control}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.directory.absolute() / "data"),
            "num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "2000",
            "broker.session.timeout.ms": "2000",  # a killed broker registers again only after it
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": str(4 << 20),
            **self._settings,
        }

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = f"{jars()}/*"
        logging = f"-Dlog4j2.configurationFile={self.directory.absolute() / 'log4j2.properties'}"
        command = (_needed("java"), self._heap, *_JVM, logging, "-cp", path, main, *arguments)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
                return True
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def jars() -> Path:
    """The folder with Kafka's jars, fetched through Maven when it is not there yet.

    Raises: KafkaUnavailable when they are neither here nor to be had.
    """
    cache = Path(os.environ.get("PLIMSOLL_CACHE") or Path.home() / ".cache" / "plimsoll")
    found = cache / f"kafka-{KAFKA}"
    if found.is_dir():
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may start together
        if not found.is_dir():
            _fetch(found)
    return found


def _fetch(found: Path) -> None:
    with tempfile.TemporaryDirectory(dir=found.parent) as work:
        (Path(work) / "pom.xml").write_text(_POM)
        target = Path(work) / "jars"
        asked = (_needed("mvn"), "-B", "-q", _COPY, f"-DoutputDirectory={target}")
        done = subprocess.run(
            (*asked, "-DincludeScope=runtime"),
            cwd=work,
            capture_output=True,
            text=True,
            check=False,  # judged below, with what Maven said
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-1000:]
            raise KafkaUnavailable(f"Maven could not fetch Kafka {KAFKA}: {said}\n{HOW_TO}")
        target.rename(found)  # whole or not at all


def _needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise KafkaUnavailable(f"{program} is not installed: {HOW_TO}")
    return found


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
