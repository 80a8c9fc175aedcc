"""Platforms that carry out orders; each keeps the contract of base.py.

All are found in one place, the entry points ``plimsoll.responders``: ours by a line in
pyproject.toml, others by such a line in a package of their own. Each names a function from
the responder's settings to a Responder, loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from models.errors import ConfigurationError
from streams.responders.base import Responder

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from streams.settings import Responder as ResponderSettings

GROUP: Final = "plimsoll.responders"


def names() -> tuple[str, ...]:
    """Every platform that can be had here."""
    return tuple(sorted(entry_points(group=GROUP).names))


def platform_of(settings: ResponderSettings) -> Responder:
    """The platform that the settings name.

    Raises: ConfigurationError when there is none of that name, or two, or it cannot be
    loaded.
    """
    made = _maker(settings.platform)(settings)
    if not isinstance(made, Responder):
        raise ConfigurationError(
            f"responder {settings.platform!r} lacks what streams/responders/base.py asks for"
        )
    return made


def _maker(name: str) -> Callable[[ResponderSettings], Responder]:
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise ConfigurationError(
            f"responder platform {name!r} is not known; known are {', '.join(names()) or 'none'} "
            "(a package that was changed offers its new ones once it is installed again)"
        )
    if len(found) > 1:  # what holds a container socket is not chosen by the order of a path
        offered = " and ".join(sorted(entry.value for entry in found))
        raise ConfigurationError(
            f"responder platform {name!r} is offered twice, by {offered}: uninstall one"
        )
    try:
        maker: Callable[[ResponderSettings], Responder] = found[0].load()
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(f"responder {name!r} can't be loaded: {problem}") from problem
    return maker
