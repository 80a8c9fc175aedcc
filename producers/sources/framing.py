"""Numbered frames of one host, none of them too large for a message."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from models.records import encode
from models.records.facts import Connection, Interface, Lifecycle, Listen, Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.samples import Samples

ROWS: Final = 1_000
BYTES: Final = 250_000
"""Of observations or of inventory in one frame; a message holds a million bytes, and the
rows of a frame take up to 400,000."""
PLAIN_BYTES: Final = 500
"""No connection, open port or event takes more."""

Item = TypeVar("Item", Observation, InventoryEntry)
Row = tuple[str, int, list[float]]
"""Subject, time in ns, one value for each feature."""


class Framing:
    """One run of one collector: its frames count from 0."""

    def __init__(self, scope: str, host: str, pool: str, features: tuple[str, ...]) -> None:
        self._scope, self._host, self._pool, self._features = scope, host, pool, features
        self._producer = uuid.uuid4().hex
        self._sequence = 0

    def frames(
        self,
        at_ns: int,
        interval_s: float,
        rows: Sequence[Row] = (),
        observations: Sequence[Observation] = (),
        inventory: Sequence[InventoryEntry] = (),
    ) -> list[Frame]:
        """At least one frame, else as many as their size asks for. Inventory goes first, so
        that who reads on knows whom the samples are of.
        """
        parts: dict[str, list[Any]] = {
            "inventory": list(_pieces(inventory)),
            "samples": [self._samples(rows[at : at + ROWS]) for at in range(0, len(rows), ROWS)],
            "observations": list(_pieces(observations)),
        }
        count = max(1, *map(len, parts.values()))
        made = []
        for at in range(count):
            given = {name: pieces[at] for name, pieces in parts.items() if at < len(pieces)}
            made.append(self._frame(at_ns, interval_s, given))
        return made

    def _frame(self, at_ns: int, interval_s: float, parts: dict[str, Any]) -> Frame:
        frame = Frame(
            self._scope, self._host, self._pool, self._producer, self._sequence, at_ns, interval_s,
            **parts,
        )  # fmt: skip  # as the record orders it
        self._sequence += 1
        return frame

    def _samples(self, rows: Sequence[Row]) -> Samples:
        subjects = {subject: at for at, subject in enumerate(dict.fromkeys(r[0] for r in rows))}
        return Samples(
            self._features,
            tuple(subjects),
            np.array([subjects[subject] for subject, *_ in rows], np.int64),
            np.array([at_ns for _, at_ns, _ in rows], np.int64),
            np.ascontiguousarray(np.array([values for *_, values in rows], np.float64).T),
        )


def _pieces(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    piece: list[Item] = []
    size = 0
    for item in items:
        weight = _weight(item)
        if piece and size + weight > BYTES:
            yield tuple(piece)
            piece, size = [], 0
        piece.append(item)
        size += weight
    if piece:
        yield tuple(piece)


def _weight(item: Observation | InventoryEntry) -> int:
    """About its bytes on the wire, never less; what is common and small is not encoded twice."""
    if isinstance(item, Observation) and isinstance(
        item.fact, Connection | Interface | Lifecycle | Listen
    ):
        return PLAIN_BYTES
    return len(encode(item))
