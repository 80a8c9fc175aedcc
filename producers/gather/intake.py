"""A message of the samples topic becomes a frame, or one clear refusal. Pure."""

from __future__ import annotations

from typing import Final

from models.errors import MalformedRecord
from models.records import decode, encode
from models.records.frame import Frame
from producers.gather.incoming import Incoming

MOST_FRAME_BYTES: Final = 8 << 20
"""Of topics that take more than Kafka's million by default."""
MOST_ENTRY_BYTES: Final = 500_000
"""Of one container's inventory, which is sent on by itself."""


def read_frame(message: Incoming, most_ahead_ns: int) -> Frame:
    """The frame that a message holds; ``most_ahead_ns``: how far a host's clock may be
    ahead of the log's.

    Raises: MalformedRecord, and nothing else.
    """
    if len(message.value or b"") > MOST_FRAME_BYTES:
        raise MalformedRecord("oversized", f"more than {MOST_FRAME_BYTES} bytes")
    frame = decode(Frame, message.value)
    if message.key is not None and message.key != frame.host.encode():
        problem = f"lies under key {message.key[:80]!r}: the producer must use the host as key"
        raise MalformedRecord("misplaced", problem, "host")
    _check_dates(frame, message.arrived_ns + most_ahead_ns)
    large = len(message.value or b"") > MOST_ENTRY_BYTES / 2
    _check_inventory(frame, message.arrived_ns + most_ahead_ns, large=large)
    return frame


def _check_dates(frame: Frame, latest_ns: int) -> None:
    _check_date(frame.at_ns, latest_ns, "at_ns")
    if len(frame.samples):
        _check_date(int(frame.samples.times_ns.max()), latest_ns, "samples.times_ns")
    for at, observation in enumerate(frame.observations):
        if observation.at_ns > latest_ns:
            _check_date(observation.at_ns, latest_ns, f"observations[{at}].at_ns")


def _check_inventory(frame: Frame, latest_ns: int, *, large: bool) -> None:
    """A host tells of its own containers: of others' it could say what it likes."""
    for at, entry in enumerate(frame.inventory):
        if (entry.scope, entry.host) != (frame.scope, frame.host):
            problem = f"is of host {entry.host} in scope {entry.scope}: not of this frame's"
            raise MalformedRecord("misplaced", problem, f"inventory[{at}]")
        # Believed, it would be newer than all that is told later.
        _check_date(entry.seen_ns, latest_ns, f"inventory[{at}].seen_ns")
        if large and (size := len(encode(entry))) > MOST_ENTRY_BYTES:
            problem = f"{size} bytes, at most {MOST_ENTRY_BYTES}"
            raise MalformedRecord("oversized", problem, f"inventory[{at}]")


def _check_date(time_ns: int, latest_ns: int, place: str) -> None:
    if time_ns > latest_ns:
        ahead_s = (time_ns - latest_ns) / 1e9
        problem = f"{ahead_s:.0f} s later than a host's clock may be: set that clock right"
        raise MalformedRecord("misdated", problem, place)
