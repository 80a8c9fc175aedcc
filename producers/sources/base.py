"""The contract of a telemetry source: asked once a sample period, it hands over frames.

A source never writes to Kafka (``producers/publish.py`` does), never reads the wall clock
(it is given one), and outlives what it watches: a container that vanishes or an engine that
falls silent is an observation, not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, runtime_checkable

from models.records.frame import Frame

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from producers.settings import Settings

Clock = Callable[[], int]
"""The time now, in ns UTC."""


@dataclass(frozen=True, slots=True)
class About:
    """What a source says of itself. ``needs`` names each right and what is lost without."""

    name: str
    tells: str
    needs: tuple[str, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Frames of one or several hosts.

    Each host's frames of one run carry one ``producer`` and count ``sequence`` from 0; the
    first ones carry the whole inventory, later ones what changed. Frames of one host follow
    each other in time. All are of the settings' scope; ``interval_s`` is nominal, the same in
    every frame, since gather joins what shares it. ``dropped`` stays 0: the publisher fills it.
    """

    about: ClassVar[About]

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        """Look around; returns also where little can be seen, and says so in ``opening``.

        Raises: ConfigurationError where the settings can't work here.
        """
        ...

    def opening(self) -> str:
        """One line for whoever starts it: what is seen, what is not and what that costs."""
        ...

    def poll(self) -> Sequence[Frame]:
        """Take one sample now; the frames that are complete with it, often none or one."""
        ...

    def close(self) -> None:
        """Let go of threads and files. Twice is the same as once."""
        ...
