"""When something that is done again and again is due."""

from __future__ import annotations


class Every:
    """Due at first, and whenever the interval has passed since.

    A clock that was set back makes it due at once: nothing waits for a time to come again.

    >>> each = Every(10)
    >>> [each.due(now) for now in (100, 109, 110, 50, 51)]
    [True, False, True, True, False]
    """

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._last_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether it is; it then counts as done."""
        if self._last_ns is not None and 0 <= now_ns - self._last_ns < self._interval_ns:
            return False
        self._last_ns = now_ns
        return True
