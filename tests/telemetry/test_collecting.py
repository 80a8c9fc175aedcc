"""The collector's pace: a sample a period, whatever its source takes and the clock does."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import ClassVar, Self

import pytest

from models.records.frame import Frame
from producers.collecting import run
from producers.settings import Settings
from producers.sources.base import About, Clock
from tests.telemetry.builders import frame


class Slow:
    """A source that takes its time, and has nothing to tell at first."""

    about: ClassVar[About] = About("slow", "frames with nothing in them")

    def __init__(self, takes_s: float) -> None:
        self.takes_s, self.polls, self.empty = takes_s, 0, 3

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        return cls(0.0)

    def opening(self) -> str:
        return "it takes its time"

    def poll(self) -> Sequence[Frame]:
        time.sleep(self.takes_s)
        if self.empty:
            self.empty -= 1
            return []
        self.polls += 1
        return [frame(sequence=self.polls - 1)]

    def close(self) -> None:
        """Nothing is open."""


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.served = 0

    def send(self, told: Frame) -> None:
        self.frames.append(told)

    def serve(self) -> None:
        self.served += 1

    @property
    def waits(self) -> str:
        return "Kafka is away" if self.served > 3 else ""


def test_a_clock_that_is_set_back_costs_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction by an hour must not be an hour that nobody watched."""
    hours = itertools.count(10**9, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    monkeypatch.setattr(time, "time_ns", lambda: next(hours) * 10**9)
    kept = Kept()
    run(Slow(0.0), kept, 0.01, threading.Event(), rounds=5)
    assert [one.sequence for one in kept.frames] == [0, 1, 2, 3, 4]


def test_a_source_that_is_too_slow_is_polled_as_often_as_it_can_be() -> None:
    """What was missed is not made up for by samples without time between them."""
    kept, slow, begun_s = Kept(), Slow(0.05), time.monotonic()
    run(slow, kept, 0.001, threading.Event(), rounds=5)
    assert time.monotonic() - begun_s >= 8 * 0.05
    assert len(kept.frames) == slow.polls == 5
    assert kept.served >= 4, "the sink gets its turn all the same"


def test_a_source_without_a_frame_at_first_is_asked_again() -> None:
    """An interval has to pass before there is anything to tell."""
    stop, kept = threading.Event(), Kept()
    thread = threading.Thread(target=run, args=(Slow(0.0), kept, 0.01, stop))
    thread.start()
    ends_s = time.monotonic() + 60
    while not kept.frames:
        assert thread.is_alive(), "it ended by itself"
        assert time.monotonic() < ends_s
        time.sleep(0.01)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_it_ends_soon_after_it_is_told_to() -> None:
    """Whoever stops a service does not wait for an interval of hours."""
    stop, kept = threading.Event(), Kept()
    thread = threading.Thread(target=run, args=(Slow(0.0), kept, 3_600.0, stop))
    thread.start()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
