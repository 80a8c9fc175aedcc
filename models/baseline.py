"""What magnitudes are normal for one image in one role, and how sure we are of it.

Everything here is in the transformed unit of models/features.py. A *block* is a stretch of
about ten samples a container; each container gives one mean and one spread to it, siblings
are pooled by median, so one odd container moves nothing. Blocks wait before they teach, so
that an incident can veto them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.features import NOISE, SIZE, Array

Flags = npt.NDArray[np.bool_]

LOCATION, SCALE, BETWEEN, LASTING, BLOCKS = range(5)
"""What lies where in what :func:`usual` gives."""
CLIP: Final = 4.0
"""A sample teaches at most so many scales off: a spike shorter than a block teaches little."""
SLOWEST: Final = 0.05
"""The least weight of a new block: about twenty blocks of memory."""
_STEADY: Final = 4


def _nothing() -> Array:
    return np.full(SIZE, np.nan)


def _zeros() -> Array:
    return np.zeros(SIZE)


@dataclass(frozen=True)
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

    @functools.cached_property
    def usual(self) -> Array:
        """What judging asks of it, in one array: see :func:`usual`."""
        return np.asarray(_derived(_table([self]))[0])

    @functools.cached_property
    def most_blocks(self) -> float:
        """Of the feature that is known best."""
        return float(self.blocks.max(initial=0.0))

    @property
    def scale(self) -> Array:
        """One deviation for a container whose own level is known."""
        return np.asarray(self.usual[SCALE])

    def learned(self, blocks: int, container_blocks: int) -> float:
        """How much is known, 0 to 1, against what is asked for."""
        return min(1.0, self.most_blocks / blocks, self.container_blocks / container_blocks)

    def inherited(self) -> Baseline:
        """What a new version starts from: its predecessor's as a first guess, trust anew."""
        return replace(self, blocks=np.minimum(self.blocks, 1.0), container_blocks=0.0)


_ARRAYS: Final = ("location", "within", "between", "low", "high", "lasting", "blocks")
_arrays: Final = attrgetter(*_ARRAYS)


def _table(baselines: Sequence[Baseline]) -> Array:
    """Shape (baselines, arrays, features)."""
    return np.array([_arrays(one) for one in baselines])


def usual(baselines: Sequence[Baseline]) -> Array:
    """What judging asks of baselines: location, scale, between, the scale of what lasts, and
    blocks. Shape (baselines, 5, features). Made at once where it is asked for anew.
    """
    anew = [one for one in baselines if "usual" not in vars(one)]
    if len(anew) > 1:
        for one, made in zip(anew, _derived(_table(anew)), strict=True):
            vars(one)["usual"] = made.copy()  # a slice keeps the whole alive
    return np.array([one.usual for one in baselines]).reshape(-1, 5, SIZE)


def _derived(table: Array) -> Array:
    """A scale is never less than the feature's relative noise (a feature that never moved
    borrows that), nor than a share of the range seen; wider while few blocks were seen.
    """
    location, within, between, low, high, lasting, blocks = table.swapaxes(0, 1)
    spread = np.fmax(within, (high - location) / 3.5)
    spread = np.fmax(np.fmax(spread, (location - low) / 3.5), NOISE)
    out = np.empty((len(table), 5, table.shape[2]))
    out[:, LOCATION], out[:, BETWEEN], out[:, BLOCKS] = location, between, blocks
    np.multiply(spread, 1.0 + 2.0 / np.maximum(blocks, 1.0), out=out[:, SCALE])
    np.maximum(lasting / 3.0, 0.35, out=out[:, LASTING])
    return out


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


_BLOCK: Final = _ARRAYS[:-1]
_block: Final = attrgetter(*_BLOCK)


def pooled(means: Array, spreads: Array, lows: Array, highs: Array, levels: Array,
           lasting: Array) -> Array:  # fmt: skip  # one signature, two lines
    """One block of an image from its containers'. Shapes ``(…, containers, features)``, at
    least one container, and ``lasting`` (…, features); the result ``(…, arrays, features)``, in
    the order of :class:`Block`.

    ``levels`` are the containers' own levels as far as known, which are taken out.
    """
    own = means - levels
    location = _median(own)
    between = np.zeros_like(location)
    if means.shape[-2] > 1:
        between = 1.4826 * _median(np.abs(means - location[..., None, :]))
    return _single(np.stack([
        location, _median(spreads), known_or_0(between), np.fmin.reduce(lows - levels, axis=-2),
        np.fmax.reduce(highs - levels, axis=-2), known_or_0(lasting),
    ], axis=-2))  # fmt: skip  # in the order of the class


def _single(values: Array) -> Array:
    """In single precision, which takes half the room and is more than noise deserves. A zero
    has no sign: which of two numpy finds the least is chance.
    """
    return values.astype(np.float32).astype(np.float64) + 0.0


def known_or_0(values: Array) -> Array:
    return np.where(np.isnan(values), 0.0, values)


def _median(values: Array) -> Array:
    """Medians over the last axis but one, that pass over NaN; NaN where there is nothing else."""
    void = np.isnan(values)
    ordered, count = np.sort(values, axis=-2), values.shape[-2]  # NaN comes last
    if not void.any():
        return np.asarray((ordered[..., (count - 1) // 2, :] + ordered[..., count // 2, :]) / 2.0)
    given = count - void.sum(axis=-2)
    middle = np.stack([np.maximum(given - 1, 0) // 2, given // 2 * (given > 0)], axis=-2)
    two = np.take_along_axis(ordered, middle, axis=-2)
    return np.asarray((two[..., 0, :] + two[..., 1, :]) / 2.0)


def fold(baseline: Baseline, block: Block) -> Baseline:
    """The baseline that has learned one more block."""
    return folded([baseline], [block])[0]


def folded(baselines: Sequence[Baseline], blocks: Sequence[Block]) -> list[Baseline]:
    """Baselines that have learned one more block, each its own.

    Levels move by a weight of 1/n at first and :data:`SLOWEST` later, by at most
    :data:`CLIP` scales at once. What moved between blocks counts as spread.
    """
    if not baselines:
        return []
    location, within, between, low, high, lasting, count = _table(baselines).swapaxes(0, 1)
    taught = np.array([_block(block) for block in blocks]).swapaxes(0, 1)
    seen_at, seen_within, seen_between, seen_low, seen_high, seen_lasting = taught
    given = ~np.isnan(seen_at)
    known = given & (count > 0)
    new = given & ~known
    weight = np.maximum(1.0 / (count + 1.0), SLOWEST)
    limit = np.where(count >= _STEADY, CLIP * known_or_0(usual(baselines)[:, SCALE]), np.inf)
    moved = np.where(known, seen_at - location, 0.0)
    moved = np.minimum(np.maximum(moved, -limit), limit)
    spread = np.where(new, 0.0, within**2 * (1 - weight))
    spread = np.sqrt(spread + weight * (seen_within**2 + moved**2))
    out = np.empty((len(baselines), len(_ARRAYS), location.shape[1]))
    out[:, 0] = np.where(new, seen_at, location + weight * moved)
    out[:, 1] = np.where(given, np.where(new, seen_within, spread), within)
    out[:, 2] = np.where(
        known, between + weight * (seen_between - between), np.where(new, seen_between, between)
    )
    out[:, 3] = -_ranged(-low, -seen_low, given, known, count)
    out[:, 4] = _ranged(high, seen_high, given, known, count)
    out[:, 5] = _ranged(lasting, seen_lasting, given, given, count)
    out[:, :6] = _single(out[:, :6])
    out[:, 6] = count + given
    return [
        Baseline(**_named(table), container_blocks=old.container_blocks + block.containers)
        for table, old, block in zip(out, baselines, blocks, strict=True)
    ]


def _named(table: Array) -> dict[str, Any]:
    """Arrays by name, of their own: a slice keeps the whole alive."""
    return dict(zip(_ARRAYS, table.copy(), strict=False))  # a block's are the first of them


def block_of(end_ns: int, table: Array, containers: int) -> Block:
    """A block of what :func:`pooled` gives for an image."""
    return Block(end_ns, **_named(table), containers=containers)


def _ranged(edge: Array, seen: Array, given: Flags, known: Flags, blocks: Array) -> Array:
    """An upper edge: half way to what lies beyond (all the way while new), slowly back."""
    out = np.where(blocks < _STEADY, 1.0, 0.5)
    back = np.maximum(0.02, 0.5 / (blocks + 1.0))
    step = np.where(seen > edge, out, back) * (seen - edge)
    return np.where(known, edge + step, np.where(given, seen, edge))
