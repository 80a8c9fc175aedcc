"""Evidence from a platform into submissions: hashed, dated, kept, never in the way.

The volatile part has a second: what is not there by then is left out, and said.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

import structlog

from models.errors import PlimsollError
from models.records.order import Order, Submission
from streams.responders.base import Phase, Piece, Responder
from streams.stores.evidence import EvidenceStore

Clock = Callable[[], int]

VOLATILE_S: Final = 1.0
SLOW_S: Final = 60.0
"""Evidence that stays may take longer, but not forever."""
INLINE_BYTES: Final = 32 << 10
"""Pieces up to this size travel in the submission itself."""

log = structlog.get_logger(__name__)


class Witness:
    """``recorder`` has what others wrote about the subject; it is asked for the slow evidence.
    ``volatile_s`` is how long the evidence that vanishes may hold up an act.
    """

    def __init__(
        self,
        platform: Responder,
        store: EvidenceStore,
        clock: Clock,
        recorder: Callable[[Order], Iterator[Piece]] | None = None,
        *,
        volatile_s: float = VOLATILE_S,
    ) -> None:
        self._platform = platform
        self._store = store
        self._clock = clock
        self._recorder = recorder
        self._volatile_s = volatile_s

    def look(self, order: Order, phase: Phase) -> tuple[Submission, ...]:
        """What the platform can show of the order's subject within the phase's time."""
        within_s = self._volatile_s if phase is Phase.VOLATILE else SLOW_S
        pieces = _within(within_s, lambda: self._platform.evidence(order.subject, phase))
        recorder = self._recorder
        if phase is Phase.SLOW and recorder is not None:
            pieces = chain(pieces, _within(within_s, lambda: recorder(order)))
        return tuple(self._submitted(order, piece) for piece in pieces)

    def _submitted(self, order: Order, piece: Piece) -> Submission:
        kept = self._store.keep(order.scope, order.incident, piece.content)
        if kept.problem:
            log.error(
                "evidence lost", order=order.uid, subject=order.subject, kind=piece.kind,
                why=kept.problem, todo="make room in the evidence store; the response goes on",
            )  # fmt: skip  # pairs in lines
        inline = not piece.private and len(piece.content) <= INLINE_BYTES
        lost = f"not in the evidence store: {kept.problem}" if kept.problem else ""
        return Submission(
            kind=piece.kind,
            sha256=kept.sha256,
            size_bytes=len(piece.content),
            taken_ns=self._clock(),
            content=piece.content if inline else None,
            location=kept.location,
            detail="; ".join(part for part in (piece.detail, lost) if part),
        )


def _within(seconds: float, source: Callable[[], Iterator[Piece]]) -> Iterator[Piece]:
    """Pieces as they come, for so long. The one that is late then is abandoned: its thread
    ends with the platform's own time limit.
    """
    found: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
    enough = threading.Event()

    def gather() -> None:
        try:
            for piece in source():
                if enough.is_set():
                    return
                found.put(piece)
        except PlimsollError as problem:
            found.put(_missing(str(problem)))
        except Exception as fault:  # evidence must never stop a response
            log.exception("evidence failed")
            found.put(_missing(repr(fault)))
        finally:
            found.put(None)

    threading.Thread(target=gather, name="witness", daemon=True).start()
    ends = time.monotonic() + seconds
    while True:
        try:
            piece = found.get(timeout=max(0.0, ends - time.monotonic()))
        except queue.Empty:
            enough.set()
            yield _missing(f"the rest was not there within {seconds:g} s")
            return
        if piece is None:
            return
        yield piece


def _missing(why: str) -> Piece:
    return Piece("missing", why.encode(), detail=why[:500])
