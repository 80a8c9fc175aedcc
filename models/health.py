"""Whether a part is alive and ready: what it notes of itself, and what is answered from that.

*Healthy* is a part that moves: what stands still longer than its patience should be started
anew. *Ready* is one that does its work now; who is not may only be waiting, and says for what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]
"""PEP 3333's application: of environment and start_response."""
HEALTHZ: Final = "/healthz"
READYZ: Final = "/readyz"


@dataclass(frozen=True, slots=True)
class State:
    """``stands``: why it should be started anew; ``waits``: why it does not work just now.
    Empty: it does not.
    """

    stands: str = ""
    waits: str = ""


class Pulse:
    """What a loop notes each time it comes round; read from any thread.

    ``clock`` is a steady one, in seconds. Before the first beat it is starting, and may take
    its time: starting it anew would not make Kafka answer.
    """

    def __init__(self, clock: Callable[[], float], patience_s: float) -> None:
        self._clock, self._patience_s = clock, patience_s
        self._moved_s: float | None = None
        self._waits = "it is starting"

    def beat(self, waits: str = "") -> None:
        """The loop has come round; ``waits`` says why nothing is done, empty: work is."""
        self._moved_s, self._waits = self._clock(), waits

    def state(self) -> State:
        still_s = 0.0 if self._moved_s is None else self._clock() - self._moved_s
        if still_s > self._patience_s:
            return State(f"its loop has not come round for {still_s:.0f} s", self._waits)
        return State(waits=self._waits)


def answered(path: str, state: State) -> tuple[int, str] | None:
    """Status and text for a page; None for a page that is not ours.

    >>> answered("/readyz", State(waits="Kafka is away"))
    (503, 'not ready: Kafka is away')
    >>> answered("/healthz", State(waits="Kafka is away"))
    (200, 'healthy')
    """
    if path == HEALTHZ:
        return (503, f"not healthy: {state.stands}") if state.stands else (200, "healthy")
    if path == READYZ:
        why = state.stands or state.waits
        return (503, f"not ready: {why}") if why else (200, "ready")
    return None


def pages(others: WSGI, state: Callable[[], State]) -> WSGI:
    """The two pages, before ``others`` (the metrics)."""

    def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = answered(environ.get("PATH_INFO", ""), state())
        if found is None:
            return others(environ, start_response)
        status, text = found
        said = {200: "200 OK", 503: "503 Service Unavailable"}[status]
        start_response(said, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    return page
