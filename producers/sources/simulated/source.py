"""The simulated fleet as a source: ``plimsoll collect --source simulated``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, Self

from models.records.frame import Frame
from producers.sources.base import About, Clock
from producers.sources.simulated.fleet import Fleet

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from producers.settings import Settings

SEED: Final = 1


class SimulatedSource:
    """A quiet fleet whose time is the injected clock's."""

    about: ClassVar[About] = About(
        name="simulated",
        tells="a shop of sixteen images on three hosts that exist only in this process",
    )

    def __init__(self, clock: Clock, scope: str, interval_s: float) -> None:
        self._clock = clock
        self._scope, self._interval_s = scope, interval_s
        self.fleet = Fleet(SEED, clock())

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        return cls(clock, settings.scope, settings.collect.frame_interval_s)

    def opening(self) -> str:
        return (
            f"simulated: {len(self.fleet.hosts)} hosts, "
            f"{len(self.fleet.containers())} containers; none of them is real"
        )

    def poll(self) -> Sequence[Frame]:
        """Let the fleet catch up with the clock once a frame's interval is over."""
        passed_s = (self._clock() - self.fleet.now_ns()) / 1e9
        if passed_s < self._interval_s * 0.99:
            return []
        return [self._told(frame) for frame in self.fleet.step(passed_s)]

    def _told(self, frame: Frame) -> Frame:
        """As a collector of ours would tell it."""
        inventory = tuple(replace(entry, scope=self._scope) for entry in frame.inventory)
        return replace(frame, scope=self._scope, interval_s=self._interval_s, inventory=inventory)

    def close(self) -> None:
        """Nothing is open."""
