"""A dead letter: what could not be used, why, and enough of it to find out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from models.records import checks

MOST_KEPT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """At most 64 KB of the bytes, with length and SHA-256 of all of them. ``fault`` is one
    of models.errors.Fault; ``place`` a path into the payload.
    """

    topic: str
    partition: int
    offset: int
    fault: str
    reason: str
    place: str
    rejected_by: str
    at_ns: int
    length_bytes: int
    sha256: str
    kept: bytes
    key: bytes = b""

    def __post_init__(self) -> None:
        checks.name(self.topic, "topic")


def dead_letter(
    topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None,
    *, fault: str, reason: str, place: str, rejected_by: str, at_ns: int,
) -> DeadLetter:  # fmt: skip  # two lines read better than twelve
    """The dead letter for one record, cut to what may be kept."""
    body = value or b""
    return DeadLetter(
        topic, partition, offset, fault, reason[:2048], place[:512], rejected_by, at_ns,
        len(body), hashlib.sha256(body).hexdigest(), body[:MOST_KEPT_BYTES], (key or b"")[:1024],
    )  # fmt: skip  # one value a line tells no more
