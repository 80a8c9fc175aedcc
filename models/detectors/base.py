"""The one scale on which all detectors are compared."""

from __future__ import annotations


def score(lines: float) -> float:
    """Evidence, in lines, as 0..1: 0 nothing, one half at the line, 1 never reached.

    >>> score(0.0), score(1.0), score(3.0)
    (0.0, 0.5, 0.875)
    """
    return float(1.0 - 2.0 ** -max(lines, 0.0))
