"""The collector: a source, and the publisher that takes what it sees."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from models.health import Pulse
from producers.collecting import STANDS_S, run
from producers.publish import Publisher, PublishMeters
from producers.sources import load

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from producers.settings import Settings
    from producers.sources.base import Source


def collect(settings: Settings, *, rounds: int, metrics_port: int) -> None:
    """Until SIGTERM, or until so many polls have brought frames (0: without end)."""
    stop = stopping()
    period_s = settings.collect.sample_period_s
    with source(settings) as found:
        meters = PublishMeters()
        pulse = Pulse(time.monotonic, STANDS_S + 5 * period_s)
        meters.serve(metrics_port, pulse.state)
        publisher = Publisher(settings, time.time_ns, meters)
        try:
            run(found, publisher, period_s, stop, rounds, pulse)
        finally:
            publisher.close()


def stopping() -> threading.Event:
    """Set by SIGTERM and SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def source(settings: Settings) -> Iterator[Source]:
    """The source that the settings name, once it has said what it sees."""
    found = load(settings.collect.source).open(settings, time.time_ns)
    try:
        sys.stderr.write(f"plimsoll collect: {found.opening()}\n")
        yield found
    finally:
        found.close()
