"""Sources of telemetry: what ``plimsoll collect --source NAME`` finds.

One of ours is a file, and a line in ``SOURCES``. One of another package names itself in the
entry points ``plimsoll.sources``: there is nothing to change here then. Either is a class that
keeps base.py's contract, loaded when it is asked for, so that no source pays for another.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, cast

from models.errors import ConfigurationError
from producers.sources.base import Source

GROUP: Final = "plimsoll.sources"

SOURCES: Final = {
    "docker": "producers.sources.docker.source:DockerSource",
    "simulated": "producers.sources.simulated.source:SimulatedSource",
}


def known() -> dict[str, str]:
    """Where each source is that can be had here, by its name; nobody replaces one of ours."""
    foreign = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    return {**foreign, **SOURCES}


def load(name: str) -> type[Source]:
    """The source of that name.

    Raises: ConfigurationError when there is none, it can't be loaded, or it is none.
    """
    places = known()
    if name not in places:
        raise ConfigurationError(
            f"no source is called {name!r}; there are {', '.join(sorted(places))}"
        )
    module, _, attribute = places[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(
            f"source {name!r} ({places[name]}) can't be loaded: {problem}; "
            "install the package that offers it anew"
        ) from problem
    if not isinstance(found, Source):  # a class has all that its instances need
        raise ConfigurationError(
            f"source {name!r} ({places[name]}) lacks what producers/sources/base.py asks for"
        )
    return cast("type[Source]", found)
