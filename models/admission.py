"""Bytes of the telemetry topic → a record that may be judged, or the reason why not.

Live judging and replay admit by this one function: what one refuses the other does too.
"""

from __future__ import annotations

from collections.abc import Callable

from models.contract import KIND_HEADER, partition_of
from models.errors import MalformedRecord
from models.pipeline import check_arrival
from models.records.codec import decode
from models.records.lesson import LESSON, Lesson
from models.records.telemetry import KINDS, Telemetry, Tick

Opened = Callable[[bytes | None, int], Lesson]
"""The lesson of a signed envelope that arrived at this time (ns), once its signature holds.
Raises: MalformedRecord, and nothing else.
"""


def nobody(_value: bytes | None, _arrived_ns: int) -> Lesson:
    """Nobody's word counts. Raises: MalformedRecord."""
    raise MalformedRecord("untrusted", "nobody is trusted to teach here")


def admitted(
    kind: str, key: bytes | None, value: bytes | None, *, partition: int, partitions: int,
    arrived_ns: int, opened: Opened = nobody,
) -> Telemetry:  # fmt: skip  # two lines say as much
    """The record of a message; ``kind`` is what its header names, ``opened`` knows whose word
    counts.

    Raises: MalformedRecord, and nothing else.
    """
    record: Telemetry
    if kind == LESSON:
        record = opened(value, arrived_ns)
    elif kind in KINDS:
        record = decode(KINDS[kind], value)
    else:
        known = ", ".join((*KINDS, LESSON))
        raise MalformedRecord("unknown-schema", f"{kind!r} is none of {known}", KIND_HEADER)
    check_arrival(record, arrived_ns)
    if not isinstance(record, Tick):
        _check_place(record.group, key, partition, partitions)
    return record


def _check_place(group: str, key: bytes | None, partition: int, partitions: int) -> None:
    """Faust's and other clients' partitioners differ: a lineage must not be split."""
    if key != group.encode():
        raise MalformedRecord("misplaced", f"its key is not {group!r}", "key")
    belongs = partition_of(key, partitions)
    if partition != belongs:
        problem = f"belongs in partition {belongs}: its producer must use murmur2_random"
        raise MalformedRecord("misplaced", problem, "key")
