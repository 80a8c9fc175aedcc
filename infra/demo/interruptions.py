"""Ctrl-C, and what asks us to end: heard once, and never in the middle of what must be whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

R = TypeVar("R")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _Ears:
    busy: bool = False
    heard: bool = False


_EARS: Final = _Ears()


def attend() -> None:
    """Interrupt at the first signal, and hear no other: from then on all is being put back."""
    ours = os.getpid()

    def interrupted(number: int, _frame: object) -> None:
        if os.getpid() != ours:  # pyroute2 forks: its copy of us does its work, or is ended
            if number == signal.SIGTERM:
                os._exit(1)
            return
        deafen()
        if _EARS.busy:
            _EARS.heard = True
        else:
            raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, interrupted)


def deafen() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def whole(work: Callable[[], R]) -> R:
    """Do it to its end, and be interrupted after it: the engine finishes what it was asked for
    when its client is gone, and pyroute2 does not survive an interruption in good order.

    Raises: KeyboardInterrupt, once it is done.
    """
    _EARS.busy = True
    try:
        return work()
    finally:
        _EARS.busy = False
        if _EARS.heard:
            _EARS.heard = False
            raise KeyboardInterrupt
