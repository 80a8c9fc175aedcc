"""The Docker engine: isolate, pause, stop, redeploy; verified from the host's side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.responders.docker.engine import Engine
from streams.responders.docker.platform import Docker

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from streams.settings import Responder as ResponderSettings

__all__ = ["Docker", "make"]


def make(settings: ResponderSettings) -> Docker:
    return Docker(Engine(settings.docker_host, settings.runtime_timeout_s))
