"""What adds up under every rate line: bytes sent to peers that nobody else talks to.

A new partner takes over traffic that was there before, so only more than what the container
usually sends *in all* speaks against it.
"""

from __future__ import annotations

from typing import Final

LEAST_BYTES: Final = 1_000_000
"""Less than this, to one rare peer, is not worth a word."""
SHARE: Final = 1.5
_LEAST_S: Final = 60.0


def line_bytes(usual_bytes_per_s: float, lasted_s: float) -> float:
    """How much may go to one rare peer within ``lasted_s`` of its first sight.

    >>> line_bytes(0.0, 600.0), line_bytes(10_000.0, 600.0)
    (1000000.0, 10000000.0)
    """
    return LEAST_BYTES + SHARE * usual_bytes_per_s * max(lasted_s, _LEAST_S)
