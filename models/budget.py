"""Where the line lies: from the tail of quiet blocks, for N false alarms a day.

No labels. The largest evidence of each quiet block is tracked: a high quantile by small
steps, and the mean excess beyond it; an exponential tail through both says which evidence
comes N times a day. The line stays between two bounds, so that noise can't lift it away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

QUANTILE: Final = 0.9
_STEP: Final = 0.05
_FIRST_EXCESS: Final = 0.5
_MOST_EXCESSES: Final = 4.0
"""One block moves the tail no more than that: its rise is bounded, whatever makes the noise."""
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Tail:
    """``high`` is about the :data:`QUANTILE` of block maxima, ``excess`` the mean beyond."""

    high: float = 2.5
    excess: float = _FIRST_EXCESS
    blocks: int = 0

    def after(self, peak: float) -> Tail:
        """The tail that has seen one more quiet block's largest evidence.

        Source: stochastic approximation of a quantile (Robbins and Monro, 1951), with a
        step in proportion to the excess, its unit.
        """
        step = max(_STEP, 1.0 / (self.blocks + 8)) * 2.0 * self.excess
        peak = min(peak, self.high + _MOST_EXCESSES * self.excess)
        beyond = peak > self.high
        high = self.high + step * (QUANTILE if beyond else QUANTILE - 1.0)
        excess = self.excess + _STEP * (peak - self.high - self.excess) if beyond else self.excess
        return Tail(high, max(excess, 0.1), self.blocks + 1)

    def line(self, alarms_per_day: float, block_s: float, least: float, most: float) -> float:
        """The evidence that quiet blocks reach ``alarms_per_day`` times a day.

        >>> Tail().line(1.0, 60.0, 3.0, 12.0) < Tail(excess=1.0).line(1.0, 60.0, 3.0, 12.0)
        True
        """
        per_block = max(alarms_per_day, 1e-6) * block_s / _DAY_S
        rare = math.log(max((1.0 - QUANTILE) / per_block, 1.0))
        return min(max(self.high + self.excess * rare, least), most)
