"""What magnitudes are normal for one image in one role, and how sure we are of it.

Everything here is in the transformed unit of models/features.py. A *block* is a stretch of
about ten samples a container; each container gives one mean and one spread to it, siblings
are pooled by median, so one odd container moves nothing. Blocks wait before they teach, so
that an incident can veto them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.features import NOISE, SIZE, Array

Flags = npt.NDArray[np.bool_]

LOCATION, SCALE, BETWEEN, LASTING, BLOCKS = range(5)
"""What lies where in :attr:`Baseline.usual`."""
CLIP: Final = 4.0
"""A sample teaches at most so many scales off: a spike shorter than a block teaches little."""
SLOWEST: Final = 0.05
"""The least weight of a new block: about twenty blocks of memory."""
_STEADY: Final = 4


def _nothing() -> Array:
    return np.full(SIZE, np.nan)


def _zeros() -> Array:
    return np.zeros(SIZE)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Arrays are ``(features,)``; NaN where nothing is known of a feature.

    ``within``: how a container varies about its own level; ``between``: how the levels of
    siblings differ; ``low``, ``high``: the usual range, quick to widen and slow to narrow;
    ``lasting``: the largest departure that lasted (in scales, siblings taken out) in quiet
    blocks; ``blocks``: how many blocks spoke of each feature.
    """

    location: Array = field(default_factory=_nothing)
    within: Array = field(default_factory=_nothing)
    between: Array = field(default_factory=_zeros)
    low: Array = field(default_factory=_nothing)
    high: Array = field(default_factory=_nothing)
    lasting: Array = field(default_factory=_zeros)
    blocks: Array = field(default_factory=_zeros)
    container_blocks: float = 0.0
    scale: Array = field(init=False, repr=False, compare=False)
    """One deviation for a container whose own level is known."""
    lasting_scale: Array = field(init=False, repr=False, compare=False)
    """One deviation of what lasts, in scales."""
    most_blocks: float = field(init=False, repr=False, compare=False)
    """Of the feature that is known best."""
    usual: Array = field(init=False, repr=False, compare=False)
    """What judging asks of it, in one array: location, scale, between, lasting_scale, blocks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", self._scale())
        object.__setattr__(self, "lasting_scale", np.maximum(self.lasting / 3.0, 0.35))
        object.__setattr__(self, "most_blocks", float(self.blocks.max(initial=0.0)))
        usual = self.location, self.scale, self.between, self.lasting_scale, self.blocks
        object.__setattr__(self, "usual", np.array(usual))

    def _scale(self) -> Array:
        """Never less than the feature's relative noise (a feature that never moved borrows
        that), nor than a share of the range seen; wider while few blocks were seen.
        """
        spread = np.fmax(self.within, (self.high - self.location) / 3.5)
        spread = np.fmax(np.fmax(spread, (self.location - self.low) / 3.5), NOISE)
        return np.asarray(spread * (1.0 + 2.0 / np.maximum(self.blocks, 1.0)))

    def learned(self, blocks: int, container_blocks: int) -> float:
        """How much is known, 0 to 1, against what is asked for."""
        return min(1.0, self.most_blocks / blocks, self.container_blocks / container_blocks)

    def inherited(self) -> Baseline:
        """What a new version starts from: its predecessor's as a first guess, trust anew."""
        return replace(self, blocks=np.minimum(self.blocks, 1.0), container_blocks=0.0)


@dataclass(frozen=True, slots=True)
class Block:
    """What one block has to teach; arrays ``(features,)``, NaN where nothing was measured."""

    end_ns: int
    location: Array
    within: Array
    between: Array
    low: Array
    high: Array
    lasting: Array
    containers: int


def pooled(means: Array, spreads: Array, lows: Array, highs: Array, levels: Array,
           lasting: Array, end_ns: int) -> Block | None:  # fmt: skip  # one signature, two lines
    """One block of an image from its containers'. Shapes ``(containers, features)``.

    ``levels`` are the containers' own levels as far as known, which are taken out.
    None when no container gave anything.
    """
    if not len(means):
        return None
    own = means - levels
    location = _median(own)
    between = 1.4826 * _median(np.abs(means - location)) if len(means) > 1 else _zeros()
    return Block(
        end_ns, _single(location), _single(_median(spreads)), _single(known_or_0(between)),
        _single(_least(lows - levels)), _single(_most(highs - levels)),
        _single(known_or_0(_most(lasting))), len(means),
    )  # fmt: skip  # in the order of the class


def _single(values: Array) -> Array:
    """In single precision, which takes half the room and is more than noise deserves."""
    return values.astype(np.float32).astype(np.float64)


def known_or_0(values: Array) -> Array:
    return np.where(np.isnan(values), 0.0, values)


def _median(values: Array) -> Array:
    """Column medians that pass over NaN, silent where a column has nothing else."""
    if not np.isnan(values).any():  # what np.median gives, in a fifth of its time
        ordered, at = np.sort(values, axis=0), len(values) // 2
        middle = ordered[at] if len(values) % 2 else (ordered[at - 1] + ordered[at]) / 2.0
        return np.asarray(middle)
    empty = np.isnan(values).all(axis=0)
    middle = np.nanmedian(np.where(empty, 0.0, values), axis=0)
    return np.where(empty, np.nan, middle)


def _least(values: Array) -> Array:
    return np.asarray(np.fmin.reduce(values, axis=0))


def _most(values: Array) -> Array:
    return np.asarray(np.fmax.reduce(values, axis=0))


def fold(baseline: Baseline, block: Block) -> Baseline:
    """The baseline that has learned one more block.

    Levels move by a weight of 1/n at first and :data:`SLOWEST` later, by at most
    :data:`CLIP` scales at once. What moved between blocks counts as spread.
    """
    given = ~np.isnan(block.location)
    known = given & (baseline.blocks > 0)
    new = given & ~known
    weight = np.maximum(1.0 / (baseline.blocks + 1.0), SLOWEST)
    limit = np.where(baseline.blocks >= _STEADY, CLIP * known_or_0(baseline.scale), np.inf)
    moved = np.where(known, block.location - baseline.location, 0.0)
    moved = np.minimum(np.maximum(moved, -limit), limit)
    spread = np.where(new, 0.0, baseline.within**2 * (1 - weight))
    spread = np.sqrt(spread + weight * (block.within**2 + moved**2))
    return Baseline(
        location=_single(np.where(new, block.location, baseline.location + weight * moved)),
        within=_single(np.where(given, np.where(new, block.within, spread), baseline.within)),
        between=_single(
            np.where(known, baseline.between + weight * (block.between - baseline.between),
                     np.where(new, block.between, baseline.between))
        ),
        low=_single(-_ranged(-baseline.low, -block.low, given, known, baseline.blocks)),
        high=_single(_ranged(baseline.high, block.high, given, known, baseline.blocks)),
        lasting=_single(_ranged(baseline.lasting, block.lasting, given, given, baseline.blocks)),
        blocks=baseline.blocks + given,
        container_blocks=baseline.container_blocks + block.containers,
    )  # fmt: skip  # a table


def _ranged(edge: Array, seen: Array, given: Flags, known: Flags, blocks: Array) -> Array:
    """An upper edge: half way to what lies beyond (all the way while new), slowly back."""
    out = np.where(blocks < _STEADY, 1.0, 0.5)
    back = np.maximum(0.02, 0.5 / (blocks + 1.0))
    step = np.where(seen > edge, out, back) * (seen - edge)
    return np.where(known, edge + step, np.where(given, seen, edge))
