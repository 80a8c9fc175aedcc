"""What records check beyond types, in the words of the one error."""

from __future__ import annotations

from typing import Final

from models.errors import MalformedRecord

EARLIEST_NS: Final = 946_684_800 * 10**9
"""2000-01-01: no telemetry is older."""
LATEST_NS: Final = 4_102_444_800 * 10**9
"""2100-01-01: nor from later than this."""
LONGEST_NAME: Final = 512


def name(value: str, place: str, longest: int = LONGEST_NAME) -> None:
    """A name that is part of a key: present, short, without control characters."""
    if not value:
        raise MalformedRecord("missing", "must not be empty", place)
    optional_name(value, place, longest)


def optional_name(value: str, place: str, longest: int = LONGEST_NAME) -> None:
    if len(value) > longest:
        raise MalformedRecord("oversized", f"{len(value)} characters, at most {longest}", place)
    if not value.isprintable():
        raise MalformedRecord("out-of-range", "holds control characters", place)


def scope(value: str) -> None:
    """Scopes are the first part of every key, so they hold no slash."""
    name(value, "scope", 64)
    if "/" in value:
        raise MalformedRecord("out-of-range", "holds a slash", "scope")


def time(value_ns: int, place: str) -> None:
    if not EARLIEST_NS <= value_ns <= LATEST_NS:
        raise MalformedRecord("misdated", f"{value_ns} ns lies outside of 2000 to 2100", place)


def between(value: float, low: float, high: float, place: str) -> None:
    if not low <= value <= high:
        raise MalformedRecord("out-of-range", f"{value} lies outside of {low} to {high}", place)
