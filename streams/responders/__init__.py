"""Platforms that carry out orders; each keeps the contract of base.py.

A platform of ours is a line in ``PLATFORMS``; one from another package names itself in the
entry points ``plimsoll.responders``. Either is a function from the responder's settings to
a Responder, loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from models.errors import ConfigurationError
from streams.responders.base import Responder
from streams.settings import Responder as ResponderSettings

GROUP: Final = "plimsoll.responders"

PLATFORMS: Final = {
    "docker": "streams.responders.docker:make",
}


def platform_of(settings: ResponderSettings) -> Responder:
    """The platform that the settings name.

    Raises: ConfigurationError when there is none of that name, or it cannot be loaded.
    """
    made = _maker(settings.platform)(settings)
    if not isinstance(made, Responder):
        raise ConfigurationError(
            f"responder {settings.platform!r} lacks what streams/responders/base.py asks for"
        )
    return made


def _maker(name: str) -> Callable[[ResponderSettings], Responder]:
    foreign = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    known = {**foreign, **PLATFORMS}
    if name not in known:
        raise ConfigurationError(
            f"responder platform {name!r} is not known; known are {', '.join(sorted(known))}"
        )
    module, _, attribute = known[name].partition(":")
    try:
        maker: Callable[[ResponderSettings], Responder] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(f"responder {name!r} can't be loaded: {problem}") from problem
    return maker
