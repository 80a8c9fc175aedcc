"""Who runs in the race of engines, and what has to be there before: each peer in a virtual
environment of its own, Kafka Streams built by Maven.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.bench.feed import ENCODINGS
from infra.bench.rows import Entrant

ROOT: Final = Path(__file__).parents[2]
ENGINES: Final = ROOT / "infra/bench/engines"
DETECTORS: Final = {"reduced": '["forest"]', "full": '["distance","onset","forest"]'}
"""Plimsoll's two jobs, as its worker is told them."""

ENTRANTS: Final = (
    *(Entrant("plimsoll", "ours", encoding=form) for form in ENCODINGS),
    Entrant("plimsoll", "ours", "full", "binary"),
    *(Entrant(peer, "ours", encoding=form)
      for form in ENCODINGS for peer in ("pipe", "quix", "bytewax")),
    Entrant("kafka-streams", "ours"),
    *(Entrant(peer, "documented") for peer in ("quix", "bytewax", "kafka-streams")),
)  # fmt: skip  # a table

BESIDE: Final = (Entrant("floor", "ours", encoding="binary"),)
"""Who runs if asked for by name: no engine, a limit of ours."""
OURS: Final = ("plimsoll", "floor")


@dataclass(frozen=True, slots=True)
class Pace:
    """How many messages a run takes: enough to time it, not enough to bore. By size."""

    messages: dict[int, int]

    def of(self, samples: int) -> int:
        """For a size that is not listed, as many samples as the next smaller one has."""
        known = max((size for size in self.messages if size <= samples), default=1)
        return max(20, self.messages[known] * known // samples)


FAST: Final = Pace({1: 20_000, 100: 4_000, 500: 1_000})
LEARNING: Final = Pace({1: 3_000, 100: 200, 500: 40})
"""A random cut forest learns each sample, at about a quarter of a millisecond."""
SLOW: Final = Pace({1: 150, 100: 150, 500: 100})
"""scikit-learn takes some 8 ms a call."""


def pace(entrant: Entrant) -> Pace:
    if entrant.scorer == "ours":
        return FAST
    return LEARNING if entrant.engine == "kafka-streams" else SLOW


class Unprepared(RuntimeError):
    """A peer can't be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where peers are installed: a folder that is kept, so that a second run need not."""

    directory: Path

    def prepare(self, engine: str) -> None:
        """Install what an engine needs. Raises: Unprepared."""
        if engine in ("quix", "bytewax"):
            self._environment(engine)
        elif engine == "kafka-streams":
            self._jar()

    def command(self, entrant: Entrant) -> list[str]:
        if entrant.engine == "kafka-streams":
            path = f"{self._built}/job.jar:{self._built}/lib/*"
            return ["java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", path, "plimsoll.bench.Job"]
        own = entrant.engine in (*OURS, "pipe")
        python = sys.executable if own else str(self._python(entrant.engine))
        return [python, "-m", f"infra.bench.engines.{entrant.engine}"]

    @property
    def _built(self) -> Path:
        return self.directory / "kafka-streams"

    def _python(self, engine: str) -> Path:
        return self.directory / engine / "bin/python"

    def _environment(self, engine: str) -> None:
        wanted, python = ENGINES / f"{engine}.txt", self._python(engine)
        made = self.directory / engine / wanted.name
        if made.exists() and made.read_bytes() == wanted.read_bytes():
            return
        _done(engine, [sys.executable, "-m", "venv", "--clear", str(self.directory / engine)])
        quiet = ("--disable-pip-version-check", "--no-compile", "--quiet", "--only-binary", ":all:")
        _done(engine, [str(python), "-m", "pip", "install", *quiet, "-r", str(wanted)])
        shutil.copyfile(wanted, made)

    def _jar(self) -> None:
        sources = [path for path in (ENGINES / "kafka_streams").rglob("*") if path.is_file()]
        jar = self._built / "job.jar"
        if jar.exists() and jar.stat().st_mtime > max(p.stat().st_mtime for p in sources):
            return
        if shutil.which("mvn") is None:
            raise Unprepared("Maven is not installed (Debian, Ubuntu: apt install maven)")
        asked = ["mvn", "-B", "-q", "-f", str(ENGINES / "kafka_streams"), "package"]
        _done("kafka-streams", [*asked, f"-Dbench.build={self._built.absolute()}"])


def _done(engine: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unprepared(f"{engine}: {(done.stderr + done.stdout)[-600:]}")


def environment() -> dict[str, str]:
    """Ours less what would tell an engine otherwise; one thread for linear algebra."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLIMSOLL_")}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return kept | single | {"PYTHONPATH": str(ROOT)}
