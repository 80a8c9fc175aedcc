"""What time it is: this machine's, or what the log tells."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], int]
"""Nanoseconds since 1970, UTC."""


class LogClock:
    """The newest time that a record's timestamp told: for simulated or recorded telemetry,
    whose time does not pass as ours does.
    """

    def __init__(self) -> None:
        self._newest_ns = 0

    def __call__(self) -> int:
        return self._newest_ns

    def hear(self, time_ns: int) -> None:
        self._newest_ns = max(self._newest_ns, time_ns)
