"""A collector on the real engine, polled until it has seen what a test waits for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from docker.models.containers import Container

from models.records.facts import Fact
from models.records.inventory import InventoryEntry
from producers.settings import load
from producers.sources.docker.source import DockerSource

F = TypeVar("F", bound=Fact)
R = TypeVar("R")

PAUSE_S = 0.2


class Collecting:
    """All that one collector told, by subject."""

    def __init__(self, directory: Path, **collect: Any) -> None:
        given = {
            "sample_period_s": PAUSE_S,
            "frame_interval_s": PAUSE_S,
            "files_interval_s": PAUSE_S,
        }
        settings = load(data_dir=directory, collect={**given, **collect})
        self.back_ns = 0
        """How far the clock was set back."""
        self.source = DockerSource.open(settings, lambda: time.time_ns() - self.back_ns)
        self.facts: dict[str, list[Fact]] = {}
        self.rows: dict[str, list[dict[str, float]]] = {}
        self.entries: dict[str, InventoryEntry] = {}
        self.sequences: list[int] = []

    def poll(self) -> None:
        for frame in self.source.poll():
            self.sequences.append(frame.sequence)
            for entry in frame.inventory:
                self.entries[entry.subject] = entry
            for observation in frame.observations:
                self.facts.setdefault(observation.subject, []).append(observation.fact)
            samples = frame.samples
            for at, index in enumerate(samples.index):
                values = dict(
                    zip(samples.features, map(float, samples.columns[:, at]), strict=True)
                )
                self.rows.setdefault(samples.subjects[index], []).append(values)

    def until(self, look: Callable[[], R | None], what: str, timeout_s: float = 30.0) -> R:
        """Poll until ``look`` finds something; fails with ``what`` after the deadline."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            self.poll()
            found = look()
            if found:
                return found
            time.sleep(PAUSE_S)
        raise AssertionError(f"not within {timeout_s:.0f} s: {what}")

    def of(self, subject: str | None, kind: type[F]) -> list[F]:
        """The facts of one kind that were told of a container."""
        return [fact for fact in self.facts.get(subject or "", []) if isinstance(fact, kind)]


def sh(container: Container, script: str) -> str:
    """Run a script in a container, to its end."""
    code, said = container.exec_run(["/bin/sh", "-c", script])
    assert code == 0, said
    assert isinstance(said, bytes)
    return said.decode()


def seen(collecting: Collecting, container: Container) -> list[dict[str, float]]:
    """Rows with rates: the first one of a container has none."""
    rows = collecting.rows.get(container.id or "", [])
    return [row for row in rows if not math.isnan(row["network_transmit_bytes_per_s"])]
