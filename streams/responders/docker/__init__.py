"""The Docker engine: isolate, pause, stop, redeploy; verified from the host's side."""

from __future__ import annotations

from streams.responders.docker.engine import Engine
from streams.responders.docker.platform import Docker
from streams.settings import Responder as ResponderSettings

__all__ = ["Docker", "make"]


def make(settings: ResponderSettings) -> Docker:
    return Docker(Engine(settings.docker_host, settings.runtime_timeout_s))
