"""The simulated fleet as a source: each poll lets one sample period pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Self

from models.records.frame import Frame
from producers.settings import Settings
from producers.sources.base import About, Clock
from producers.sources.simulated.fleet import Fleet

SEED: Final = 1


class SimulatedSource:
    """A fleet of three hosts, the same in every run, its time begun at the clock's now."""

    about: ClassVar[About] = About(
        "simulated", "a fleet that exists only here, for showing and trying"
    )

    def __init__(self, fleet: Fleet, period_s: float) -> None:
        self._fleet, self._period_s = fleet, period_s

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        return cls(Fleet(SEED, clock()), settings.collect.sample_period_s)

    def opening(self) -> str:
        fleet = self._fleet
        return (
            f"a simulated fleet: {len(fleet.hosts)} hosts, {len(fleet.members)} containers; "
            "nothing of it is real"
        )

    def poll(self) -> Sequence[Frame]:
        return self._fleet.step(self._period_s)

    def close(self) -> None:
        """Nothing is held."""
