"""Polls a source once a sample period, and hands on what it saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import structlog

from models.health import Pulse
from models.records import encode
from models.records.facts import Connection
from models.records.frame import Frame
from producers.sources.base import Source

if TYPE_CHECKING:
    from rich.table import Table

log = structlog.get_logger("collect")

BREATH_S: Final = 0.2
"""How often the sink is served between two samples."""
STANDS_S: Final = 60.0
"""A poll that takes longer than this, and than five periods, is stuck."""


class Sink(Protocol):
    def send(self, frame: Frame) -> None: ...

    def serve(self) -> None: ...

    @property
    def waits(self) -> str:
        """Why frames do not get where they belong just now; empty when they do."""
        ...


def run(
    source: Source,
    sink: Sink,
    period_s: float,
    stop: threading.Event,
    rounds: int = 0,
    pulse: Pulse | None = None,
) -> None:
    """Until ``stop``, or until so many polls have brought frames (0: without end).

    A source that takes longer than the period is polled as often as it can be; missed
    samples are not made up for. The pace is a steady clock's: one that is set back by an
    hour must not cost an hour of samples.
    """
    next_s = time.monotonic()
    while not stop.is_set():
        frames = source.poll()
        for frame in frames:
            sink.send(frame)
        if pulse is not None:
            pulse.beat(sink.waits)
        if frames and rounds:
            rounds -= 1
            if rounds == 0:
                return
        next_s += period_s
        late_s = time.monotonic() - next_s
        if late_s > 0:
            log.warning("samples-missed", late_s=round(late_s, 3))
            next_s += late_s
        _wait(sink, next_s, stop)


def _wait(sink: Sink, until_s: float, stop: threading.Event) -> None:
    sink.serve()
    while (left_s := until_s - time.monotonic()) > 0 and not stop.wait(min(left_s, BREATH_S)):
        sink.serve()


class Printer:
    """Shows frames instead of sending them: as JSON lines, or as a table for people."""

    def __init__(self, write: Callable[[str], None], *, as_json: bool) -> None:
        self._write, self._as_json = write, as_json
        self._names: dict[str, tuple[str, str]] = {}

    def send(self, frame: Frame) -> None:
        if self._as_json:
            self._write(encode(frame).decode())
            return
        for entry in frame.inventory:
            self._names[entry.subject] = (entry.name, entry.lineage)
        from rich.console import Console

        console = Console(width=120)
        with console.capture() as told:
            console.print(f"frame {frame.sequence} of host {frame.host}, {frame.interval_s:.1f} s")
            console.print(self._table(frame))
            for line in _facts(frame, self._names):
                console.print(line, markup=False, highlight=False)
        self._write(told.get())

    def serve(self) -> None:
        """Nothing waits."""

    @property
    def waits(self) -> str:
        return ""

    def _table(self, frame: Frame) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("name", "lineage", "CPU", "memory", "in/s", "out/s", "opened/s", "peers",
                      "processes"):  # fmt: skip  # two lines
            table.add_column(title, justify="left" if title in ("name", "lineage") else "right")
        samples = frame.samples
        last = {int(subject): at for at, subject in enumerate(samples.index)}
        for subject, at in last.items():
            name, lineage = self._names.get(samples.subjects[subject], ("?", "?"))
            values = [samples.column(feature)[at] for feature in _SHOWN]
            table.add_row(name, lineage, *(_short(float(value)) for value in values))
        return table


_SHOWN: Final = (
    "cpu_cores",
    "memory_working_set_bytes",
    "network_receive_bytes_per_s",
    "network_transmit_bytes_per_s",
    "network_connections_opened_per_s",
    "network_peers",
    "processes",
)


def _facts(frame: Frame, names: dict[str, tuple[str, str]]) -> Iterator[str]:
    for observation in frame.observations:
        name, _ = names.get(observation.subject, (observation.subject[:12], ""))
        fact = observation.fact
        if isinstance(fact, Connection):
            way = "to" if fact.direction == "egress" else "from"
            answered = "" if fact.answered else ", no answer"
            yield (
                f"  {name}: {way} {fact.peer}:{fact.port}/{fact.protocol}, sent {fact.sent_bytes} "
                f"B, received {fact.received_bytes} B, opened {fact.opened}{answered}"
            )
        else:
            yield f"  {name}: {fact}"


def _short(value: float) -> str:
    """A number for a narrow column; a dash where nothing was measured."""
    if np.isnan(value):
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.2f}".rstrip("0").rstrip(".")
