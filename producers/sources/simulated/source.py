"""The simulated fleet as a source: ``plimsoll collect --source simulated``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Self

from models.records.frame import Frame
from producers.settings import Settings
from producers.sources.base import About, Clock
from producers.sources.simulated.fleet import Fleet

SEED: Final = 1


class SimulatedSource:
    """A quiet fleet whose time is the injected clock's."""

    about: ClassVar[About] = About(
        name="simulated",
        tells="a shop of sixteen images on three hosts that exist only in this process",
    )

    def __init__(self, clock: Clock, least_s: float) -> None:
        self._clock = clock
        self._least_s = least_s
        self.fleet = Fleet(SEED, clock())

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        return cls(clock, settings.collect.frame_interval_s)

    def opening(self) -> str:
        return (
            f"simulated: {len(self.fleet.hosts)} hosts, "
            f"{len(self.fleet.containers())} containers; none of them is real"
        )

    def poll(self) -> Sequence[Frame]:
        """Let the fleet catch up with the clock once a frame's interval is over."""
        passed_s = (self._clock() - self.fleet.now_ns()) / 1e9
        return self.fleet.step(passed_s) if passed_s >= self._least_s * 0.99 else []

    def close(self) -> None:
        """Nothing is open."""
