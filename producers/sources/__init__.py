"""Sources of telemetry. A new one is one file, and one line here (or an entry point of the
group ``plimsoll.sources`` in a package of its own).
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from models.errors import ConfigurationError
from producers.sources.base import Source

GROUP: Final = "plimsoll.sources"

OURS: Final = {
    "docker": "producers.sources.docker.source:DockerSource",
    "simulated": "producers.sources.simulated.source:SimulatedSource",
}
"""Imported when asked for, so that one source never pays for another."""


def names() -> tuple[str, ...]:
    """Every source that can be had here."""
    return tuple(sorted({*OURS, *(entry.name for entry in entry_points(group=GROUP))}))


def load(name: str) -> type[Source]:
    """The source of that name.

    Raises: ConfigurationError when there is none, or it can't be loaded.
    """
    if name in OURS:
        module, _, attribute = OURS[name].partition(":")
        ours: type[Source] = getattr(import_module(module), attribute)
        return ours
    for entry in entry_points(group=GROUP, name=name):
        try:
            found: type[Source] = entry.load()
        except (ImportError, AttributeError) as problem:
            raise ConfigurationError(
                f"source {name!r} ({entry.value}) can't be loaded: {problem}; "
                "install the package that offers it anew"
            ) from problem
        return found
    raise ConfigurationError(f"no source is called {name!r}; there are {', '.join(names())}")
