"""When to write time itself into the log."""

from __future__ import annotations


class Ticker:
    """Whoever owns the first partition of samples tells the time to all who judge.

    A tick never runs ahead of what was read: with frames still waiting it tells the time
    of the newest one that was taken in, so that nobody takes a backlog for silence.
    """

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._last_ns = 0
        self.on_duty = False

    def due(self, horizon_ns: int) -> bool:
        """Whether a tick of this time is to be written now; it then counts as written."""
        if not self.on_duty or horizon_ns < self._last_ns + self._every_ns:
            return False
        self._last_ns = horizon_ns
        return True
