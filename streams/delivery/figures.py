"""What a worker says of itself in numbers, taken in its loop once a second."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """``lag``: records of the log that were not acknowledged, by topic. ``commit_age_s``: for
    how long acknowledged events have waited for a commit. ``queued``: taken from the log and
    not acknowledged; ``owed``: sent and not confirmed by the broker.
    """

    lag: Mapping[str, int] = field(default_factory=dict)
    commit_age_s: float = 0.0
    queued: int = 0
    owed: int = 0


class Looks:
    """Looks at an app; call :meth:`look` in its loop.

    ``told`` hears the figures, ``recovered`` how long it took events from nobody: while the
    group shared out the partitions and tables were read back, to the second.
    """

    def __init__(
        self,
        app: Any,
        told: Callable[[Figures], None],
        recovered: Callable[[float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._told, self._recovered = app, told, recovered
        self._monotonic = monotonic
        self._idle_since_s: float | None = monotonic()
        self._waits_since_s: float | None = None
        self._committed: tuple[Any, ...] = ()

    def look(self, *, unready: bool) -> None:
        now_s = self._monotonic()
        if not unready and self._idle_since_s is not None:
            self._recovered(now_s - self._idle_since_s)
        self._idle_since_s = (self._idle_since_s or now_s) if unready else None
        self._told(self._figures(now_s))

    def _figures(self, now_s: float) -> Figures:
        consumer = self._app.consumer
        lag: Counter[str] = Counter()
        for tp, due in consumer.due.items():
            lag[tp.topic] += max((consumer.highwater(tp) or due) - due, 0)
        queued = len(consumer._unacked_messages)
        return Figures(lag, self._commit_age_s(now_s), queued, consumer.outbox.owed)

    def _commit_age_s(self, now_s: float) -> float:
        consumer = self._app.consumer
        committed = tuple(sorted(consumer._committed_offset.items()))
        if not any(consumer._acked.values()):
            self._waits_since_s = None
        elif self._waits_since_s is None or committed != self._committed:
            self._waits_since_s = now_s
        self._committed = committed
        return 0.0 if self._waits_since_s is None else now_s - self._waits_since_s
