"""What a Kafka client says of itself, each thing once in a while.

A client tells of each broker that it can't reach at each try, some twenty times a second; who
looks at a log then wants to see the rest of it, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from confluent_kafka import KafkaError

AGAIN_S: Final = 30.0
"""The same is said again after so long: it still holds."""

log = structlog.get_logger(__name__)


class Trouble:
    """An ``error_cb`` for a client; may be called from any thread. ``clock``: steady seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said_s: dict[str, float] = {}
        self._unsaid = 0

    def __call__(self, error: KafkaError) -> None:
        kind, now_s = error.name(), self._clock()
        with self._lock:
            if now_s - self._said_s.get(kind, -AGAIN_S) < AGAIN_S:
                self._unsaid += 1
                return
            self._said_s[kind] = now_s
            unsaid, self._unsaid = self._unsaid, 0
        log.warning("kafka trouble", why=str(error), unsaid=unsaid, todo="check the brokers")
