"""Metrics, ``/healthz`` and ``/readyz`` of collector and gather, on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from models.health import State, pages


def serve(port: int, registry: CollectorRegistry, state: Callable[[], State] = State) -> None:
    """From a thread of its own, so that it answers while the part's loop stands still.

    Port 0 serves nothing. Raises: OSError when the port is taken.
    """
    if port:
        app: Any = pages(make_wsgi_app(registry), state)
        server = make_server("127.0.0.1", port, app, ThreadingWSGIServer, Silent)
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Somebody asks every few seconds."""
