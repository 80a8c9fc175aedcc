"""How commands are told a time: as a date, or as so long ago or from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from models.errors import ConfigurationError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\+?)(\d+(?:\.\d+)?)([smhd])")


def moment(said: str, now_ns: int) -> int:
    """A time in nanoseconds UTC.

    Raises: ConfigurationError for what is neither.

    >>> moment("2h", 7200 * 10**9), moment("+30s", 0), moment("1970-01-01T00:01:00", 0)
    (0, 30000000000, 60000000000)
    """
    if said == "now":
        return now_ns
    span = _SPAN.fullmatch(said)
    try:
        if span:
            length_ns = int(float(span[2]) * _UNITS[span[3]] * 10**9)
            return now_ns + length_ns if span[1] else now_ns - length_ns
        found = datetime.fromisoformat(said)
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000) * 10**6
    except (ValueError, OverflowError) as wrong:
        raise ConfigurationError(
            f"time {said!r}: give 2h (ago), +30s (from now), or 2026-11-25T10:00:00 (UTC)"
        ) from wrong


def clock(at_ns: int) -> str:
    """A time for a person; empty for none.

    >>> clock(60 * 10**9)
    '1970-01-01 00:01:00'
    """
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S") if at_ns else ""
