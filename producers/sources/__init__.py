"""Sources of telemetry: what ``plimsoll collect --source NAME`` finds.

All are found in one place, the entry points ``plimsoll.sources``: ours by a line in
pyproject.toml, others by such a line in a package of their own. Each is a class that keeps
base.py's contract, loaded when it is asked for, so that no source pays for another.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final, cast

from models.errors import ConfigurationError
from producers.sources.base import Source

GROUP: Final = "plimsoll.sources"


def names() -> tuple[str, ...]:
    """Every source that can be had here."""
    return tuple(sorted(entry_points(group=GROUP).names))


def load(name: str) -> type[Source]:
    """The source of that name.

    Raises: ConfigurationError when there is none, or two, it can't be loaded, or is none.
    """
    offered = tuple(entry_points(group=GROUP, name=name))
    if not offered:
        raise ConfigurationError(
            f"no source is called {name!r}; there are {', '.join(names()) or 'none'} "
            "(a package that was changed offers its new ones once it is installed again)"
        )
    if len(offered) > 1:  # nobody takes the place of another: it would tell a quiet fleet
        places = " and ".join(sorted(entry.value for entry in offered))
        raise ConfigurationError(f"source {name!r} is offered twice, by {places}: uninstall one")
    try:
        found = offered[0].load()
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(
            f"source {name!r} ({offered[0].value}) can't be loaded: {problem}; "
            "install the package that offers it anew"
        ) from problem
    if not isinstance(found, Source):  # a class has all that its instances need
        raise ConfigurationError(
            f"source {name!r} ({offered[0].value}) lacks what producers/sources/base.py asks for"
        )
    return cast("type[Source]", found)
